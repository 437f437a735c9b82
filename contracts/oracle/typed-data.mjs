// Writes vectors.json: channel ids, digests and signatures as the public JavaScript client computes them. The Solidity
// tests and the Rust crates read the file, so all three agree byte for byte. With --check it only compares.
//
// The client's own functions are called where it exports them (channel id, voucher, EIP-3009 deposit); else its exported
// type definitions are hashed by viem. Only the allowance collector is ours, hence described here.

import { readFileSync, writeFileSync } from "node:fs";
import {
  BATCH_SETTLEMENT_ADDRESS,
  BATCH_SETTLEMENT_DOMAIN,
  ERC3009_DEPOSIT_COLLECTOR_ADDRESS,
  claimBatchTypes,
  refundTypes,
  voucherTypes,
} from "@x402/evm";
import {
  computeChannelId,
  createBatchSettlementEIP3009DepositPayload,
  signVoucher,
} from "@x402/evm/batch-settlement/client";
import { encodeAbiParameters, hashTypedData, keccak256, parseAbiParameters, stringToBytes, zeroAddress } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const ALLOWANCE_COLLECTOR = "0x4c45544845000000000000000000000000000001";
const UINT128_MAX = 2n ** 128n - 1n;
const UINT256_MAX = 2n ** 256n - 1n;
const NOW_S = 1_800_000_000; // the fixed time at which the vectors were "signed"

// Keys of this file only: hashes of public words, worth nothing anywhere.
const keys = Object.fromEntries(
  ["payer", "payerAuthorizer", "receiver", "receiverAuthorizer"].map((role) => {
    const privateKey = keccak256(stringToBytes(`lethe test key: ${role}`));
    return [role, { privateKey, account: privateKeyToAccount(privateKey) }];
  }),
);
const address = (role) => keys[role].account.address;

const usd = { address: "0x0000000000000000000000000000000000000d01", name: "Development Dollar", version: "1" };
const mor = { address: "0x0000000000000000000000000000000000000d02" };

const configs = {
  "a hot key signs for the payer": {
    payer: address("payer"),
    payerAuthorizer: address("payerAuthorizer"),
    receiver: address("receiver"),
    receiverAuthorizer: address("receiverAuthorizer"),
    token: usd.address,
    withdrawDelay: 900,
    salt: `0x${"00".repeat(32)}`,
  },
  "the payer signs itself": {
    payer: address("payer"),
    payerAuthorizer: zeroAddress,
    receiver: address("receiver"),
    receiverAuthorizer: address("receiverAuthorizer"),
    token: usd.address,
    withdrawDelay: 2_592_000,
    salt: `0x${"ff".repeat(32)}`,
  },
  "the receiver authorises itself": {
    payer: address("payer"),
    payerAuthorizer: address("payer"),
    receiver: address("receiverAuthorizer"),
    receiverAuthorizer: address("receiverAuthorizer"),
    token: mor.address,
    withdrawDelay: 86_400,
    salt: keccak256(stringToBytes("lethe test salt")),
  },
};

const domain = (chainId) => ({ ...BATCH_SETTLEMENT_DOMAIN, chainId, verifyingContract: BATCH_SETTLEMENT_ADDRESS });

const voucherSigner = (config) => (config.payerAuthorizer === zeroAddress ? keys.payer : keyOf(config.payerAuthorizer));
const keyOf = (wanted) => Object.values(keys).find((key) => key.account.address === wanted);

async function voucher(chainId, channelId, config, amount) {
  const message = { channelId, maxClaimableAmount: amount };
  const typed = { domain: domain(chainId), types: voucherTypes, primaryType: "Voucher", message };
  const signer = voucherSigner(config).account;
  const { signature } = await signVoucher(signer, channelId, amount.toString(), `eip155:${chainId}`);
  return { maxClaimableAmount: amount.toString(), digest: hashTypedData(typed), signer: signer.address, signature };
}

async function refund(chainId, channelId, nonce, amount) {
  const message = { channelId, nonce, amount };
  const typed = { domain: domain(chainId), types: refundTypes, primaryType: "Refund", message };
  const signature = await keys.receiverAuthorizer.account.signTypedData(typed);
  return { nonce: nonce.toString(), amount: amount.toString(), digest: hashTypedData(typed), signature };
}

async function claimBatch(chainId, rows) {
  const message = { claims: rows.map(({ channelId, ...row }) => ({ channelId, ...row })) };
  const typed = { domain: domain(chainId), types: claimBatchTypes, primaryType: "ClaimBatch", message };
  const signature = await keys.receiverAuthorizer.account.signTypedData(typed);
  const claims = rows.map((row) => ({
    channelId: row.channelId,
    maxClaimableAmount: row.maxClaimableAmount.toString(),
    totalClaimed: row.totalClaimed.toString(),
  }));
  return { claims, digest: hashTypedData(typed), signature };
}

