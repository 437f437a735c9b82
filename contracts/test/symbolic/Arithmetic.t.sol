// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {Vm} from "../base/Vm.sol";
import {AgreeableWallet, LedgerToken, MintingCollector} from "./Doubles.sol";

/// The arithmetic of each function, for all numbers at once: halmos runs these with symbols in place of the arguments.
///
/// Each check begins in any state that keeps `claimed <= balance` and `settled <= earned`, makes one call with any
/// amount, and states exactly when it is accepted and what is then in the books and in everybody's pockets. That
/// the two inequalities hold afterwards makes it an induction: they hold after any number of calls.
contract SymbolicArithmetic {
    struct Books {
        uint128 balance;
        uint128 claimed;
        uint128 pending;
        uint40 since;
        uint256 nonce;
        uint128 earned;
        uint128 settled;
    }

    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    BatchSettlement private constant SETTLEMENT = BatchSettlement(0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003);
    address private constant RECEIVER = address(0xBEEF);
    uint40 private constant DELAY = 1 days;
    uint128 private constant MAX = type(uint128).max;

    LedgerToken private _token;
    address private _payer;
    address private _collector;
    bytes32 private _id;

    function setUp() public {
        VM.etch(address(SETTLEMENT), type(BatchSettlement).runtimeCode);
        _token = new LedgerToken();
        _payer = address(new AgreeableWallet());
        _collector = address(new MintingCollector());
        _id = SETTLEMENT.getChannelId(config());
    }

    /// Accepted exactly when something is paid in and the sum fits; then it is all in the escrow.
    function check_deposit(Books memory was, uint128 amount, uint256 others) public {
        uint256 held = begin(was, others);

        bool accepted = call(abi.encodeCall(BatchSettlement.deposit, (config(), amount, _collector, "")), address(this));

        VM.assertTrue(accepted == (amount != 0 && amount <= MAX - was.balance));
        if (!accepted) return unchanged(was, held);
        Books memory is_ = books();
        VM.assertEq(is_.balance, uint256(was.balance) + amount);
        VM.assertEq(is_.claimed, was.claimed);
        kept(was, is_, false, true);
        VM.assertEq(_token.balanceOf(address(SETTLEMENT)), held + amount);
    }

    /// Accepted exactly when it is old, or within ceiling and escrow; then the difference is earned and nothing moves.
    function check_claim(Books memory was, uint128 ceiling, uint128 total, uint256 others) public {
        uint256 held = begin(was, others);
        IBatchSettlement.VoucherClaim[] memory rows = new IBatchSettlement.VoucherClaim[](1);
        rows[0].voucher = IBatchSettlement.Voucher(config(), ceiling);
        rows[0].totalClaimed = total;

        bool accepted = call(abi.encodeCall(BatchSettlement.claim, (rows)), RECEIVER);

        bool old = total <= was.claimed;
        bool fits = old || total - was.claimed <= MAX - was.earned; // a receiver's sum over all channels has 128 bits
        VM.assertTrue(accepted == (old || (total <= ceiling && total <= was.balance && fits)));
        if (!accepted || old) return unchanged(was, held);
        Books memory is_ = books();
        VM.assertEq(is_.claimed, total);
        VM.assertEq(is_.earned - was.earned, total - was.claimed);
        VM.assertEq(is_.balance, was.balance);
        VM.assertEq(is_.settled, was.settled);
        VM.assertLe(is_.claimed, is_.balance);
        VM.assertLe(is_.claimed, ceiling);
        VM.assertEq(is_.pending, was.pending);
        VM.assertEq(is_.since, was.since);
        VM.assertEq(is_.nonce, was.nonce);
        VM.assertEq(_token.balanceOf(address(SETTLEMENT)), held);
    }

    /// Pays exactly what was earned and not settled.
    function check_settle(Books memory was, uint256 others) public {
        uint256 held = begin(was, others);

        bool accepted = call(abi.encodeCall(BatchSettlement.settle, (RECEIVER, address(_token))), address(this));

        VM.assertTrue(accepted);
        Books memory is_ = books();
        uint256 due = was.earned - was.settled;
        VM.assertEq(_token.balanceOf(RECEIVER), due);
        VM.assertEq(_token.balanceOf(address(SETTLEMENT)), held - due);
        VM.assertEq(is_.settled, was.earned);
        VM.assertEq(is_.earned, was.earned);
        VM.assertEq(is_.balance, was.balance);
        VM.assertEq(is_.claimed, was.claimed);
    }

    /// Accepted exactly for what is unclaimed, when no other is under way.
    function check_initiateWithdraw(Books memory was, uint128 amount, uint40 time, uint256 others) public {
        uint256 held = begin(was, others);
        VM.assume(time != 0 && time <= type(uint40).max - DELAY);
        VM.warp(time);

        bool accepted = call(abi.encodeCall(BatchSettlement.initiateWithdraw, (config(), amount)), _payer);

        VM.assertTrue(accepted == (amount != 0 && was.since == 0 && amount <= was.balance - was.claimed));
        if (!accepted) return unchanged(was, held);
        Books memory is_ = books();
        VM.assertEq(is_.pending, amount);
        VM.assertEq(is_.since, time);
        kept(was, is_, true, false);
        VM.assertEq(_token.balanceOf(address(SETTLEMENT)), held);
    }

    /// Accepted exactly when the delay is over; pays what was asked or, if that is less, what is unclaimed.
    function check_finalizeWithdraw(Books memory was, uint64 time, uint256 others) public {
        uint256 held = begin(was, others);
        VM.warp(time);

        bool accepted = call(abi.encodeCall(BatchSettlement.finalizeWithdraw, (config())), _payer);

        VM.assertTrue(accepted == (was.since != 0 && time >= uint256(was.since) + DELAY));
        if (!accepted) return unchanged(was, held);
        Books memory is_ = books();
        uint256 paid = lesser(was.pending, was.balance - was.claimed);
        VM.assertEq(_token.balanceOf(_payer), paid);
        VM.assertEq(_token.balanceOf(address(SETTLEMENT)), held - paid);
        VM.assertEq(is_.balance, was.balance - paid);
        VM.assertLe(is_.claimed, is_.balance);
        VM.assertEq(is_.pending, 0);
        VM.assertEq(is_.since, 0);
        VM.assertEq(is_.claimed, was.claimed);
        VM.assertEq(is_.earned, was.earned);
        VM.assertEq(is_.settled, was.settled);
        VM.assertEq(is_.nonce, was.nonce);
    }

    /// Pays what was asked or, if that is less, what is unclaimed; takes as much off a withdrawal; counts itself.
    function check_refund(Books memory was, uint128 asked, uint256 others) public {
        uint256 held = begin(was, others);
        VM.assume(was.nonce != type(uint256).max);

        bool accepted = call(abi.encodeCall(BatchSettlement.refund, (config(), asked)), RECEIVER);

        VM.assertTrue(accepted == (asked != 0));
        if (!accepted) return unchanged(was, held);
        Books memory is_ = books();
        uint256 paid = lesser(asked, was.balance - was.claimed);
        VM.assertEq(_token.balanceOf(_payer), paid);
        VM.assertEq(_token.balanceOf(address(SETTLEMENT)), held - paid);
        VM.assertEq(is_.balance, was.balance - paid);
        VM.assertLe(is_.claimed, is_.balance);
        VM.assertEq(is_.pending, was.pending - lesser(was.pending, paid));
        VM.assertEq(is_.since, is_.pending == 0 ? 0 : was.since);
        VM.assertEq(is_.nonce, was.nonce + 1);
        VM.assertEq(is_.claimed, was.claimed);
        VM.assertEq(is_.earned, was.earned);
        VM.assertEq(is_.settled, was.settled);
    }

    // ---- steps ----

    /// Puts the books into the contract's storage, and the money they speak of into its hands. `others` is what it holds
    /// for other channels.
    function begin(Books memory was, uint256 others) private returns (uint256 held) {
        VM.assume(was.claimed <= was.balance);
        VM.assume(was.settled <= was.earned);
        VM.assume((was.pending == 0) == (was.since == 0));
        VM.assume(others < 2 ** 200);
        VM.store(address(SETTLEMENT), slot(_id, 0), bytes32(uint256(was.claimed) << 128 | was.balance));
        VM.store(address(SETTLEMENT), slot(_id, 1), bytes32(uint256(was.since) << 128 | was.pending));
        VM.store(address(SETTLEMENT), slot(_id, 2), bytes32(was.nonce));
        VM.store(address(SETTLEMENT), earningsSlot(), bytes32(uint256(was.settled) << 128 | was.earned));
        held = others + (was.balance - was.claimed) + (was.earned - was.settled);
        _token.mint(address(SETTLEMENT), held);
    }

    function call(bytes memory data, address caller) private returns (bool accepted) {
        VM.prank(caller);
        (accepted,) = address(SETTLEMENT).call(data);
    }

    function books() private view returns (Books memory is_) {
        (is_.balance, is_.claimed) = SETTLEMENT.channels(_id);
        (is_.pending, is_.since) = SETTLEMENT.pendingWithdrawals(_id);
        is_.nonce = SETTLEMENT.refundNonce(_id);
        (is_.earned, is_.settled) = SETTLEMENT.receivers(RECEIVER, address(_token));
    }

    function unchanged(Books memory was, uint256 held) private view {
        kept(was, books(), true, true);
        VM.assertEq(_token.balanceOf(address(SETTLEMENT)), held);
    }

    function kept(Books memory was, Books memory is_, bool escrow, bool withdrawal) private pure {
        if (escrow) {
            VM.assertEq(is_.balance, was.balance);
            VM.assertEq(is_.claimed, was.claimed);
        }
        if (withdrawal) {
            VM.assertEq(is_.pending, was.pending);
            VM.assertEq(is_.since, was.since);
        }
        VM.assertEq(is_.nonce, was.nonce);
        VM.assertEq(is_.earned, was.earned);
        VM.assertEq(is_.settled, was.settled);
    }

    function config() private view returns (IBatchSettlement.ChannelConfig memory) {
        return
            IBatchSettlement.ChannelConfig(_payer, address(0), RECEIVER, RECEIVER, address(_token), DELAY, bytes32(0));
    }

    function slot(bytes32 key, uint256 mapping_) private pure returns (bytes32) {
        return keccak256(abi.encode(key, mapping_));
    }

    function earningsSlot() private view returns (bytes32) {
        return keccak256(abi.encode(address(_token), keccak256(abi.encode(RECEIVER, uint256(3)))));
    }

    function lesser(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
