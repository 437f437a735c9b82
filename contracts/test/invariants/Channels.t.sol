// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {AllowanceCollector} from "../../src/AllowanceCollector.sol";
import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {Eip3009Collector} from "../../src/Eip3009Collector.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {Scene} from "../base/Scene.sol";
import {ChannelBooks} from "./ChannelBooks.sol";
import {ChannelHandler} from "./ChannelHandler.sol";
import {WrongMoves} from "./WrongMoves.sol";

/// INVARIANTS.md, those of channels and collectors, after any sequence of moves. The numbers are those of that file.
contract ChannelInvariants is Scene {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    BatchSettlement private constant SETTLEMENT = BatchSettlement(0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003);
    address private constant AUTHORIZATIONS = 0x4020806089470a89826cB9fB1f4059150b550004;
    address private constant ALLOWANCES = 0x4c45544845000000000000000000000000000001;

    ChannelHandler private _handler;
    bytes32[] private _ids;
    IBatchSettlement.ChannelConfig[] private _configs;
    address[3] private _tokens;
    address[2] private _receivers;
    address[5] private _holders;

    function setUp() public {
        _handler = new ChannelHandler();
        _handler.setUp();
        _tokens = _handler.tokens();
        _receivers = _handler.receiversOfAll();
        _holders = _handler.holders();
        for (uint256 i = 0; i < _handler.CHANNELS(); ++i) {
            _ids.push(_handler.idOf(i));
            _configs.push(_handler.configOf(i));
        }
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](17);
        selectors[0] = ChannelHandler.pay.selector;
        selectors[1] = ChannelHandler.payByAuthorisation.selector;
        selectors[2] = ChannelHandler.claimSome.selector;
        selectors[3] = ChannelHandler.claimTwo.selector;
        selectors[4] = ChannelHandler.claimWithOldRow.selector;
        selectors[5] = ChannelHandler.claimAndSettle.selector;
        selectors[6] = ChannelHandler.settleOne.selector;
        selectors[7] = ChannelHandler.startWithdrawal.selector;
        selectors[8] = ChannelHandler.endWithdrawal.selector;
        selectors[9] = ChannelHandler.giveBack.selector;
        selectors[10] = ChannelHandler.giveBackTwice.selector;
        selectors[11] = ChannelHandler.wait.selector;
        selectors[12] = WrongMoves.claimWrongly.selector;
        selectors[13] = WrongMoves.withdrawWrongly.selector;
        selectors[14] = WrongMoves.refundWrongly.selector;
        selectors[15] = WrongMoves.payWrongly.selector;
        selectors[16] = ChannelHandler.pay.selector; // money has to come in for the rest to mean anything
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_handler), selectors);
    }

    /// One campaign for all of them: the sequences would be the same for each.
    function invariant_channels() external view {
        _holds_1_holdings_equal_debts();
        _holds_1_what_came_in_is_held_or_went_out();
        _holds_2_claims_stay_within_ceiling_and_escrow();
        _holds_4_earnings_are_the_sum_of_claims();
        _holds_5_escrows_are_as_booked();
        _holds_6_withdrawals_are_whole_or_absent();
        _holds_9_collectors_hold_nothing();
        _holds_10_no_door_opens_while_tokens_move();
        _holds_11_the_code_stays_the_runtime_code();
        _holds_17_nonces_count_refunds();
    }

    /// The campaign above must have been about something. (A failure that is being shrunk, or run again, is short.)
    function afterInvariant() external view {
        string[6] memory kinds = ["deposit", "claim", "settle", "withdrawal started", "refund", "refused"];
        uint256 made;
        for (uint256 i = 0; i < kinds.length; ++i) {
            made += _handler.moves(kinds[i]);
        }
        if (made < 60) return;
        for (uint256 i = 0; i < kinds.length; ++i) {
            VM.assertTrue(_handler.moves(kinds[i]) != 0, string.concat("not once in the whole run: ", kinds[i]));
        }
    }

    /// 1: what the contract holds is what it owes, to the unit.
    function _holds_1_holdings_equal_debts() private view {
        for (uint256 t = 0; t < _tokens.length; ++t) {
            uint256 owed;
            for (uint256 i = 0; i < _ids.length; ++i) {
                if (_configs[i].token != _tokens[t]) continue;
                (uint128 balance, uint128 claimed) = SETTLEMENT.channels(_ids[i]);
                owed += balance - claimed;
            }
            for (uint256 r = 0; r < _receivers.length; ++r) {
                (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(_receivers[r], _tokens[t]);
                owed += claimed - settled;
            }
            VM.assertEq(IERC20(_tokens[t]).balanceOf(address(SETTLEMENT)), owed, "holdings are not debts");
        }
    }

    /// 1 again, and 16: everybody holds what the books say, the contract included; so nothing appears, is lost, or goes
    /// to whoever carried a signature.
    function _holds_1_what_came_in_is_held_or_went_out() private view {
        for (uint256 t = 0; t < _tokens.length; ++t) {
            uint256 all;
            for (uint256 h = 0; h < _holders.length; ++h) {
                uint256 holding = IERC20(_tokens[t]).balanceOf(_holders[h]);
                VM.assertEq(holding, _handler.wealth(_tokens[t], _holders[h]), "a holding is not as booked");
                all += holding;
            }
            VM.assertEq(all, IERC20(_tokens[t]).totalSupply(), "tokens went to somebody else");
        }
    }

    /// 2: nobody gets more than was signed for, nor more than is there.
    function _holds_2_claims_stay_within_ceiling_and_escrow() private view {
        for (uint256 i = 0; i < _ids.length; ++i) {
            (uint128 balance, uint128 claimed) = SETTLEMENT.channels(_ids[i]);
            VM.assertLe(claimed, balance, "claimed more than the escrow");
            VM.assertLe(claimed, _handler.channelOf(i).ceiling, "claimed more than was signed");
        }
    }

    /// 4: a receiver's sum is the sum of its channels, and what was settled is what it was paid.
    function _holds_4_earnings_are_the_sum_of_claims() private view {
        for (uint256 t = 0; t < _tokens.length; ++t) {
            for (uint256 r = 0; r < _receivers.length; ++r) {
                (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(_receivers[r], _tokens[t]);
                uint256 sum;
                for (uint256 i = 0; i < _ids.length; ++i) {
                    if (_configs[i].token != _tokens[t] || _configs[i].receiver != _receivers[r]) continue;
                    (, uint128 ofChannel) = SETTLEMENT.channels(_ids[i]);
                    sum += ofChannel;
                }
                VM.assertEq(claimed, sum, "earnings are not the channels' sum");
                VM.assertEq(settled, IERC20(_tokens[t]).balanceOf(_receivers[r]), "settled is not what was paid");
            }
        }
    }

    /// 5, with the books: each escrow is what deposits, claims, refunds and withdrawals left of it.
    function _holds_5_escrows_are_as_booked() private view {
        for (uint256 i = 0; i < _ids.length; ++i) {
            ChannelBooks.Channel memory booked = _handler.channelOf(i);
            (uint128 balance, uint128 claimed) = SETTLEMENT.channels(_ids[i]);
            VM.assertEq(balance, booked.balance, "a balance is not as booked");
            VM.assertEq(claimed, booked.claimed, "a claim is not as booked");
        }
    }

    /// 6: a withdrawal has an amount exactly while it has a start, and both are as booked.
    function _holds_6_withdrawals_are_whole_or_absent() private view {
        for (uint256 i = 0; i < _ids.length; ++i) {
            ChannelBooks.Channel memory booked = _handler.channelOf(i);
            (uint128 amount, uint40 since) = SETTLEMENT.pendingWithdrawals(_ids[i]);
            VM.assertTrue((amount == 0) == (since == 0), "half a withdrawal");
            VM.assertEq(amount, booked.pending, "a withdrawal is not as booked");
            VM.assertEq(since, booked.since, "a withdrawal's start is not as booked");
        }
    }

    /// 9: collectors pass money on; they never keep any.
    function _holds_9_collectors_hold_nothing() private view {
        for (uint256 t = 0; t < _tokens.length; ++t) {
            VM.assertEq(IERC20(_tokens[t]).balanceOf(ALLOWANCES), 0);
            VM.assertEq(IERC20(_tokens[t]).balanceOf(AUTHORIZATIONS), 0);
        }
    }

    /// 10: one of the tokens knocks at every door whenever it is moved.
    function _holds_10_no_door_opens_while_tokens_move() private view {
        VM.assertEq(_handler.knocking().opened(), 0, "a door was open while tokens moved");
    }

    /// 11: no move changes what the contracts are.
    function _holds_11_the_code_stays_the_runtime_code() private view {
        VM.assertEq(address(SETTLEMENT).codehash, keccak256(type(BatchSettlement).runtimeCode));
        VM.assertEq(ALLOWANCES.codehash, keccak256(type(AllowanceCollector).runtimeCode));
        VM.assertEq(AUTHORIZATIONS.codehash, keccak256(type(Eip3009Collector).runtimeCode));
    }

    /// 17: the nonce is the number of refunds.
    function _holds_17_nonces_count_refunds() private view {
        for (uint256 i = 0; i < _ids.length; ++i) {
            VM.assertEq(SETTLEMENT.refundNonce(_ids[i]), _handler.channelOf(i).refunds, "a nonce is not as booked");
        }
    }
}
