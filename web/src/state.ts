// What the node tells the page, and how the page hears of it.

import { PerFrame } from "./frames";

/** What precedes an event's data. */
const DATA = "data: ";
const LINE_END = 10;
/** Between two states that are shown. The node itself tells one a second. */
const APART_MS = 100;

/** Amounts are strings of base units: 2^53 is less than one MOR. */
export type Amount = string;

export interface Part {
  name: string;
  kind: string;
  running: boolean;
  detail: string;
}

export interface Offer {
  provider: string;
  endpoint: string;
  token: string;
  rates: { input_per_million: Amount; output_per_million: Amount };
  output_tokens_max: number | null;
  upstream: string | null;
  live: boolean;
  ttft_ms: number | null;
  running: number;
  /** It says itself that it takes no request now. */
  full: boolean;
  problem: string | null;
  context_length: number | null;
  labels: Labels;
  /** Null: it says nothing of what exactly is behind the name. */
  card: string | null;
}

/** What exactly is behind a name, by its provider's word. */
export interface Card {
  repo: string;
  revision?: string;
  weights?: string;
  quantization?: string;
  context_length?: number;
  modality?: string;
  template?: string;
}

export interface Model {
  name: string;
  card: Card | null;
  /** Other names on offer that this one may be taken for. */
  look_alike_of: string[];
  offers: Offer[];
}

/** What is proved about an answer's privacy. */
export interface Labels {
  network: "direct" | "oblivious";
  payer: "wallet" | "pseudonym";
  upstream: "own-engine" | "third-party";
}

export interface Answer {
  request: string;
  model: string;
  provider: string;
  at: number;
  input_tokens: number;
  output_tokens: number;
  cost: Amount;
  /** In what. */
  token: string;
  outcome: string | null;
  ttft_ms: number;
  duration_ms: number;
  /** Null for answers of versions that had none. */
  labels: Labels | null;
  /** Under which id the node says why it came from there; null for answers of versions that had none. */
  route: string | null;
}

export interface Place {
  label: string;
  detail: string;
  kind: string;
  amount: Amount;
  since?: number;
  /** From when on it can be had, in seconds. */
  unlocks_at?: number;
  /** What moves it; the node has to be stopped first. */
  command?: string;
  /** The same without us. */
  cast?: string;
}

/** A token as the node knows it. */
export interface Token {
  address: string;
  symbol: string;
  decimals: number;
  /** What a whole one is in millionths of a dollar, and by whose word; absent where nobody said. */
  usd?: { micro_usd: number; source: string };
}

export interface Money {
  supply: Amount;
  sum: Amount;
  complete: boolean;
  /** Where places, chain and books do not agree: account and amounts. */
  problems?: string[];
  /** What is wrong around the node, as a clock that is off. */
  warnings?: string[];
  places: Place[];
  /** The same of each other token of which there is some. */
  others?: { token: Token; supply: Amount; sum: Amount; places: Place[] }[];
  /** What moves money by itself, in words. */
  policies: string[];
}

export interface Channel {
  id: string;
  config: { payer: string; receiver: string; withdraw_delay_s: number };
  /** Paid in, less what was taken back. */
  escrow: Amount;
  claimed: Amount;
  /** Signed away at most. */
  ceiling: Amount;
  /** Billed by receipts. */
  charged: Amount;
  withdrawal: { amount: Amount; initiated_at: number } | null;
}

export interface Flows {
  wallet: { account: string; held: Amount };
  accounts: { account: string; held: Amount; provider: string }[];
  channels: Channel[];
}

/** A provider of this node. */
export interface Seller {
  name: string;
  provider: string;
  endpoint: string;
  offers: {
    name: string;
    token: string;
    rates: { input_per_million: Amount; output_per_million: Amount };
    quote_expires_at: number;
    slots: number;
    running: number;
    queued: number;
    problem: string | null;
  }[];
  money: { token: string; earned: Amount; claimable: Amount; claimed: Amount }[];
  counted: Record<string, number>;
  /** On chain, over all channels. */
  claimed: Amount;
  settled: Amount;
}

