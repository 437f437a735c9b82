// The connection to the node: the key, what the node said last, and what was seen of answers since the page is open.

import { listen, WrongKey, type Answer, type State } from "./state";
import { forget, fromAddress, keep, recall } from "./vault";

const RETRY_MS = 1000;
/** Answers that are remembered for the charts. */
const SEEN_MAX = 500;

class Connection {
  /** Null: the user has to give one. Undefined: it is still looked for. */
  key = $state<string | null | undefined>(undefined);
  state = $state.raw<State | null>(null);
  /** Whether the last word from the node is of now. */
  connected = $state(false);
  problem = $state<string | null>(null);
  /** Oldest first. */
  seen = $state.raw<Answer[]>([]);
  #stop: AbortController | null = null;

  async begin(): Promise<void> {
    addEventListener("hashchange", () => {
      const given = fromAddress();
      if (given) this.open(given);
    });
    const given = fromAddress();
    if (given) return this.open(given);
    const known = await recall();
    if (known) this.open(known);
    else this.key = null;
  }

  open(key: string): void {
    this.#stop?.abort();
    this.#stop = new AbortController();
    this.key = key;
    this.problem = null;
    void keep(key);
    void this.#hear(key, this.#stop.signal);
  }

  /** Forgets key and state. */
  lock(problem: string | null = null): void {
    this.#stop?.abort();
    forget();
    this.key = null;
    this.state = null;
    this.seen = [];
    this.connected = false;
    this.problem = problem;
  }

  /** Asks the node; throws `WrongKey` where it does not know the key. */
  async call(path: string, more: RequestInit = {}): Promise<Response> {
    const headers = { authorization: `Bearer ${this.key ?? ""}`, ...more.headers };
    const response = await fetch(path, { ...more, headers });
    if (response.status === 401) throw new WrongKey();
    return response;
  }

  async #hear(key: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await listen(key, signal, (state) => this.#told(state));
        this.problem = "The node closed the connection. Trying again…";
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof WrongKey) {
          this.lock("The node does not know this key. The terminal shows the right one; it is also in the file api-key of the data folder.");
          return;
        }
        this.problem = "The node cannot be reached. See that it still runs; this page goes on by itself when it is back.";
      }
      this.connected = false;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  #told(state: State): void {
    this.state = state;
    this.connected = true;
    this.problem = null;
    const known = new Map(this.seen.map((answer) => [answer.request, answer]));
    for (const answer of state.answers) known.set(answer.request, answer);
    this.seen = [...known.values()].sort((a, b) => a.at - b.at).slice(-SEEN_MAX);
  }
}

export const node = new Connection();
