// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";

/// Invariant 7: who holds none of a channel's keys changes nothing about it, whatever they send.
contract StrangersTest is SettlementScene {
    function testFuzz_a_stranger_changes_nothing(address who, uint128 amount, uint256 seed) public {
        VM.assume(who != payer.addr && who != payerAuthorizer.addr);
        VM.assume(who != receiver.addr && who != receiverAuthorizer.addr);
        IBatchSettlement.ChannelConfig memory config = openChannel(1000);
        claim(config, 300);
        VM.prank(payer.addr);
        SETTLEMENT.initiateWithdraw(config, 500);
        VM.warp(START + DELAY);
        bytes32 before = stateOf(config);

        bytes[] memory calls = attempts(config, amount, signer(VM.toString(seed)));
        for (uint256 i = 0; i < calls.length; ++i) {
            VM.prank(who);
            (bool accepted,) = address(SETTLEMENT).call(calls[i]);
            VM.assertFalse(accepted, VM.toString(i));
        }

        VM.assertEq(stateOf(config), before);
        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 1000);
    }

    /// Everything that asks for a right, with the stranger's own signatures where one is needed.
    function attempts(
        IBatchSettlement.ChannelConfig memory config,
        uint128 amount,
        Signer memory key
    ) private view returns (bytes[] memory calls) {
        IBatchSettlement.VoucherClaim[] memory honest = batch(claimOf(config, 900));
        IBatchSettlement.VoucherClaim[] memory forged = batch(claimBy(key, config, 900, 900));
        bytes32 id = SETTLEMENT.getChannelId(config);
        calls = new bytes[](8);
        calls[0] = abi.encodeCall(BatchSettlement.claim, (honest));
        calls[1] = abi.encodeCall(BatchSettlement.claim, (forged));
        calls[2] = abi.encodeCall(
            BatchSettlement.claimWithSignature, (honest, sign(key, SETTLEMENT.getClaimBatchDigest(honest)))
        );
        calls[3] = abi.encodeCall(BatchSettlement.initiateWithdraw, (config, amount));
        calls[4] = abi.encodeCall(BatchSettlement.finalizeWithdraw, (config));
        calls[5] = abi.encodeCall(BatchSettlement.refund, (config, amount));
        calls[6] = abi.encodeCall(
            BatchSettlement.refundWithSignature,
            (config, amount, 0, sign(key, SETTLEMENT.getRefundDigest(id, 0, amount)))
        );
        calls[7] = abi.encodeCall(
            BatchSettlement.deposit,
            (config, amount == 0 ? 1 : amount, address(ALLOWANCES), allowanceData(key, config, amount, 77, START * 2))
        );
    }

    function stateOf(IBatchSettlement.ChannelConfig memory config) private view returns (bytes32) {
        bytes32 id = SETTLEMENT.getChannelId(config);
        (uint128 balance, uint128 claimed) = SETTLEMENT.channels(id);
        (uint128 pending, uint40 since) = SETTLEMENT.pendingWithdrawals(id);
        (uint128 total, uint128 settled) = SETTLEMENT.receivers(config.receiver, config.token);
        uint256 nonce = SETTLEMENT.refundNonce(id);
        return keccak256(abi.encode(balance, claimed, pending, since, total, settled, nonce, held()));
    }
}
