// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {WrongMoves} from "./WrongMoves.sol";

/// Everybody's moves in any order. A move here is one that the contract has to accept, and what has to come of it is
/// written into the books; the moves that it has to refuse are in `WrongMoves`.
contract ChannelHandler is WrongMoves {
    struct Seen {
        uint128 claimed;
        uint256 refundNonce;
        uint128 settled;
    }

    mapping(uint256 which => Seen) private _seen;

    function pay(uint256 which, uint128 amount, address carrier) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        amount = within128(amount, 1, MOVE_MAX);
        bytes memory data = allowanceData(payer, config, amount);
        carry(carrier, abi.encodeCall(BatchSettlement.deposit, (config, amount, address(ALLOWANCES), data)), false);
        bookDeposit(which, amount);
        rememberDeposit(which, amount, data);
    }

    /// Into a channel in dollars, by the token's own authorisation.
    function payByAuthorisation(bool second, uint128 amount, address carrier) external watched(second ? 4 : 3) {
        uint256 which = second ? 4 : 3;
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        amount = within128(amount, 1, MOVE_MAX);
        bytes memory data = authorizationData(payer, config, amount);
        carry(carrier, abi.encodeCall(BatchSettlement.deposit, (config, amount, address(AUTHORIZATIONS), data)), false);
        bookDeposit(which, amount);
    }

    function claimSome(
        uint256 which,
        uint128 total,
        uint128 room,
        uint256 way,
        bool inMulticall
    ) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        total = within128(total, 0, channelOf(which).balance);
        uint128 ceiling = total + within128(room, 0, MOVE_MAX);
        bookSignature(which, ceiling);
        _bringClaim(config, batch(claimOf(config, ceiling, total)), way, inMulticall);
        bookClaim(which, total);
    }

    /// Two channels in one batch, whatever their tokens and payers.
    function claimTwo(uint128 first, uint128 second, uint256 way) external watched(0) watched(5) {
        first = within128(first, 0, channelOf(0).balance);
        second = within128(second, 0, channelOf(5).balance);
        bookSignature(0, first);
        bookSignature(5, second);
        _bringClaim(configOf(0), batch(claimOf(configOf(0), first), claimOf(configOf(5), second)), way, false);
        bookClaim(0, first);
        bookClaim(5, second);
    }

    /// A row that is old, with a broken signature, beside one that is good.
    function claimWithOldRow(uint256 which, uint128 total) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        total = within128(total, channelOf(which).claimed, channelOf(which).balance);
        IBatchSettlement.VoucherClaim memory old = claimOf(config, channelOf(which).claimed);
        old.signature = hex"00";
        bookSignature(which, total);
        _bringClaim(config, batch(old, claimOf(config, total)), 0, false);
        bookClaim(which, total);
    }

    function claimAndSettle(uint256 which, uint128 total) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        total = within128(total, 0, channelOf(which).balance);
        bookSignature(which, total);
        bytes memory claiming = abi.encodeCall(BatchSettlement.claim, (batch(claimOf(config, total))));
        bytes memory settling = abi.encodeCall(BatchSettlement.settle, (config.receiver, config.token));
        carry(config.receiver, multicallOf(claiming, settling), false);
        bookClaim(which, total);
        bookSettlement(config.receiver, config.token, which);
    }

    function settleOne(uint256 which, address carrier, bool inMulticall) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        carry(carrier, abi.encodeCall(BatchSettlement.settle, (config.receiver, config.token)), inMulticall);
        bookSettlement(config.receiver, config.token, which);
    }

    function startWithdrawal(uint256 which, uint128 amount, bool byAuthorizer) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        if (unclaimedOf(which) == 0 || channelOf(which).since != 0) return;
        amount = within128(amount, 1, unclaimedOf(which));
        carry(
            payerSideOf(config, byAuthorizer), abi.encodeCall(BatchSettlement.initiateWithdraw, (config, amount)), false
        );
        bookStart(which, amount);
    }

    function endWithdrawal(uint256 which, bool byAuthorizer, bool inMulticall) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        if (channelOf(which).since == 0) return;
        uint256 due = uint256(channelOf(which).since) + config.withdrawDelay;
        if (VM.getBlockTimestamp() < due) VM.warp(due);
        bytes memory call = abi.encodeCall(BatchSettlement.finalizeWithdraw, (config));
        carry(payerSideOf(config, byAuthorizer), call, inMulticall);
        bookEnd(which);
    }

    /// A whole withdrawal with a refund and a claim in the midst of it, which both go first: invariant 18. It cannot end a
    /// second early.
    function raceWithdrawal(uint256 which, uint128 amount, uint128 back, uint128 total) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        if (unclaimedOf(which) == 0 || channelOf(which).since != 0) return;
        amount = within128(amount, 1, unclaimedOf(which));
        carry(config.payer, abi.encodeCall(BatchSettlement.initiateWithdraw, (config, amount)), false);
        bookStart(which, amount);

        back = within128(back, 1, amount);
        carry(config.receiver, abi.encodeCall(BatchSettlement.refund, (config, back)), false);
        bookRefund(which, back);
        if (back == amount) return; // nothing is left to withdraw

        total = within128(total, channelOf(which).claimed, channelOf(which).balance);
        bookSignature(which, total);
        _bringClaim(config, batch(claimOf(config, total)), 0, false);
        bookClaim(which, total);

        bytes memory ending = abi.encodeCall(BatchSettlement.finalizeWithdraw, (config));
        uint256 due = VM.getBlockTimestamp() + config.withdrawDelay;
        VM.warp(due - 1);
        refused(config.payer, ending, IBatchSettlement.WithdrawDelayNotElapsed.selector);
        VM.warp(due);
        carry(config.payer, ending, false);
        bookEnd(which);
    }

    function giveBack(uint256 which, uint128 amount, bool bySignature, bool inMulticall) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        amount = within128(amount, 1, MOVE_MAX);
        bytes memory call = bySignature
            ? signedRefund(authorizerOf(config), which, amount, channelOf(which).refunds)
            : abi.encodeCall(BatchSettlement.refund, (config, amount));
        carry(bySignature ? stranger.addr : config.receiver, call, inMulticall);
        bookRefund(which, amount);
    }

    /// Two signed refunds in one transaction: the second is for the nonce that the first leaves behind.
    function giveBackTwice(uint256 which, uint128 first, uint128 second) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        (first, second) = (within128(first, 1, MOVE_MAX), within128(second, 1, MOVE_MAX));
        uint256 nonce = channelOf(which).refunds;
        bytes memory one = signedRefund(authorizerOf(config), which, first, nonce);
        bytes memory other = signedRefund(authorizerOf(config), which, second, nonce + 1);
        carry(stranger.addr, multicallOf(one, other), false);
        bookRefund(which, first);
        bookRefund(which, second);
    }

    function wait(uint256 time) external {
        VM.warp(VM.getBlockTimestamp() + within(time, 1, 2 days));
    }

    /// Invariant 3, after every move on a channel: nothing that counts upwards has gone down.
    modifier watched(uint256 which) {
        _;
        Seen storage seen = _seen[which % CHANNELS];
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        (, uint128 claimed) = SETTLEMENT.channels(idOf(which));
        uint256 refundNonce = SETTLEMENT.refundNonce(idOf(which));
        (, uint128 settled) = SETTLEMENT.receivers(config.receiver, config.token);
        VM.assertGe(claimed, seen.claimed, "invariant 3: totalClaimed only grows");
        VM.assertGe(refundNonce, seen.refundNonce, "invariant 3: refundNonce only grows");
        VM.assertGe(settled, seen.settled, "invariant 3: totalSettled only grows");
        (seen.claimed, seen.refundNonce, seen.settled) = (claimed, refundNonce, settled);
    }

    /// By the receiver, by its authorizer, or by a stranger with the authorizer's signature.
    function _bringClaim(
        IBatchSettlement.ChannelConfig memory config,
        IBatchSettlement.VoucherClaim[] memory rows,
        uint256 way,
        bool inMulticall
    ) private {
        if (way % 3 == 2) {
            bytes memory signature = sign(authorizerOf(config), SETTLEMENT.getClaimBatchDigest(rows));
            carry(stranger.addr, abi.encodeCall(BatchSettlement.claimWithSignature, (rows, signature)), inMulticall);
        } else {
            address caller = way % 3 == 0 ? config.receiver : config.receiverAuthorizer;
            carry(caller, abi.encodeCall(BatchSettlement.claim, (rows)), inMulticall);
        }
    }
}
