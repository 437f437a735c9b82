// The first steps with a node, and what is chosen in them. The browser remembers both; what binds other programs than
// this page is said by the node's flags and its keys.

import type { Labels, State } from "./state";

const BEGUN = "lethe-begun";
const DEMAND = "lethe-demand";
const YES = "yes";

/** The better of each pair: what a question can insist on. */
export const BEST: Labels = { network: "oblivious", payer: "pseudonym", upstream: "own-engine" };

export type About = keyof Labels;

export const ABOUTS = ["network", "payer", "upstream"] as const satisfies readonly About[];

function stored(name: string): string {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return ""; // a browser that stores nothing
  }
}

function store(name: string, text: string): void {
  try {
    if (text === "") localStorage.removeItem(name);
    else localStorage.setItem(name, text);
  } catch {
    // It holds until the page is closed.
  }
}

class Begin {
  /** Whether the first steps were gone or skipped. */
  isOver = $state(stored(BEGUN) === YES);
  /** What the questions of this page insist on. */
  demanded = $state<About[]>(ABOUTS.filter((about) => stored(DEMAND).split(",").includes(about)));

  /** Whether a node that nobody has asked anything yet is to be explained. */
  isDue(now: State): boolean {
    return !this.isOver && now.answers.length === 0;
  }

  /** As the header x-lethe-demand and `lethe key add --demand` have it. */
  get demand(): string {
    return this.demanded.map((about) => `${about}=${BEST[about]}`).join(",");
  }

  get headers(): Record<string, string> {
    return this.demanded.length === 0 ? {} : { "x-lethe-demand": this.demand };
  }

  insist(about: About, does: boolean): void {
    this.demanded = ABOUTS.filter((one) => (one === about ? does : this.demanded.includes(one)));
    store(DEMAND, this.demanded.join(","));
  }

  over(): void {
    this.isOver = true;
    store(BEGUN, YES);
  }
}

export const begin = new Begin();
