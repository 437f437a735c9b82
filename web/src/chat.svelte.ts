// A conversation with the market. It lives in this page's memory only; the gateway, at the same address, streams each
// answer, says in headers who gives it, and in the stream's last comment what it cost.

import { begin } from "./begin.svelte";
import { PerFrame } from "./frames";
import { node } from "./node.svelte";
import type { components } from "./openapi";
import { pace, speed } from "./seen";
import { WrongKey, type Amount, type Labels } from "./state";

/** What precedes the receipt in a stream. */
const RECEIPT = ": lethe ";
/** An answer may be so long, in UTF-16 units, and a line of its stream. */
const ANSWER_MAX = 1_000_000;
/** The part of a model's context that what was said before may take: the rest is for question and answer. */
const EARLIER_SHARE = 1 / 2;
/** UTF-16 units of a token, where nobody counted them. */
const TOKEN_UNITS = 3;

export type Status = "waiting" | "streaming" | "complete" | "stopped" | "failed";

export interface Problem {
  title: string;
  /** The node's words: what is wrong and what to do. */
  text: string;
  code: string;
}

export class Turn {
  readonly id = crypto.getRandomValues(new Uint32Array(2)).join("-");
  readonly model: string;
  readonly question: string;
  answer = $state("");
  status = $state<Status>("waiting");
  provider = $state<string | null>(null);
  labels = $state<Labels | null>(null);
  route = $state<string | null>(null);
  request = $state<string | null>(null);
  first_token_ms = $state<number | null>(null);
  /** Pieces that came so far; tokens, once the receipt is there. */
  tokens = $state(0);
  /** As they come in here; as the node saw it, once the receipt is there. */
  tokens_per_s = $state<number | null>(null);
  cost = $state<Amount | null>(null);
  /** In what it was paid. */
  token = $state<string | null>(null);
  problem = $state<Problem | null>(null);
  /** Which of the answers before it did not go with it. */
  without = $state<"none" | "oldest" | "all">("none");
  /** Tokens of what went with it, and of question and answer together; null: no receipt told. */
  earlier_tokens = 0;
  own_tokens: number | null = null;

  constructor(model: string, question: string) {
    this.model = model;
    this.question = question;
  }

  get isRunning(): boolean {
    return this.status === "waiting" || this.status === "streaming";
  }

  get size(): number {
    return this.own_tokens ?? Math.ceil((this.question.length + this.answer.length) / TOKEN_UNITS);
  }
}

type Receipt = components["schemas"]["Cost"];
type Chunk = components["schemas"]["ChatChunk"];

const TITLES: Record<string, string> = {
  model_not_found: "Nobody sells this model",
  model_ambiguous: "This name means several models",
  no_provider: "No provider is there right now",
  providers_busy: "All providers are busy",
  answer_too_long: "Nobody sells an answer so long",
  model_refused: "The provider refused the request",
  payment_failed: "The payment did not go through",
  journal_failed: "The node cannot write its journal",
  chain_unreachable: "The chain cannot be reached",
  provider_failed: "The provider failed",
  path_failed: "The provider was not reached",
  demand_not_met: "Nobody meets what is demanded",
  preferences_not_met: "Nobody meets the preferences",
  overloaded: "The node is full",
  stopping: "The node is stopping",
};

class Conversation {
  turns = $state<Turn[]>([]);
  draft = $state("");
  /** Which model is asked; empty: the first that is live. */
  model = $state("");
  /** Whether a question goes with what was said before. */
  remembers = $state(true);
  #running: AbortController | null = null;
  /** Answers at the beginning that the model has no room for any more. */
  #leftOut = 0;

  get running(): Turn | null {
    const last = this.turns.at(-1);
    return last?.isRunning ? last : null;
  }

  clear(): void {
    this.stop();
    this.turns = [];
    this.#leftOut = 0;
  }

  stop(): void {
    this.#running?.abort();
  }

  /** Asks once more what failed or was stopped. */
  again(turn: Turn): void {
    if (this.running) return;
    this.turns = this.turns.filter((other) => other !== turn);
    void this.send(turn.model, turn.question);
  }

  /** Takes a question back into the box, to be asked otherwise. */
  reword(turn: Turn): void {
    if (this.running) return;
    this.turns = this.turns.filter((other) => other !== turn);
    this.draft = turn.question;
  }

  async send(model: string, question: string): Promise<void> {
    if (this.running) return;
    const answered = this.turns.filter((turn) => turn.answer !== "");
    this.turns.push(new Turn(model, question));
    const turn = this.turns.at(-1) as Turn;
    const running = new AbortController();
    this.#running = running;
    try {
      await this.#fit(turn, answered, running.signal);
    } catch (error) {
      if (running.signal.aborted) {
        turn.status = "stopped";
      } else {
        turn.status = "failed";
        turn.problem ??= wording(error);
        if (error instanceof WrongKey) node.lock("The node does not know this key any more.");
      }
    } finally {
      // Whatever ended it, nothing goes on behind it.
      running.abort();
    }
  }

  /** What goes with a question: the latest that the model has room for. */
  #earlier(model: string, answered: Turn[]): Turn[] {
    if (!this.remembers) return [];
    const context = node.state?.models.find((one) => one.name === model)?.card?.context_length ?? Infinity;
    const kept = answered.slice(this.#leftOut);
    while (kept.length > 0 && sizes(kept) > context * EARLIER_SHARE) {
      kept.shift();
      this.#leftOut += 1;
    }
    return kept;
  }

