// Drives our contracts on anvil with the public x402 client and facilitator, unchanged: deposit, voucher, claim, settle
// and refund, checked by the token balances at the end of each step. Needs nothing but `npm ci`.

import assert from "node:assert/strict";
import { toFacilitatorEvmSigner } from "@x402/evm";
import {
  computeChannelId,
  createBatchSettlementEIP3009DepositPayload,
  readChannelBalanceAndTotalClaimed,
  signVoucher,
} from "@x402/evm/batch-settlement/client";
import { BatchSettlementEvmScheme } from "@x402/evm/batch-settlement/facilitator";
import { foundry } from "viem/chains";
import { artifact, deployToken, key, onChain } from "./chain.mjs";

const SCHEME = "batch-settlement";
const NETWORK = `eip155:${foundry.id}`;
const DEPOSIT = 5_000_000n;

const payer = key("payer");
const payerAuthorizer = key("payerAuthorizer");
const receiver = key("receiver");
const receiverAuthorizer = key("receiverAuthorizer");
const relayer = key("relayer");

async function main(chain) {
  const token = await deployToken(chain, "UsdToken", relayer.address, payer.address, 2n * DEPOSIT);
  const balanceOf = (address) =>
    chain.readContract({ address: token, abi: artifact("UsdToken").abi, functionName: "balanceOf", args: [address] });

  const facilitator = new BatchSettlementEvmScheme(
    toFacilitatorEvmSigner({ ...chain, address: relayer.address }),
    receiverAuthorizer,
  );
  const requirements = {
    scheme: SCHEME,
    network: NETWORK,
    asset: token,
    amount: "1000000",
    payTo: receiver.address,
    maxTimeoutSeconds: 600,
    extra: {
      name: "Development Dollar",
      version: "1",
      receiverAuthorizer: receiverAuthorizer.address,
      withdrawDelay: 900,
    },
  };
  const settle = async (payload) => {
    const answer = await facilitator.settle({ x402Version: 2, accepted: requirements, payload }, requirements);
    assert.ok(answer.success, `${payload.type}: ${answer.errorReason} ${answer.errorMessage ?? ""}`);
    return answer;
  };
  const channelConfig = {
    payer: payer.address,
    payerAuthorizer: payerAuthorizer.address,
    receiver: receiver.address,
    receiverAuthorizer: receiverAuthorizer.address,
    token,
    withdrawDelay: 900,
    salt: `0x${"00".repeat(32)}`,
  };
  const channelId = computeChannelId(channelConfig, NETWORK);
  const recorded = () => readChannelBalanceAndTotalClaimed(chain, channelId);

  const { payload } = await createBatchSettlementEIP3009DepositPayload(
    payer, 2, requirements, channelConfig, DEPOSIT.toString(), "1000000", payerAuthorizer,
  );
  const verdict = await facilitator.verify({ x402Version: 2, accepted: requirements, payload }, requirements);
  assert.ok(verdict.isValid, `${verdict.invalidReason} ${verdict.invalidMessage ?? ""}`);
  await settle(payload);
  assert.deepEqual(await recorded(), [DEPOSIT, 0n]);
  assert.equal(await balanceOf(payer.address), DEPOSIT);

  const voucher = await signVoucher(payerAuthorizer, channelId, "3000000", NETWORK);
  const accepted = { x402Version: 2, accepted: requirements, payload: { type: "voucher", channelConfig, voucher } };
  assert.ok((await facilitator.verify(accepted, requirements)).isValid);

  const row = (totalClaimed) => ({
    voucher: { channel: channelConfig, maxClaimableAmount: voucher.maxClaimableAmount },
    signature: voucher.signature,
    totalClaimed,
  });
  await settle({ type: "claim", claims: [row("2000000")] });
  assert.deepEqual(await recorded(), [DEPOSIT, 2_000_000n]);

  await settle({ type: "settle", receiver: receiver.address, token });
  assert.equal(await balanceOf(receiver.address), 2_000_000n);

  // The facilitator claims the rest of the voucher and refunds in one multicall.
  await settle({ type: "refund", channelConfig, voucher, amount: "1500000", refundNonce: "0", claims: [row("3000000")] });
  assert.deepEqual(await recorded(), [3_500_000n, 3_000_000n]);
  assert.equal(await balanceOf(payer.address), DEPOSIT + 1_500_000n);
}

await onChain(relayer, main);
console.log("the public x402 client and facilitator work against our contracts");
