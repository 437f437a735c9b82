// What this node saw of answers: how soon they began, how fast they went, whether they came to their end.

import { median } from "./format";
import type { Answer } from "./state";

export interface Record {
  answers: number;
  first_token_ms: number | null;
  tokens_per_s: number | null;
  /** Share of the answers that did not fail, 0 to 1. */
  available: number | null;
}

/** Tokens a second while it spoke; null where it was too short to say. */
export function speed(answer: Answer): number | null {
  const ms = answer.duration_ms - answer.ttft_ms;
  return ms <= 0 || answer.output_tokens < 2 ? null : ((answer.output_tokens - 1) * 1000) / ms;
}

export function recordOf(answers: Answer[]): Record {
  const fine = answers.filter((answer) => answer.outcome !== "failed" && answer.outcome !== null);
  const speeds = fine.map(speed).filter((value) => value !== null);
  return {
    answers: answers.length,
    first_token_ms: median(fine.map((answer) => answer.ttft_ms)),
    tokens_per_s: median(speeds),
    available: answers.length === 0 ? null : fine.length / answers.length,
  };
}
