// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AllowanceCollector} from "../../src/AllowanceCollector.sol";
import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {ChannelBooks} from "./ChannelBooks.sol";

/// Moves that the contract has to refuse, each for the reason named here, without a change to anything.
abstract contract WrongMoves is ChannelBooks {
    struct Deposit {
        uint256 which;
        uint128 amount;
        bytes data;
    }

    Deposit private _last;

    /// A claim on a channel that has to fail, also when a good row goes before it.
    function claimWrongly(uint256 which, uint128 amount, uint256 kind) external {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        uint128 claimed = channelOf(which).claimed;
        uint128 balance = channelOf(which).balance;
        if (kind % 6 == 0) {
            uint128 ceiling = claimed + within128(amount, 0, MOVE_MAX);
            IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, ceiling, ceiling + 1));
            return refused(
                config.receiver,
                abi.encodeCall(BatchSettlement.claim, (rows)),
                IBatchSettlement.ClaimExceedsCeiling.selector
            );
        }
        if (kind % 6 == 1) {
            IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, balance), claimOf(config, balance + 1));
            return refused(
                config.receiver,
                abi.encodeCall(BatchSettlement.claim, (rows)),
                IBatchSettlement.ClaimExceedsBalance.selector
            );
        }
        if (claimed == balance) return;
        uint128 total = within128(amount, claimed + 1, balance);
        if (kind % 6 == 2) {
            return refused(
                stranger.addr,
                abi.encodeCall(BatchSettlement.claim, (batch(claimOf(config, total)))),
                IBatchSettlement.NotAuthorizedToClaim.selector
            );
        }
        if (kind % 6 == 3) {
            IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, total));
            bytes memory signature = sign(payer, SETTLEMENT.getClaimBatchDigest(rows));
            return refused(
                config.receiver,
                abi.encodeCall(BatchSettlement.claimWithSignature, (rows, signature)),
                IBatchSettlement.InvalidSignature.selector
            );
        }
        IBatchSettlement.VoucherClaim memory row = kind % 6 == 4
            ? claimBy(authorizerOf(config), config, total, total)  // the receiver's side signs to itself
            : fromAnotherChain(config, total);
        refused(
            config.receiver,
            abi.encodeCall(BatchSettlement.claim, (batch(row))),
            IBatchSettlement.InvalidSignature.selector
        );
    }

    function withdrawWrongly(uint256 which, uint128 amount, uint256 kind) external {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        amount = within128(amount, 1, MOVE_MAX);
        bool pending = channelOf(which).since != 0;
        if (kind % 5 == 0) {
            return refused(
                config.receiver,
                abi.encodeCall(BatchSettlement.initiateWithdraw, (config, amount)),
                IBatchSettlement.InvalidChannel.selector
            );
        }
        if (kind % 5 == 1) {
            return refused(
                config.payer,
                abi.encodeCall(BatchSettlement.initiateWithdraw, (config, unclaimedOf(which) + amount)),
                pending
                    ? IBatchSettlement.WithdrawalAlreadyPending.selector
                    : IBatchSettlement.WithdrawAmountExceedsAvailable.selector
            );
        }
        if (kind % 5 == 2) {
            return refused(
                config.payer,
                abi.encodeCall(BatchSettlement.initiateWithdraw, (config, 0)),
                IBatchSettlement.NothingToWithdraw.selector
            );
        }
        bytes memory ending = abi.encodeCall(BatchSettlement.finalizeWithdraw, (config));
        if (kind % 5 == 3) {
            return refused(config.receiver, ending, IBatchSettlement.NotAuthorizedToFinalizeWithdraw.selector);
        }
        if (pending && VM.getBlockTimestamp() >= uint256(channelOf(which).since) + config.withdrawDelay) return;
        refused(
            config.payer,
            ending,
            pending ? IBatchSettlement.WithdrawDelayNotElapsed.selector : IBatchSettlement.WithdrawalNotPending.selector
        );
    }

    function refundWrongly(uint256 which, uint128 amount, uint256 kind) external {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        amount = within128(amount, 1, MOVE_MAX);
        uint256 nonce = channelOf(which).refunds;
        Signer memory authorizer = authorizerOf(config);
        if (kind % 4 == 0) {
            return refused(
                config.payer,
                abi.encodeCall(BatchSettlement.refund, (config, amount)),
                IBatchSettlement.NotAuthorizedToRefund.selector
            );
        }
        if (kind % 4 == 1) {
            uint256 other = kind % 8 == 1 || nonce == 0 ? nonce + 1 : nonce - 1;
            return refused(
                config.receiver,
                signedRefund(authorizer, which, amount, other),
                IBatchSettlement.InvalidRefundNonce.selector
            );
        }
        if (kind % 4 == 2) {
            return refused(
                config.receiver, signedRefund(payer, which, amount, nonce), IBatchSettlement.InvalidSignature.selector
            );
        }
        // A good refund, then one of nothing: neither happens.
        bytes memory good = signedRefund(authorizer, which, amount, nonce);
        bytes memory empty = abi.encodeCall(BatchSettlement.refund, (config, 0));
        refused(config.receiver, multicallOf(good, empty), IBatchSettlement.ZeroRefund.selector);
    }

    function payWrongly(uint256 which, uint128 amount, uint256 kind) external {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        amount = within128(amount, 1, MOVE_MAX);
        if (kind % 5 == 0) {
            if (_last.amount == 0) return;
            (, uint256 deadline,) = abi.decode(_last.data, (uint256, uint256, bytes));
            return refused(
                stranger.addr,
                depositCall(configOf(_last.which), _last.amount, _last.data),
                VM.getBlockTimestamp() > deadline
                    ? AllowanceCollector.AllowanceCollectorExpired.selector
                    : AllowanceCollector.AllowanceCollectorNonceSpent.selector
            );
        }
        if (kind % 5 == 1) {
            return refused(
                stranger.addr,
                depositCall(config, amount, allowanceData(stranger, config, amount)),
                AllowanceCollector.AllowanceCollectorInvalidSignature.selector
            );
        }
        if (kind % 5 == 2) {
            return refused(
                stranger.addr,
                depositCall(config, amount + 1, allowanceData(payer, config, amount)),
                AllowanceCollector.AllowanceCollectorInvalidSignature.selector
            );
        }
        if (kind % 5 == 3) {
            // The payer's signature, and the thief's keys in the channel.
            IBatchSettlement.ChannelConfig memory trap = configOf(which);
            trap.receiver = stranger.addr;
            trap.receiverAuthorizer = stranger.addr;
            return refused(
                stranger.addr,
                depositCall(trap, amount, allowanceData(payer, config, amount)),
                AllowanceCollector.AllowanceCollectorInvalidSignature.selector
            );
        }
        if (channelOf(which).balance == 0) return;
        refused(
            config.payer,
            depositCall(config, type(uint128).max, allowanceData(payer, config, type(uint128).max)),
            IBatchSettlement.DepositOverflow.selector
        );
    }

    function refused(address caller, bytes memory call, bytes4 why) internal {
        bytes32 before = fingerprint();
        (bool accepted, bytes memory answer) = attempt(caller, call);
        VM.assertFalse(accepted, "invariant 15: a wrong move was accepted");
        VM.assertEq(bytes32(bytes4(answer)), bytes32(why), "invariant 15: refused for another reason");
        VM.assertEq(fingerprint(), before, "invariant 15: a refused move changed something");
        ++moves["refused"];
    }

    function rememberDeposit(uint256 which, uint128 amount, bytes memory data) internal {
        _last = Deposit(which, amount, data);
    }

    function signedRefund(
        Signer memory who,
        uint256 which,
        uint128 amount,
        uint256 nonce
    ) internal view returns (bytes memory) {
        bytes memory signature = sign(who, SETTLEMENT.getRefundDigest(idOf(which), nonce, amount));
        return abi.encodeCall(BatchSettlement.refundWithSignature, (configOf(which), amount, nonce, signature));
    }

    function payerSideOf(
        IBatchSettlement.ChannelConfig memory config,
        bool byAuthorizer
    ) internal pure returns (address) {
        return byAuthorizer && config.payerAuthorizer != address(0) ? config.payerAuthorizer : config.payer;
    }

    function depositCall(
        IBatchSettlement.ChannelConfig memory config,
        uint128 amount,
        bytes memory data
    ) private pure returns (bytes memory) {
        return abi.encodeCall(BatchSettlement.deposit, (config, amount, address(ALLOWANCES), data));
    }

    /// A row whose voucher was signed for the same channel of another chain.
    function fromAnotherChain(
        IBatchSettlement.ChannelConfig memory config,
        uint128 total
    ) private returns (IBatchSettlement.VoucherClaim memory row) {
        uint256 here = block.chainid;
        VM.chainId(here + 1);
        row = claimOf(config, total);
        VM.chainId(here);
    }
}
