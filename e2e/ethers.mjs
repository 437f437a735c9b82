// ethers against the embedded chain.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Contract, JsonRpcProvider, Wallet, WebSocketProvider, getCreateAddress, parseEther } from "ethers";
import { check, rpcUrl } from "./check.mjs";

// Development accounts of every test chain; their keys are published. The tenth deployed the market.
const KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const DEPLOYER = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720";
const SETTLEMENT = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003";

const abi = (name) => JSON.parse(readFileSync(new URL(`../contracts/artifacts/${name}.json`, import.meta.url), "utf8")).abi;
const provider = new JsonRpcProvider(rpcUrl, undefined, { pollingInterval: 100, cacheTimeout: -1 });
const wallet = new Wallet(KEY, provider);

await check("ethers: network and blocks", async () => {
  assert.equal((await provider.getNetwork()).chainId, 31337n);
  const block = await provider.getBlock("latest");
  assert.equal((await provider.getBlock(block.hash)).number, block.number);
  assert.ok(block.baseFeePerGas > 0n);
});

await check("ethers: a transaction, waited for", async () => {
  const to = Wallet.createRandom().address;
  const receipt = await (await wallet.sendTransaction({ to, value: parseEther("0.5") })).wait();
  assert.equal(receipt.status, 1);
  assert.equal(receipt.gasUsed, 21_000n);
  assert.equal(await provider.getBalance(to), parseEther("0.5"));
  assert.equal((await receipt.getTransaction()).value, parseEther("0.5"));
});

await check("ethers: calls by the artifacts' ABI", async () => {
  const address = getCreateAddress({ from: DEPLOYER, nonce: 1 });
  const registry = new Contract(address, abi("Registry"), provider);
  const [providers, total] = await registry.getActiveProviders(0, 10);
  assert.equal(total, 5n); // three providers and two relays
  assert.equal((await registry.getProvider(providers[0])).isDeleted, false);
});

await check("ethers: events by the artifacts' ABI", async () => {
  const settlement = new Contract(SETTLEMENT, abi("BatchSettlement"), provider);
  const deposits = await settlement.queryFilter(settlement.filters.Deposited(), 0);
  assert.ok(deposits.length > 0);
  const { channelId, newBalance } = deposits[0].args;
  assert.ok(newBalance > 0n);
  assert.ok((await settlement.channels(channelId)).balance > 0n);
});

await check("ethers: a revert by its name", async () => {
  const mor = new Contract(getCreateAddress({ from: DEPLOYER, nonce: 0 }), abi("MorToken"), wallet);
  await assert.rejects(mor.transfer(DEPLOYER, 1n), (error) => error.code === "CALL_EXCEPTION");
});

await check("ethers: a WebSocket tells of blocks and of transactions", async () => {
  const socket = new WebSocketProvider(rpcUrl.replace("http", "ws"));
  try {
    const block = new Promise((resolve) => void socket.on("block", resolve));
    const pending = new Promise((resolve) => void socket.on("pending", resolve));
    assert.equal((await socket.getNetwork()).chainId, 31337n);
    const sent = await wallet.sendTransaction({ to: DEPLOYER, value: 1n });
    assert.equal(await pending, sent.hash);
    assert.equal(await block, (await sent.wait()).blockNumber);
  } finally {
    await socket.destroy();
  }
});

provider.destroy();
