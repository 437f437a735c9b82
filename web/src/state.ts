// What the node tells the page, and how the page hears of it.

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
  rates: { input_per_million: Amount; output_per_million: Amount };
  output_tokens_max: number | null;
  upstream: string | null;
  live: boolean;
  ttft_ms: number | null;
  running: number;
  problem: string | null;
}

export interface Model {
  name: string;
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
}

export interface State {
  version: string;
  demonstration: boolean;
  base_url: string;
  chain: { id: number; block: number; rpc_url: string };
  token: { symbol: string; decimals: number; address: string };
  parts: Part[];
  names: Record<string, string>;
  models: Model[];
  answers: Answer[];
  money: Money | null;
}

/** The key comes with the link, behind the #, and stays in this tab. */
export function takeKey(): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem("lethe-key", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("lethe-key");
}

export function forgetKey(): void {
  sessionStorage.removeItem("lethe-key");
}

export class WrongKey extends Error {}

/** Hears the node's state until the signal says stop, or the connection ends. */
export async function listen(key: string, signal: AbortSignal, heard: (state: State) => void): Promise<void> {
  const response = await fetch("/api/events", { headers: { authorization: `Bearer ${key}` }, signal });
  if (response.status === 401) throw new WrongKey();
  if (!response.ok || !response.body) throw new Error(`the node answered with status ${response.status}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    let end: number;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const event = buffer.slice(0, end);
      buffer = buffer.slice(end + 2);
      if (event.startsWith("data: ")) heard(JSON.parse(event.slice(6)) as State);
    }
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
