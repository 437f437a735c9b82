// Figures as people read them.

import { short, type State } from "./state";

/** Which of the figures of a time are worth reading. */
export function milliseconds(ms: number): string {
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function perSecond(speed: number): string {
  return speed > 0 && speed < 10 ? speed.toFixed(1) : String(Math.round(speed));
}

/** A provider's name, or its address where it has none. */
export function called(names: State["names"], provider: string): string {
  return names[provider] ?? short(provider);
}

/** How long until then, from now, both in seconds. */
export function until(then: number, now: number): string {
  const left = Math.max(0, Math.round(then - now));
  if (left === 0) return "now";
  if (left < 120) return `in ${left} s`;
  if (left < 7200) return `in ${Math.round(left / 60)} min`;
  return `in ${Math.round(left / 3600)} h`;
}

/** A span in words. */
export function span(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export function median(of: number[]): number | null {
  if (of.length === 0) return null;
  const sorted = [...of].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}
