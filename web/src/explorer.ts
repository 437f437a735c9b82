// The chain as the node shows it: what it tells, and how that is called.

import { node } from "./node.svelte";
import type { components } from "./openapi";
import { decimal, short, type Amount, type State, type Token } from "./state";

type Told = components["schemas"];
/** A number of the chain: in hexadecimals, as it may be longer than any other. */
type Word = Told["Wei"];

export type Account = Told["Account"];
export type Argument = Told["Argument"];
export type Block = Told["Block"];
export type Channel = Told["ChannelHistory"];
export type ChannelLine = Told["ChannelLine"];
export type Decoded = Told["Decoded"];
export type Event = Told["ChainEvent"];
export type Found = Told["Found"];
export type Line = Told["TransactionLine"];
export type Registrations = Told["Registrations"];
export type Shown = Told["Shown"];
export type Transaction = Told["Transaction"];
export type Transfer = Told["Transfer"];
export type TransferLine = Told["TransferLine"];

/** Asks the node; throws what it says where it does not answer. */
export async function ask<T>(path: string, more: RequestInit = {}): Promise<T> {
  const response = await node.call(path, more);
  const body = (await response.json()) as T & { error?: { message?: string } };
  if (!response.ok) throw new Error(body.error?.message ?? `the node answered with status ${response.status}`);
  return body;
}

/** What went wrong, in words. */
export function problem(error: unknown): string {
  if (error instanceof TypeError) return "The node cannot be reached. See that it still runs, then try again.";
  const said = error instanceof Error ? error.message : String(error);
  return `${said.charAt(0).toUpperCase()}${said.slice(1)}.`;
}

/** The page that shows it. */
export const link = (name: string | number) => `#/explorer/${encodeURIComponent(name)}`;

/** Accounts and contracts by what they are, under their addresses in small letters. */
export function names(now: State): Map<string, string> {
  const known = new Map<string, string>();
  const add = (address: string, name: string) => known.set(address.toLowerCase(), name);
  for (const [address, name] of Object.entries(now.chain.known)) add(address, name);
  for (const [address, name] of Object.entries(now.names)) add(address, name);
  if (now.flows) {
    add(now.flows.wallet.account, "your wallet");
    for (const { account, provider } of now.flows.accounts) add(account, `your account for ${now.names[provider] ?? short(provider)}`);
  }
  return known;
}

/** Coins, of a number of wei. */
export const ether = (wei: Word | Amount) => `${decimal(BigInt(wei).toString(), 18, 9)} ETH`;

/** Digits in groups of three. */
export const grouped = (digits: string | number) => String(digits).replace(/\B(?=(\d{3})+$)/g, "\u202f");

export const time = (at: number) => new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** How long ago, both in seconds. */
export function ago(then: number, now: number): string {
  const gone = Math.max(0, Math.round(now - then));
  if (gone < 120) return `${gone} s ago`;
  if (gone < 7200) return `${Math.round(gone / 60)} min ago`;
  if (gone < 172_800) return `${Math.round(gone / 3600)} h ago`;
  return `${Math.round(gone / 86_400)} d ago`;
}

export const isFields = (value: Shown[] | Argument[]): value is Argument[] => {
  const first = value[0];
  return typeof first === "object" && !Array.isArray(first) && "kind" in first;
};

/** The tokens that a call or an event names. */
function named(value: Shown): string[] {
  if (typeof value === "string") return [];
  if (!isFields(value)) return value.flatMap(named);
  return value.flatMap((one) => (one.name === "token" && typeof one.value === "string" ? [one.value.toLowerCase()] : named(one.value)));
}

/** The token that the amounts of a call or an event at a contract are of: the contract itself, or the one that it names. Null: it is not said. */
export function tokenIn(called: Decoded | null, contract: string | null, now: State): Token | null {
  const known = (address: string) => now.tokens.find((token) => token.address.toLowerCase() === address.toLowerCase());
  if (called?.contract === "Registry") return known(now.token.address) ?? null;
  const [first, ...others] = named(called?.arguments ?? []);
  if (first !== undefined) return others.every((other) => other === first) ? (known(first) ?? null) : null;
  return (contract === null ? undefined : known(contract)) ?? null;
}

/** So much of a token, to the last digit. */
export const wholly = (token: Token, units: Amount) => `${decimal(units, token.decimals, 18)} ${token.symbol}`;

/** Names of arguments that are amounts of money. */
const MONEY = new Set([
  "amount", "value", "newBalance", "claimAmount", "newTotalClaimed", "totalClaimed", "maxClaimableAmount", "stake", "fee", "pricePerSecond",
]);

export const isMoney = (argument: Argument) => argument.kind.startsWith("uint") && MONEY.has(argument.name);
