// The picture of the money, as a graph: from the wallet through payer accounts and channels to the provider, or back.

import { called, span, until } from "./format";
import { short, type Amount, type Channel, type State, type TokenFlows } from "./state";

export type Side = "yours" | "theirs";

export interface FlowNode {
  id: string;
  name: string;
  /** The same below the head of its column. */
  called: string;
  /** In base units. */
  amount: bigint;
  side: Side;
  /** Which column it stands in. */
  column: number;
  note: string;
}

export interface FlowLink {
  from: string;
  to: string;
  amount: bigint;
  side: Side;
  /** When it can be had, and by whom. */
  when: string;
}

export interface Flow {
  nodes: FlowNode[];
  links: FlowLink[];
}

const less = (a: bigint, b: bigint) => (a > b ? a - b : 0n);
const most = (a: bigint, b: bigint) => (a > b ? a : b);
const least = (a: bigint, b: bigint) => (a < b ? a : b);

class Graph {
  readonly nodes = new Map<string, FlowNode>();
  readonly links: FlowLink[] = [];

  /** What flows into a node of this id is added up. */
  node(id: string, name: string, column: number, side: Side, note = "", called = name): void {
    if (!this.nodes.has(id)) this.nodes.set(id, { id, name, called, amount: 0n, side, column, note });
  }

  link(from: string, to: string, amount: bigint, side: Side, when: string): void {
    if (amount <= 0n) return;
    const node = this.nodes.get(to);
    if (node) node.amount += amount;
    const known = this.links.find((link) => link.from === from && link.to === to);
    if (known) known.amount += amount;
    else this.links.push({ from, to, amount, side, when });
  }

  /** Without nodes that nothing flows through. */
  drawn(): Flow {
    const used = new Set(this.links.flatMap(({ from, to }) => [from, to]));
    return { nodes: [...this.nodes.values()].filter(({ id }) => used.has(id)), links: this.links };
  }
}

const YOURS = "yours at any time";

/** How one token flows. `now` in seconds. */
export function flow(state: State, of: TokenFlows, now: number): Flow {
  const { wallet, accounts, channels } = of;
  const graph = new Graph();
  graph.node("wallet", "Your wallet", 0, "yours", YOURS);
  for (const account of accounts) {
    const id = account.account.toLowerCase();
    const provider = called(state.names, account.provider);
    graph.node(id, `Account for ${provider}`, 1, "yours", YOURS, provider);
    graph.node("kept", "Kept in accounts", 3, "yours", YOURS);
    graph.link("wallet", id, BigInt(account.held), "yours", YOURS);
    graph.link(id, "kept", BigInt(account.held), "yours", YOURS);
  }
  for (const channel of channels) draw(graph, channel, state, wallet.account, now);
  earned(graph, of, state);
  const drawn = graph.drawn();
  const first = drawn.nodes.find(({ id }) => id === "wallet");
  if (first) first.amount = BigInt(wallet.held);
  return drawn;
}

/** From the wallet into one channel, and what of it is free, signed, leaving or billed. */
function draw(graph: Graph, channel: Channel, state: State, wallet: string, now: number): void {
  const { config, withdrawal } = channel;
  const provider = config.receiver.toLowerCase();
  const name = called(state.names, provider);
  const id = `channel-${channel.id}`;
  const escrow = BigInt(channel.escrow);
  const delay = span(config.withdraw_delay_s);
  const asked = `yours ${delay} after you ask for it`;
  graph.node(id, `Channel to ${name}`, 2, "yours", short(channel.id), name);
  graph.node(provider, name, 3, "theirs", "billed by receipts");
  graph.node("free", "Free", 3, "yours", asked);
  graph.node("signed", "Signed ahead", 3, "yours", `for the next answers, or ${asked}`);
  graph.node("leaving", "Leaving", 3, "yours", "on its way to you");

  const payer = config.payer.toLowerCase();
  if (payer !== wallet.toLowerCase() && graph.nodes.has(payer)) {
    graph.link("wallet", payer, escrow, "yours", asked);
    graph.link(payer, id, escrow, "yours", asked);
  } else {
    graph.link("wallet", id, escrow, "yours", asked);
  }

  const claimed = BigInt(channel.claimed);
  const billed = least(escrow, most(BigInt(channel.charged), claimed));
  const rest = less(escrow, billed);
  graph.link(id, provider, billed, "theirs", "the provider's");
  if (withdrawal) {
    const leaving = least(BigInt(withdrawal.amount), rest);
    const unlocks = withdrawal.initiated_at + config.withdraw_delay_s;
    graph.link(id, "leaving", leaving, "yours", `unlocks ${until(unlocks, now)}`);
    graph.link(id, "free", less(rest, leaving), "yours", `${asked}, once the withdrawal before is finished`);
    return;
  }
  const signed = least(rest, less(BigInt(channel.ceiling), billed));
  graph.link(id, "signed", signed, "yours", `for the next answers, or ${asked}`);
  graph.link(id, "free", less(rest, signed), "yours", asked);
}

/** What became of what the providers earned on these channels. */
function earned(graph: Graph, { token, channels }: TokenFlows, state: State): void {
  const sum = (of: Channel[], amount: (channel: Channel) => Amount) => of.reduce((all, one) => all + BigInt(amount(one)), 0n);
  graph.node("owed", "Claimable", 4, "theirs", "when the provider claims it");
  graph.node("claimed", "Claimed", 4, "theirs", "when anybody settles it");
  graph.node("settled", "Settled", 4, "theirs", "in the provider's wallet");
  for (const provider of new Set(channels.map((channel) => channel.config.receiver.toLowerCase()))) {
    const own = channels.filter((channel) => channel.config.receiver.toLowerCase() === provider);
    const claimed = sum(own, (channel) => channel.claimed);
    const billed = own.reduce((all, { charged, claimed: got, escrow }) => all + least(BigInt(escrow), most(BigInt(charged), BigInt(got))), 0n);
    const seller = state.sellers.find((one) => one.provider.toLowerCase() === provider);
    const paid = seller?.paid.find((one) => one.token.toLowerCase() === token.toLowerCase());
    const waiting = paid ? least(claimed, less(BigInt(paid.claimed), BigInt(paid.settled))) : claimed;
    graph.link(provider, "owed", less(billed, claimed), "theirs", "when the provider claims it");
    graph.link(provider, "claimed", waiting, "theirs", "when anybody settles it");
    graph.link(provider, "settled", less(claimed, waiting), "theirs", "in the provider's wallet");
  }
}
