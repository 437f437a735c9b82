// Why a request went, or would go, where it does: what the node tells of it, and the words for that.

import { node } from "./node.svelte";
import type { components } from "./openapi";
import type { Amount } from "./state";

type Told = components["schemas"];

export type Asked = Told["Asked"];
export type Choice = Told["Choice"];
export type Misfit = Told["Misfit"];
export type Ranked = Told["Ranked"];
export type Route = Told["Route"];
export type Terms = Told["Terms"];

/** Null: the node no longer keeps it. */
export async function ask(path: string): Promise<Route | null> {
  const response = await node.call(path);
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`the node answered with status ${response.status}`);
  return (await response.json()) as Route;
}

/** The parts of a cost, in the order in which they are drawn. */
export const PARTS = ["wait", "told", "way", "tokens", "price", "failure"] as const;

export type Part = (typeof PARTS)[number];

/** What each part comes to in base units: good enough for drawing, not for reckoning. */
export function parts(terms: Terms): Record<Part, number> {
  const times = {
    wait: terms.wait_us * (terms.running + 1),
    told: terms.told_us,
    way: terms.trip_us,
    tokens: terms.token_us * terms.output_tokens,
  };
  const all = Object.values(times).reduce((sum, part) => sum + part, 0);
  const counts = terms.sticky ? 0.3 : 1;
  const share = (part: number) => (all === 0 ? 0 : (counts * Number(terms.time) * part) / all);
  return {
    wait: share(times.wait),
    told: share(times.told),
    way: share(times.way),
    tokens: share(times.tokens),
    price: counts * Number(terms.price),
    failure: counts * Number(terms.risk),
  };
}

/** Why its cost is compared with the others'. */
export const DRAWN: Record<Ranked["drawn"], string> = {
  named: "the request names it",
  conversation: "it answered before in this conversation",
  good: "it answered lately",
  chance: "drawn by chance",
  explored: "it is new, and tried now and then",
  listed: "all offers are compared",
};

/** The words of a cost, in the order in which they are told. */
export const WORDS: [string, string][] = [
  ["cost", "What is compared; the lowest goes first. It is time, price and failure together, all as money. Nobody pays it."],
  ["time", "What the answer is expected to take, at what a second is worth to this node: wait, told, way and tokens together."],
  ["wait", "To the first token, without the way, as this node saw it lately; once more for each of its requests that the provider is answering."],
  ["told", "The queue that the provider tells of itself; it counts up to the wait at most."],
  ["way", "There and back, through the relay if there is one."],
  ["tokens", "Those that the answer is reckoned at, and how long each takes as this node saw it lately."],
  ["price", "Of the estimated tokens, as quoted. What is paid in the end is for the tokens that came."],
  ["failure", "What a request that comes to nothing is worth, times how often that is to be expected. Quality is the share of good answers, at least."],
  ["compared", "Why it is among those whose cost is compared, not why it is asked: some that answered lately, a few by chance, so that not all ask the same one."],
];

/** What came of asking one, in words. */
export function ending(asked: Asked, before: string | null): string {
  const at = `after ${asked.after_ms} ms`;
  const turns: Record<Asked["turn"], string> = {
    first: before === null ? "asked first" : "asked to go on",
    next: `asked next, ${at}`,
    beside: `asked beside one that was slow to begin, ${at}`,
  };
  const ends: Record<Asked["ending"], string> = {
    answered: { first: "it answered", next: "it took over", beside: "it was sooner and answered" }[asked.turn],
    overtaken: "another one was sooner; it was stopped",
    lost: "it began to answer and was lost",
    busy: "busy",
    failed: "failed",
    refused: "refused",
  };
  const problem = asked.problem ? `: ${asked.problem}` : "";
  return `${turns[asked.turn]}; ${ends[asked.ending]}${problem}`;
}

/** Why an offer does not fit, in words. */
export function misfit(why: Misfit, amount: (units: Amount) => string): string {
  const seconds = (ms = 0) => `${(ms / 1000).toFixed(1)} s`;
  const units = (of: Amount = "0") => amount(of);
  switch (why.reason) {
    case "unreachable":
      return "its address or key is not known";
    case "other-token":
      return "it is paid in a token that this node does not pay with";
    case "quote-expired":
      return "its quote has expired";
    case "not-sold":
      return "it does not sell this model";
    case "ignored":
      return "provider.ignore names it";
    case "not-among-only":
      return "it is not among those that are allowed by name";
    case "label":
      return `${why.demanded} is demanded, it has ${why.offered}`;
    case "price":
      return `its price ${units(why.price)} is above the cap ${units(why.cap)}`;
    case "quantization":
      return `its precision is ${why.offered}, which is not allowed`;
    case "parameter":
      return `it does not declare that it heeds ${why.parameter}`;
    case "answer-too-long":
      return `an answer of ${why.asked} tokens is asked for, it sells ${why.limit}`;
    case "request-too-long":
      return `about ${why.estimate} tokens are asked, ${why.limit} fit`;
    case "failed":
      return `it failed ${why.times} times in a row; tried again in ${seconds(why.wait_ms)}`;
    case "full":
      return "it says that it takes no request now";
    case "cardless":
      return "it does not say what exactly it offers, others do";
    case "busy":
      return `it is busy for ${seconds(why.wait_ms)} more`;
  }
}
