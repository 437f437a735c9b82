// What the node tells the page, as its OpenAPI document has it, and how the page hears of it.

import { PerFrame } from "./frames";
import type { components } from "./openapi";

/** What precedes an event's data. */
const DATA = "data: ";
const LINE_END = 10;
/** Between two states that are shown. The node itself tells one a second. */
const APART_MS = 100;

type Told = components["schemas"];

/** Amounts are strings of base units: 2^53 is less than one MOR. */
export type Amount = Told["Amount"];
export type Answer = Told["Answer"];
export type Card = Told["Card"];
export type Channel = Told["Channel"];
export type Labels = Told["Labels"];
export type Model = Told["MarketModel"];
export type Money = Told["Money"];
export type Offer = Told["Offer"];
export type Part = Told["Part"];
export type Place = Told["Place"];
export type Seller = Told["Seller"];
export type State = Told["State"];
export type Token = Told["Token"];
export type TokenFlows = Told["TokenFlows"];

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

/** A text in which addresses are shortened. */
export function shortened(text: string): string {
  return text.replace(/\b0x[0-9a-fA-F]{40}\b/g, short);
}

export function short(address: string): string {
  return address.length > 12 ? `${address.slice(0, 6)}…${address.slice(-4)}` : address;
}
