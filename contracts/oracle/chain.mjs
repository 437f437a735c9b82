// A chain for the scripts beside this file: anvil on a free port, with the contracts where a genesis block puts them.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { BATCH_SETTLEMENT_ADDRESS, ERC3009_DEPOSIT_COLLECTOR_ADDRESS } from "@x402/evm";
import { createTestClient, http, keccak256, publicActions, stringToBytes, walletActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { executable } from "../bin/foundry.mjs";

export const ALLOWANCE_COLLECTOR = "0x4c45544845000000000000000000000000000001";
const CALL_AGGREGATOR = "0xcA11bde05977b3631167028862bE2a173976CA11";

/** A key of these scripts only: the hash of a public word, worth nothing anywhere. */
export const key = (word) => privateKeyToAccount(keccak256(stringToBytes(`lethe test key: ${word}`)));

export const artifact = (name) => JSON.parse(readFileSync(new URL(`../artifacts/${name}.json`, import.meta.url), "utf8"));

/** Starts anvil on a free port and answers with its address once it listens. */
async function startAnvil(options) {
  const anvil = spawn(executable("anvil"), ["--port", "0", ...options], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: anvil.stdout })) {
    const listening = line.match(/Listening on (\S+)/);
    if (listening) {
      anvil.stdout.resume();
      return { url: `http://${listening[1]}`, stop: () => anvil.kill() };
    }
  }
  throw new Error("anvil ended before it listened");
}

/** Runs `story` with a client of a fresh chain whose transactions `sender` pays for, and ends the chain. */
export async function onChain(sender, story, options = []) {
  const { url, stop } = await startAnvil(options);
  try {
    const chain = createTestClient({
      chain: foundry, mode: "anvil", transport: http(url), account: sender, pollingInterval: 50,
    })
      .extend(publicActions)
      .extend(walletActions);
    await placeContracts(chain);
    await chain.setBalance({ address: sender.address, value: 10n ** 18n });
    await story(chain);
  } finally {
    stop();
  }
}

/** The state that a genesis block would have. */
async function placeContracts(chain) {
  for (const [name, address] of [
    ["BatchSettlement", BATCH_SETTLEMENT_ADDRESS],
    ["Eip3009Collector", ERC3009_DEPOSIT_COLLECTOR_ADDRESS],
    ["AllowanceCollector", ALLOWANCE_COLLECTOR],
    ["CallAggregator", CALL_AGGREGATOR],
  ]) {
    await chain.setCode({ address, bytecode: artifact(name).deployedBytecode });
  }
}

/** Creates a token whose whole supply is `holder`'s, and answers with its address. */
export async function deployToken(chain, name, owner, holder, supply) {
  const { abi, bytecode } = artifact(name);
  const hash = await chain.deployContract({ abi, bytecode, args: [owner, holder, supply] });
  return (await chain.waitForTransactionReceipt({ hash })).contractAddress;
}
