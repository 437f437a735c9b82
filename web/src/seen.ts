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

/** Of fewer tokens, or of less time between the first and the last, no speed is told: a burst has none. */
const TOKENS_FEW = 5;
const MS_FEW = 20;

/** Tokens a second while so many came in so long; null where it was too short to say. */
export function pace(tokens: number, ms: number): number | null {
  return ms < MS_FEW || tokens < TOKENS_FEW ? null : ((tokens - 1) * 1000) / ms;
}

/** Tokens a second, as the node saw them come in; null where there is nothing to tell: of a burst, and where the wire was paced. */
export function speed(answer: { token_us: number | null }): number | null {
  return answer.token_us === null ? null : 1_000_000 / answer.token_us;
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
