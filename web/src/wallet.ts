// A wallet in the browser (MetaMask and others), as EIP-1193 has it: it is asked to send money to the node's account.
// The node learns nothing of it, and this page no key.

import type { Amount, State } from "./state";

export interface Provider {
  request(asked: { method: string; params?: unknown[] }): Promise<unknown>;
}

declare global {
  interface Window {
    ethereum?: Provider;
  }
}

/** transfer(address,uint256) */
const TRANSFER = "a9059cbb";
const WORD_DIGITS = 64;
/** What a wallet says of a chain that it does not know. */
const UNKNOWN_CHAIN = 4902;
/** Between two questions whether a transaction is in the chain, and how often it is asked. */
const LOOK_MS = 1000;
const LOOKS = 180;

/** The wallet of this browser, if it has one. */
export const injected = (): Provider | null => window.ethereum ?? null;

export const hex = (number: bigint | number): string => `0x${number.toString(16)}`;

const word = (digits: string): string => digits.padStart(WORD_DIGITS, "0");

/** The call that sends so much of a token to an account. */
export function transfer(to: string, amount: Amount): string {
  return `0x${TRANSFER}${word(to.slice(2).toLowerCase())}${word(BigInt(amount).toString(16))}`;
}

/** Units of a decimal number, or null where it is none. */
export function units(text: string, decimals: number): Amount | null {
  const read = /^(\d{1,12})(?:\.(\d{1,18}))?$/.exec(text.trim());
  const fraction = read?.[2] ?? "";
  if (!read || fraction.length > decimals) return null;
  const all = BigInt(`${read[1]}${fraction.padEnd(decimals, "0")}`);
  return all === 0n ? null : all.toString();
}

/** Sees that the wallet is on the node's chain. */
async function onChain(wallet: Provider, chain: State["chain"]): Promise<void> {
  const id = hex(chain.id);
  const now = await wallet.request({ method: "eth_chainId" });
  if (typeof now === "string" && BigInt(now) === BigInt(chain.id)) return;
  try {
    await wallet.request({ method: "wallet_switchEthereumChain", params: [{ chainId: id }] });
  } catch (error) {
    if ((error as { code?: number }).code !== UNKNOWN_CHAIN) throw error;
    if (chain.rpc_url.includes("***")) throw new Error(`add the network ${chain.network} to the wallet first, chain id ${chain.id}`);
    const coin = { name: "Ether", symbol: "ETH", decimals: 18 };
    const added = { chainId: id, chainName: `Lethe, ${chain.network}`, rpcUrls: [chain.rpc_url], nativeCurrency: coin };
    await wallet.request({ method: "wallet_addEthereumChain", params: [added] });
  }
}

/** Asks the user's wallet to send it, and waits until it is in the chain. The hash of the transaction. */
async function send(wallet: Provider, call: { to: string; data?: string; value?: string }): Promise<string> {
  const [from] = (await wallet.request({ method: "eth_requestAccounts" })) as string[];
  if (!from) throw new Error("the wallet named no account");
  const hash = (await wallet.request({ method: "eth_sendTransaction", params: [{ from, ...call }] })) as string;
  for (let look = 0; look < LOOKS; look += 1) {
    const receipt = (await wallet.request({ method: "eth_getTransactionReceipt", params: [hash] })) as { status?: string } | null;
    if (receipt) {
      if (receipt.status !== "0x1") throw new Error(`the chain refused the transaction ${hash}`);
      return hash;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  throw new Error(`the transaction ${hash} is not in the chain yet; the wallet says how it stands`);
}

/** Has the wallet send so much MOR to the node's account. */
export async function sendToken(wallet: Provider, now: State, amount: Amount): Promise<string> {
  await wallet.request({ method: "eth_requestAccounts" });
  await onChain(wallet, now.chain);
  return send(wallet, { to: now.budget.token, data: transfer(now.wallet, amount) });
}

/** The same of the chain's coins, for gas. */
export async function sendCoins(wallet: Provider, now: State, amount: Amount): Promise<string> {
  await wallet.request({ method: "eth_requestAccounts" });
  await onChain(wallet, now.chain);
  return send(wallet, { to: now.wallet, value: hex(BigInt(amount)) });
}
