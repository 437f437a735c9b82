// viem against the embedded chain, over HTTP and over a WebSocket: what a wallet or a page does with it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createPublicClient, createWalletClient, defineChain, getContractAddress, http, parseEther, webSocket } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { check, rpcUrl } from "./check.mjs";

// Development accounts of every test chain; their keys are published. The first has the treasury, the tenth deployed the market.
const TREASURY = privateKeyToAccount("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
const DEPLOYER = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720";
const TOLD_MS = 10_000;

const chain = defineChain({
  id: 31337,
  name: "Lethe demo",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [rpcUrl], webSocket: [rpcUrl.replace("http", "ws")] } },
});
const mor = {
  address: getContractAddress({ from: DEPLOYER, nonce: 0n }),
  abi: JSON.parse(readFileSync(new URL("../contracts/artifacts/MorToken.json", import.meta.url), "utf8")).abi,
};
const reader = createPublicClient({ chain, transport: http(undefined, { batch: true }), pollingInterval: 100 });
const wallet = createWalletClient({ account: TREASURY, chain, transport: http() });
const socket = createPublicClient({ chain, transport: webSocket(undefined, { reconnect: false }) });

/** The first thing that `watch` tells and that `wanted` lets pass. */
async function first(watch, wanted = () => true) {
  let stop, timer;
  try {
    return await new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`nothing was told within ${TOLD_MS} ms`)), TOLD_MS);
      stop = watch((told) => wanted(told) && resolve(told), reject);
    });
  } finally {
    clearTimeout(timer);
    stop?.();
  }
}

const give = (to, amount) => wallet.writeContract({ ...mor, functionName: "transfer", args: [to, amount] });
const stranger = () => privateKeyToAccount(generatePrivateKey()).address;
/** Gives time to the subscription: viem does not say when it is there. */
const soon = () => new Promise((resolve) => setTimeout(resolve, 300));

await check("viem: chain, fees and blocks with their transactions", async () => {
  assert.equal(await reader.getChainId(), chain.id);
  const { maxFeePerGas, maxPriorityFeePerGas } = await reader.estimateFeesPerGas();
  assert.ok(maxFeePerGas > maxPriorityFeePerGas);
  const [block, history] = await Promise.all([
    reader.getBlock({ includeTransactions: true }),
    reader.getFeeHistory({ blockCount: 4, rewardPercentiles: [25, 75] }),
  ]);
  assert.equal(block.transactions[0].blockHash, block.hash);
  assert.equal(history.baseFeePerGas.length, 5);
});

await check("viem: a contract is written, waited for, and read as it was before", async () => {
  const to = stranger();
  const hash = await give(to, 7n);
  const receipt = await reader.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  const held = (blockNumber) => reader.readContract({ ...mor, functionName: "balanceOf", args: [to], blockNumber });
  assert.equal(await held(receipt.blockNumber), 7n);
  assert.equal(await held(receipt.blockNumber - 1n), 0n);
});

await check("viem: filters tell new logs", async () => {
  const to = stranger();
  const filter = await reader.createContractEventFilter({ ...mor, eventName: "Transfer", args: { to } });
  await reader.waitForTransactionReceipt({ hash: await give(to, 5n) });
  const [log] = await reader.getFilterChanges({ filter });
  assert.equal(log.args.value, 5n);
  assert.equal(await reader.uninstallFilter({ filter }), true);
});

await check("viem: a call with the state overridden", async () => {
  const account = stranger();
  const call = { account, to: stranger(), value: parseEther("1") };
  await assert.rejects(reader.call(call), /exceeds the balance|insufficient funds/i);
  await reader.call({ ...call, stateOverride: [{ address: account, balance: parseEther("2") }] });
});

await check("viem: a WebSocket answers, and tells of blocks", async () => {
  assert.equal(await socket.getChainId(), chain.id);
  const before = await socket.getBlockNumber();
  const told = first((tell, fail) => socket.watchBlocks({ onBlock: tell, onError: fail }), (block) => block.number > before);
  await soon();
  await give(stranger(), 1n);
  const block = await told;
  assert.equal((await reader.getBlock({ blockNumber: block.number })).hash, block.hash);
});

await check("viem: a WebSocket tells of events and of transactions", async () => {
  const to = stranger();
  const log = first(
    (tell, fail) => socket.watchContractEvent({ ...mor, eventName: "Transfer", args: { to }, onLogs: tell, onError: fail }),
  );
  const hashes = [];
  const stop = socket.watchPendingTransactions({ onTransactions: (told) => hashes.push(...told) });
  await soon();
  const hash = await give(to, 9n);
  const [told] = await log;
  assert.equal(told.args.value, 9n);
  assert.equal(told.transactionHash, hash);
  await soon();
  stop();
  assert.ok(hashes.includes(hash), "the transaction was not told");
});

(await socket.transport.getRpcClient()).close();
