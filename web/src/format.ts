// Figures as people read them.

import { decimal, short, type Amount, type Model, type State, type Token } from "./state";

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

/** What is known of a token; of one that the node does not deal in only its address: amounts are then in base units. */
export function tokenOf(state: State, address: string): Token {
  const known = state.tokens.find((token) => token.address.toLowerCase() === address.toLowerCase());
  return known ?? { address, symbol: `units of ${short(address)}`, decimals: 0 };
}

/** Whether it makes embeddings: what is read is paid, vectors cost nothing. */
export function makesVectors(model: Model | undefined): boolean {
  return /->embeddings?$/.test(model?.card?.modality ?? "");
}

/** So much of a token, with its name. */
export function amountOf(token: Token, units: Amount, digits = 6): string {
  return `${decimal(units, token.decimals, digits)} ${token.symbol}`;
}

/** What so much is worth in dollars; nothing where nobody said. */
export function dollars(token: Token, units: Amount): string {
  const micro = worth(token, units);
  if (micro === null) return "";
  return micro === 0n && BigInt(units) > 0n ? "<$0.000001" : dollarsOf(micro);
}

/** The same in millionths of a dollar; null where nobody said. */
export function worth(token: Token, units: Amount): bigint | null {
  if (!token.usd) return null;
  const one = 10n ** BigInt(token.decimals);
  return (BigInt(units) * BigInt(token.usd.micro_usd) + one / 2n) / one;
}

/** Millionths of a dollar, as people write dollars. */
export function dollarsOf(micro: bigint): string {
  const fraction = (micro % 1_000_000n).toString().padStart(6, "0").replace(/0{1,4}$/, "");
  const whole = (micro / 1_000_000n).toString();
  // As amounts of tokens: four digits are read at a glance.
  const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, "\u202f") : whole;
  return `$${grouped}.${fraction}`;
}

/** At which rates dollars are told, in words. */
export function ratesOf(state: State): string {
  const rated = state.tokens.filter((token) => token.usd);
  const one = (token: Token) => dollars(token, (10n ** BigInt(token.decimals)).toString());
  const age = (at: number | undefined) => (at === undefined ? "" : `, ${span(Math.max(0, Math.round(Date.now() / 1000) - at))} ago`);
  return rated.map((token) => `${one(token)} for one ${token.symbol} (${token.usd?.source ?? ""}${age(token.usd?.at)})`).join(", ");
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