/** The public client draws a random salt and reads the clock: both are fixed while it runs. */
async function eip3009Deposit(chainId, config, amount) {
  const realNow = Date.now;
  const realRandom = globalThis.crypto.getRandomValues;
  Date.now = () => NOW_S * 1000;
  globalThis.crypto.getRandomValues = (array) => array.fill(0x5a);
  try {
    const signed = [];
    const { account } = keys.payer;
    const signer = {
      address: account.address,
      signTypedData: (typed) => (signed.push(typed), account.signTypedData(typed)),
    };
    const requirements = { network: `eip155:${chainId}`, asset: usd.address, extra: usd, maxTimeoutSeconds: 600 };
    const made = await createBatchSettlementEIP3009DepositPayload(
      signer, 2, requirements, config, amount.toString(), amount.toString(), keyOf(config.payerAuthorizer)?.account,
    );
    const { validAfter, validBefore, salt, signature } = made.payload.deposit.authorization.erc3009Authorization;
    const authorization = signed.find((typed) => typed.primaryType === "ReceiveWithAuthorization");
    return {
      amount: amount.toString(),
      tokenName: usd.name,
      tokenVersion: usd.version,
      validAfter,
      validBefore,
      salt: BigInt(salt).toString(),
      nonce: authorization.message.nonce,
      digest: hashTypedData(authorization),
      signature,
      collectorData: encodeAbiParameters(
        parseAbiParameters("uint256, uint256, uint256, bytes"),
        [BigInt(validAfter), BigInt(validBefore), BigInt(salt), signature],
      ),
    };
  } finally {
    Date.now = realNow;
    globalThis.crypto.getRandomValues = realRandom;
  }
}

async function allowanceDeposit(chainId, channelId, token, amount, nonce, deadline) {
  const typed = {
    domain: { name: "Lethe Allowance Collector", version: "1", chainId, verifyingContract: ALLOWANCE_COLLECTOR },
    types: {
      AllowanceDeposit: [
        { name: "channelId", type: "bytes32" },
        { name: "token", type: "address" },
        { name: "amount", type: "uint128" },
        { name: "nonce", type: "uint256" },
        { name: "deadline", type: "uint256" },
      ],
    },
    primaryType: "AllowanceDeposit",
    message: { channelId, token, amount, nonce, deadline },
  };
  const signature = await keys.payer.account.signTypedData(typed);
  return {
    amount: amount.toString(),
    nonce: nonce.toString(),
    deadline: deadline.toString(),
    digest: hashTypedData(typed),
    signature,
    collectorData: encodeAbiParameters(parseAbiParameters("uint256, uint256, bytes"), [nonce, deadline, signature]),
  };
}

async function channel(chainId, name, config) {
  const channelId = computeChannelId(config, chainId);
  const deadline = BigInt(NOW_S + 600);
  return {
    name,
    config,
    channelId,
    vouchers: [
      await voucher(chainId, channelId, config, 1n),
      await voucher(chainId, channelId, config, 1_000_000n),
      await voucher(chainId, channelId, config, UINT128_MAX),
    ],
    refunds: [
      await refund(chainId, channelId, 0n, 1n),
      await refund(chainId, channelId, UINT256_MAX, UINT128_MAX),
    ],
    eip3009Deposits: config.token === usd.address ? [await eip3009Deposit(chainId, config, 5_000_000n)] : [],
    allowanceDeposits: [
      await allowanceDeposit(chainId, channelId, config.token, 5_000_000n, 0n, deadline),
      await allowanceDeposit(chainId, channelId, config.token, UINT128_MAX, UINT256_MAX, UINT256_MAX),
    ],
  };
}

async function chain(chainId) {
  const channels = [];
  for (const [name, config] of Object.entries(configs)) channels.push(await channel(chainId, name, config));
  const rows = channels.map(({ channelId }, index) => ({
    channelId,
    maxClaimableAmount: 1_000_000n,
    totalClaimed: 250_000n * BigInt(index + 1),
  }));
  const claimBatches = [
    await claimBatch(chainId, []),
    await claimBatch(chainId, rows.slice(0, 1)),
    await claimBatch(chainId, rows),
  ];
  return { chainId, channels, claimBatches };
}

const vectors = {
  settlement: BATCH_SETTLEMENT_ADDRESS,
  eip3009Collector: ERC3009_DEPOSIT_COLLECTOR_ADDRESS,
  allowanceCollector: ALLOWANCE_COLLECTOR,
  signedAt: NOW_S,
  keys: Object.fromEntries(
    Object.entries(keys).map(([role, key]) => [role, { privateKey: key.privateKey, address: key.account.address }]),
  ),
  chains: [await chain(31337), await chain(42161)],
};

const path = new URL("vectors.json", import.meta.url);
const fresh = `${JSON.stringify(vectors, null, 1)}\n`;
if (!process.argv.includes("--check")) {
  writeFileSync(path, fresh);
} else if (readFileSync(path, "utf8") !== fresh) {
  console.error("stale oracle/vectors.json: run `npm run oracle` in contracts/ and commit the result");
  process.exit(1);
}