/** What may go into a channel of a token. */
interface Funding {
  token: string;
  deposit: Amount;
  channel_max: Amount;
  top_up_below: Amount;
}

export interface State {
  version: string;
  demonstration: boolean;
  base_url: string;
  chain: { id: number; network: string; block: number; rpc_url: string; known: Record<string, string> };
  /** What the node may put into channels; what a command needs to find its folder, and with its chain. */
  budget: Funding & { others: Funding[]; delay_s: number; standby: boolean };
  data: string;
  flags: string;
  wallet: string;
  /** MOR. */
  token: { symbol: string; decimals: number; address: string };
  /** All that the node deals in. */
  tokens: Token[];
  parts: Part[];
  names: Record<string, string>;
  models: Model[];
  answers: Answer[];
  money: Money | null;
  /** Null while the chain does not answer. */
  flows: Flows | null;
  sellers: Seller[];
  /** What the faucet gives; null where money may be worth something. */
  faucet: { coins: Amount; mor: Amount; usd: Amount; every_s: number } | null;
}

export class WrongKey extends Error {}

/** Hears the node's state until the signal says stop, or the connection ends. */
export async function listen(key: string, signal: AbortSignal, heard: (state: State) => void): Promise<void> {
  const response = await fetch("/api/events", { headers: { authorization: `Bearer ${key}` }, signal });
  if (response.status === 401) throw new WrongKey();
  if (!response.ok || !response.body) throw new Error(`the node answered with status ${response.status}`);
  const reader = response.body.getReader();
  const events = new Events();
  // Each event is the whole state: only the last one is read, and no more often than one can see.
  const shown = new PerFrame(() => {
    const latest = events.take();
    if (latest !== null) heard(JSON.parse(latest) as State);
  }, APART_MS);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (events.push(value)) shown.ask();
    }
    if (!signal.aborted) shown.now();
  } finally {
    shown.drop();
  }
}

/** The last whole event of a stream; those before it are never decoded. */
class Events {
  /** The beginning of an event that is not whole yet. */
  #begun: Uint8Array[] = [];
  /** The pieces of the last one that is. */
  #whole: Uint8Array[] | null = null;

  /** Whether an event came to its end. */
  push(piece: Uint8Array): boolean {
    const end = piece.lastIndexOf(LINE_END);
    if (end < 0) {
      this.#begun.push(piece);
      return false;
    }
    // An event is one line and an empty one, as JSON has no line's end in it: the last line that is not empty counts.
    let last = end - 1;
    while (last >= 0 && piece[last] === LINE_END) last -= 1;
    const before = last < 0 ? -1 : piece.lastIndexOf(LINE_END, last);
    const own = piece.subarray(before + 1, last + 1);
    const line = before < 0 ? [...this.#begun, own] : [own];
    this.#begun = end + 1 < piece.length ? [piece.subarray(end + 1)] : [];
    if (!line.some((part) => part.length > 0)) return false;
    this.#whole = line;
    return true;
  }

  /** The data of the last event, once. */
  take(): string | null {
    const decoder = new TextDecoder();
    const text = this.#whole?.map((piece) => decoder.decode(piece, { stream: true })).join("") ?? "";
    this.#whole = null;
    return text.startsWith(DATA) ? text.slice(DATA.length) : null;
  }
}

/** A decimal number of whole tokens, at most `digits` after the point, never rounded to nothing. */
export function decimal(units: Amount, decimals: number, digits = 6): string {
  const padded = units.padStart(decimals + 1, "0");
  const whole = padded.slice(0, padded.length - decimals).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const fraction = padded.slice(padded.length - decimals);
  const shown = fraction.slice(0, digits).replace(/0+$/, "");
  if (shown) return `${whole}.${shown}`;
  if (whole === "0" && /[1-9]/.test(fraction)) return `0.${fraction.replace(/0+$/, "")}`;
  return whole;
}

export function short(address: string): string {
  return address.length > 12 ? `${address.slice(0, 6)}…${address.slice(-4)}` : address;
}
