// The public x402 client against the embedded chain: its channel ids and digests are the contract's, its vouchers are
// paid, and its facilitator works, both unchanged.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { BATCH_SETTLEMENT_ADDRESS, BATCH_SETTLEMENT_DOMAIN, toFacilitatorEvmSigner, voucherTypes } from "@x402/evm";
import {
  computeChannelId,
  createBatchSettlementEIP3009DepositPayload,
  readChannelBalanceAndTotalClaimed,
  signVoucher,
} from "@x402/evm/batch-settlement/client";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/facilitator";
import {
  createWalletClient, encodeAbiParameters, getContractAddress, hashTypedData, http, parseAbiParameters, parseEther,
  publicActions, toHex,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { check, rpcUrl } from "./check.mjs";

const NETWORK = `eip155:${foundry.id}`;
const ALLOWANCE_COLLECTOR = "0x4c45544845000000000000000000000000000001";
const DEPOSIT = 5_000_000n;
// Development accounts of every test chain; their keys are published. The first has MOR, the tenth deployed the market
// and may make dollars. The third is used by nothing else here.
const DEPLOYER_KEY = "0x2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6";
const TREASURY_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const RELAYER_KEY = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

const abi = (name) => JSON.parse(readFileSync(new URL(`../contracts/artifacts/${name}.json`, import.meta.url), "utf8")).abi;
const settlementAbi = abi("BatchSettlement");
const morAbi = abi("MorToken");

const wallet = (key) =>
  createWalletClient({ chain: foundry, transport: http(rpcUrl), account: privateKeyToAccount(key), pollingInterval: 100 })
    .extend(publicActions);
const chain = wallet(RELAYER_KEY);
const treasury = wallet(TREASURY_KEY);
const deployer = wallet(DEPLOYER_KEY);
const deployed = (nonce) => getContractAddress({ from: deployer.account.address, nonce });
const [mor, usd] = [deployed(0n), deployed(2n)];

const fresh = () => privateKeyToAccount(generatePrivateKey());
const [payer, payerAuthorizer, receiver, receiverAuthorizer] = [fresh(), fresh(), fresh(), fresh()];

const channelOf = (token, from = payer, to = receiver) => ({
  payer: from.address,
  payerAuthorizer: payerAuthorizer.address,
  receiver: to.address,
  receiverAuthorizer: receiverAuthorizer.address,
  token,
  withdrawDelay: 900,
  salt: toHex(crypto.getRandomValues(new Uint8Array(32))),
});

const view = (functionName, ...args) =>
  chain.readContract({ address: BATCH_SETTLEMENT_ADDRESS, abi: settlementAbi, functionName, args });
const balanceOf = (token, address) => chain.readContract({ address: token, abi: morAbi, functionName: "balanceOf", args: [address] });

async function send(from, address, contractAbi, functionName, ...args) {
  const { request } = await from.simulateContract({ address, abi: contractAbi, functionName, args });
  const receipt = await from.waitForTransactionReceipt({ hash: await from.writeContract(request) });
  assert.equal(receipt.status, "success", functionName);
}

await check("x402: channel ids are the contract's", async () => {
  for (const token of [mor, usd]) {
    const config = channelOf(token);
    assert.equal(await view("getChannelId", config), computeChannelId(config, NETWORK));
  }
});

await check("x402: digests of vouchers are the contract's", async () => {
  const domain = { ...BATCH_SETTLEMENT_DOMAIN, chainId: foundry.id, verifyingContract: BATCH_SETTLEMENT_ADDRESS };
  const channelId = computeChannelId(channelOf(mor), NETWORK);
  for (const maxClaimableAmount of [0n, 1n, 10n ** 18n, 2n ** 128n - 1n]) {
    const message = { channelId, maxClaimableAmount };
    const digest = hashTypedData({ domain, types: voucherTypes, primaryType: "Voucher", message });
    assert.equal(await view("getVoucherDigest", channelId, maxClaimableAmount), digest);
  }
});

await check("x402: MOR from an allowance, a voucher of the client, claimed and settled", async () => {
  // From the treasury and back to it: `lethe where` knows both.
  const config = channelOf(mor, treasury.account, deployer.account);
  const channelId = computeChannelId(config, NETWORK);
  const collectorAbi = abi("AllowanceCollector");
  await send(treasury, mor, morAbi, "increaseAllowance", ALLOWANCE_COLLECTOR, DEPOSIT);

  const [nonce, deadline] = [BigInt(config.salt), 2n ** 64n];
  const typed = {
    domain: { name: "Lethe Allowance Collector", version: "1", chainId: foundry.id, verifyingContract: ALLOWANCE_COLLECTOR },
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
    message: { channelId, token: mor, amount: DEPOSIT, nonce, deadline },
  };
  const digest = await chain.readContract({
    address: ALLOWANCE_COLLECTOR,
    abi: collectorAbi,
    functionName: "getAllowanceDepositDigest",
    args: [channelId, mor, DEPOSIT, nonce, deadline],
  });
  assert.equal(digest, hashTypedData(typed));
  const signature = await treasury.account.signTypedData(typed);
  const data = encodeAbiParameters(parseAbiParameters("uint256, uint256, bytes"), [nonce, deadline, signature]);
  // Anyone may bring the payer's signature; here the relayer does.
  await send(chain, BATCH_SETTLEMENT_ADDRESS, settlementAbi, "deposit", config, DEPOSIT, ALLOWANCE_COLLECTOR, data);
  assert.deepEqual(await view("channels", channelId), [DEPOSIT, 0n]);

  const voucher = await signVoucher(payerAuthorizer, channelId, "3000000", NETWORK);
  const claims = [row(config, voucher, 2_000_000n)];
  const consent = await receiverAuthorizer.sign({ hash: await view("getClaimBatchDigest", claims) });
  await send(chain, BATCH_SETTLEMENT_ADDRESS, settlementAbi, "claimWithSignature", claims, consent);
  const before = await balanceOf(mor, config.receiver);
  await send(chain, BATCH_SETTLEMENT_ADDRESS, settlementAbi, "settle", config.receiver, mor);
  assert.equal((await balanceOf(mor, config.receiver)) - before, 2_000_000n);
});

function row(channel, voucher, totalClaimed) {
  const maxClaimableAmount = BigInt(voucher.maxClaimableAmount);
  return { voucher: { channel, maxClaimableAmount }, signature: voucher.signature, totalClaimed };
}

await check("x402: the facilitator deposits, claims, settles and refunds dollars", async () => {
  await send(deployer, usd, abi("UsdToken"), "mint", payer.address, 2n * DEPOSIT);
  const facilitator = new BatchSettlementEvmScheme(
    toFacilitatorEvmSigner({ ...chain, address: chain.account.address }),
    receiverAuthorizer,
  );
  const requirements = {
    scheme: "batch-settlement",
    network: NETWORK,
    asset: usd,
    amount: "1000000",
    payTo: receiver.address,
    maxTimeoutSeconds: 600,
    extra: { name: "Development Dollar", version: "1", receiverAuthorizer: receiverAuthorizer.address, withdrawDelay: 900 },
  };
  const settle = async (payload) => {
    const answer = await facilitator.settle({ x402Version: 2, accepted: requirements, payload }, requirements);
    assert.ok(answer.success, `${payload.type}: ${answer.errorReason} ${answer.errorMessage ?? ""}`);
  };
  const channelConfig = channelOf(usd);
  const channelId = computeChannelId(channelConfig, NETWORK);
  const onChain = () => readChannelBalanceAndTotalClaimed(chain, channelId);

  const { payload } = await createBatchSettlementEIP3009DepositPayload(
    payer, 2, requirements, channelConfig, DEPOSIT.toString(), "1000000", payerAuthorizer,
  );
  const verdict = await facilitator.verify({ x402Version: 2, accepted: requirements, payload }, requirements);
  assert.ok(verdict.isValid, `${verdict.invalidReason} ${verdict.invalidMessage ?? ""}`);
  await settle(payload);
  assert.deepEqual(await onChain(), [DEPOSIT, 0n]);

  const voucher = await signVoucher(payerAuthorizer, channelId, "3000000", NETWORK);
  const claim = (totalClaimed) => ({ ...row(channelConfig, voucher, totalClaimed), totalClaimed: totalClaimed.toString() });
  await settle({ type: "claim", claims: [claim(2_000_000n)] });
  await settle({ type: "settle", receiver: receiver.address, token: usd });
  assert.equal(await balanceOf(usd, receiver.address), 2_000_000n);
  await settle({ type: "refund", channelConfig, voucher, amount: "1500000", refundNonce: "0", claims: [claim(3_000_000n)] });
  assert.deepEqual(await onChain(), [3_500_000n, 3_000_000n]);
  assert.equal(await balanceOf(usd, payer.address), DEPOSIT + 1_500_000n);
});