  /** Asks with what was said before. Where that is too much all the same, its older half is left out until the rest fits. */
  async #fit(turn: Turn, answered: Turn[], signal: AbortSignal): Promise<void> {
    for (;;) {
      const earlier = this.#earlier(turn.model, answered);
      turn.earlier_tokens = sizes(earlier);
      turn.without = earlier.length === answered.length ? "none" : earlier.length === 0 ? "all" : "oldest";
      const before = earlier.flatMap((one) => [said("user", one.question), said("assistant", one.answer)]);
      try {
        return await this.#stream(turn, [...before, said("user", turn.question)], signal);
      } catch (error) {
        if (!isTooLong(turn.problem) || earlier.length === 0) throw error;
        turn.problem = null;
        this.#leftOut += Math.ceil(earlier.length / 2);
      }
    }
  }

  async #stream(turn: Turn, messages: object[], signal: AbortSignal): Promise<void> {
    const started = performance.now();
    const response = await node.call("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json", ...begin.headers },
      body: JSON.stringify({ model: turn.model, stream: true, messages }),
      signal,
    });
    if (!response.ok || !response.body) {
      turn.problem = await refusal(response);
      throw new Error(turn.problem.title);
    }
    turn.provider = response.headers.get("x-lethe-provider")?.toLowerCase() ?? null;
    turn.request = response.headers.get("x-lethe-request");
    turn.route = response.headers.get("x-lethe-route");
    turn.labels = labels(response.headers.get("x-lethe-labels"));
    let isDone = false;
    let first = 0;
    // A fast answer brings many pieces a frame: they are shown together.
    let [text, pieces, last] = ["", 0, 0];
    const shown = new PerFrame(() => {
      if (pieces === 0) return;
      turn.answer += text;
      turn.tokens += pieces;
      turn.tokens_per_s = pace(turn.tokens, last - first);
      [text, pieces] = ["", 0];
    });
    try {
      for await (const line of lines(response.body)) {
        if (line.startsWith(RECEIPT)) {
          shown.now();
          settle(turn, JSON.parse(line.slice(RECEIPT.length)) as Receipt);
        } else if (line === "data: [DONE]") {
          isDone = true;
        } else if (line.startsWith("data: ")) {
          const more = piece(turn, line.slice(6));
          if (!more) continue;
          last = performance.now();
          if (turn.first_token_ms === null) {
            first = last;
            turn.first_token_ms = Math.round(last - started);
            turn.status = "streaming";
          }
          if (turn.answer.length + text.length + more.length > ANSWER_MAX) throw new Error("the answer is longer than this page can show");
          text += more;
          pieces += 1;
          shown.ask();
        }
      }
    } finally {
      shown.now();
    }
    if (!isDone) throw new Error("the answer broke off");
    turn.status = "complete";
  }
}

export const conversation = new Conversation();

function said(role: "user" | "assistant", content: string): object {
  return { role, content };
}

const sizes = (turns: Turn[]) => turns.reduce((sum, turn) => sum + turn.size, 0);

/** Whether a request did not fit into the model's context. */
function isTooLong(problem: Problem | null): boolean {
  return problem?.code === "model_refused" && problem.text.includes("context");
}

function settle(turn: Turn, receipt: Receipt): void {
  turn.provider = receipt.provider.toLowerCase();
  turn.tokens = receipt.output_tokens;
  turn.own_tokens = Math.max(0, receipt.input_tokens - turn.earlier_tokens) + receipt.output_tokens;
  // What the node measured, as everywhere else on this page: to here it may have come in a burst.
  turn.first_token_ms = receipt.ttft_ms;
  turn.tokens_per_s = speed(receipt);
  [turn.cost, turn.token] = [receipt.cost, receipt.token];
  turn.labels = receipt.labels;
}

/** The text in a chunk. An error in the stream is thrown. */
function piece(turn: Turn, json: string): string {
  const chunk = JSON.parse(json) as Chunk;
  if (chunk.error) {
    turn.problem = worded(chunk.error.code ?? "", chunk.error.message ?? "");
    throw new Error(turn.problem.title);
  }
  const content = chunk.choices?.[0]?.delta?.content;
  return typeof content === "string" ? content : "";
}

/** `network=oblivious,payer=pseudonym,upstream=own-engine` */
function labels(header: string | null): Labels | null {
  if (!header) return null;
  return Object.fromEntries(header.split(",").map((label) => label.split("="))) as Labels;
}

async function refusal(response: Response): Promise<Problem> {
  try {
    const body = (await response.json()) as Chunk;
    return worded(body.error?.code ?? "", body.error?.message ?? "");
  } catch {
    return worded("", `The node answered with status ${response.status}. Try again; if it stays so, its log says why.`);
  }
}

function worded(code: string, text: string): Problem {
  const title = TITLES[code] ?? "The answer could not be had";
  // What the title says is not said again.
  const isTold = text.toLowerCase().startsWith(`${title.toLowerCase()}: `);
  const rest = isTold ? text.slice(title.length + 2) : text;
  const sentence = rest ? `${rest.charAt(0).toUpperCase()}${rest.slice(1)}` : "Try again.";
  return { code, title, text: /[.!?]$/.test(sentence) ? sentence : `${sentence}.` };
}

function wording(error: unknown): Problem {
  if (error instanceof WrongKey) return worded("", "The node does not know this key; open the page again by the link on the terminal.");
  if (error instanceof TypeError) return worded("", "The node cannot be reached. See that it still runs, then try again.");
  const words = error instanceof Error ? error.message : "";
  return worded("", words ? `${words}; try again` : "");
}

/** The lines of a stream of events. */
async function* lines(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    const complete = buffer.split("\n");
    buffer = complete.pop() ?? "";
    if (buffer.length > ANSWER_MAX) throw new Error("a line of the stream is longer than this page can read");
    for (const line of complete) yield line.endsWith("\r") ? line.slice(0, -1) : line;
  }
}
