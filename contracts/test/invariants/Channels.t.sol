// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {AllowanceCollector} from "../../src/AllowanceCollector.sol";
import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {Eip3009Collector} from "../../src/Eip3009Collector.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {Scene} from "../base/Scene.sol";
import {KnockingToken} from "../doubles/Tokens.sol";
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

    uint256 private constant TOKENS = 3;
    uint256 private constant RECEIVERS = 2;

    ChannelHandler private _handler;
    KnockingToken private _knocking;
    bytes32[] private _ids;
    /// The channel's token and receiver, as places in the lists below.
    uint256[] private _tokenOf;
    uint256[] private _receiverOf;
    address[TOKENS] private _tokens;
    address[RECEIVERS] private _receivers;
    address[5] private _holders;
    bytes32[3] private _codes;

    function setUp() public {
        _handler = new ChannelHandler();
        _handler.setUp();
        _knocking = _handler.knocking();
        _tokens = _handler.tokens();
        _receivers = _handler.receiversOfAll();
        _holders = _handler.holders();
        for (uint256 i = 0; i < _handler.CHANNELS(); ++i) {
            IBatchSettlement.ChannelConfig memory config = _handler.configOf(i);
            _ids.push(_handler.idOf(i));
            _tokenOf.push(config.token == _tokens[0] ? 0 : config.token == _tokens[1] ? 1 : 2);
            _receiverOf.push(config.receiver == _receivers[0] ? 0 : 1);
        }
        _codes = [
            keccak256(type(BatchSettlement).runtimeCode),
            keccak256(type(AllowanceCollector).runtimeCode),
            keccak256(type(Eip3009Collector).runtimeCode)
        ];
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](18);
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
        selectors[17] = ChannelHandler.raceWithdrawal.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_handler), selectors);
    }

    /// What the contract says of a channel, and what the books say.
    struct Sight {
        uint256 token;
        uint256 receiver;
        uint128 balance;
        uint128 claimed;
        uint128 pending;
        uint40 since;
        uint256 refundNonce;
        ChannelBooks.Channel booked;
    }

    /// One campaign for all of them: the sequences would be the same for each.
    function invariant_channels() external view {
        _holds_10_no_door_opens_while_tokens_move(); // first: what came in by an open door shows everywhere else too
        Sight[] memory channels = _look();
        uint256[TOKENS] memory unsettled = _holds_4_earnings_are_the_sum_of_claims(channels);
        _holds_1_holdings_equal_debts(channels, unsettled);
        _holds_1_what_came_in_is_held_or_went_out();
        _holds_2_claims_stay_within_ceiling_and_escrow(channels);
        _holds_5_escrows_are_as_booked(channels);
        _holds_6_withdrawals_are_whole_or_absent(channels);
        _holds_9_collectors_hold_nothing();
        _holds_11_the_code_stays_the_runtime_code();
        _holds_17_nonces_count_refunds(channels);
    }

    /// The campaign above must have been about something. (A failure that is being shrunk, or run again, is short.)
    function afterInvariant() external view {
        string[3] memory kinds = ["deposit", "refund", "refused"];
        uint256 made;
        for (uint256 i = 0; i < kinds.length; ++i) {
            made += _handler.moves(kinds[i]);
        }
        if (made < 40) return;
        for (uint256 i = 0; i < kinds.length; ++i) {
            VM.assertTrue(_handler.moves(kinds[i]) != 0, string.concat("not once in the whole run: ", kinds[i]));
        }
    }

    /// 1: what the contract holds is what it owes, to the unit.
    function _holds_1_holdings_equal_debts(Sight[] memory channels, uint256[TOKENS] memory owed) private view {
        for (uint256 i = 0; i < channels.length; ++i) {
            owed[channels[i].token] += channels[i].balance - channels[i].claimed;
        }
        for (uint256 t = 0; t < TOKENS; ++t) {
            VM.assertEq(IERC20(_tokens[t]).balanceOf(address(SETTLEMENT)), owed[t], "holdings are not debts");
        }
    }

    /// 1 again, and 16: everybody holds what the books say, the contract included; so nothing appears, is lost, or goes
    /// to whoever carried a signature.
    function _holds_1_what_came_in_is_held_or_went_out() private view {
        for (uint256 t = 0; t < TOKENS; ++t) {
            IERC20 token = IERC20(_tokens[t]);
            uint256 all;
            for (uint256 h = 0; h < _holders.length; ++h) {
                uint256 holding = token.balanceOf(_holders[h]);
                VM.assertEq(holding, _handler.wealth(address(token), _holders[h]), "a holding is not as booked");
                all += holding;
            }
            VM.assertEq(all, token.totalSupply(), "tokens went to somebody else");
        }
    }

    /// 2: nobody gets more than was signed for, nor more than is there.
    function _holds_2_claims_stay_within_ceiling_and_escrow(Sight[] memory channels) private pure {
        for (uint256 i = 0; i < channels.length; ++i) {
            VM.assertLe(channels[i].claimed, channels[i].balance, "claimed more than the escrow");
            VM.assertLe(channels[i].claimed, channels[i].booked.ceiling, "claimed more than was signed");
        }
    }

    /// 4: a receiver's sum is the sum of its channels, and what was settled is what it was paid.
    function _holds_4_earnings_are_the_sum_of_claims(Sight[] memory channels)
        private
        view
        returns (uint256[TOKENS] memory unsettled)
    {
        for (uint256 t = 0; t < TOKENS; ++t) {
            for (uint256 r = 0; r < RECEIVERS; ++r) {
                (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(_receivers[r], _tokens[t]);
                uint256 sum;
                for (uint256 i = 0; i < channels.length; ++i) {
                    if (channels[i].token == t && channels[i].receiver == r) sum += channels[i].claimed;
                }
                VM.assertEq(claimed, sum, "earnings are not the channels' sum");
                VM.assertEq(settled, IERC20(_tokens[t]).balanceOf(_receivers[r]), "settled is not what was paid");
                unsettled[t] += claimed - settled;
            }
        }
    }

    /// 5, with the books: each escrow is what deposits, claims, refunds and withdrawals left of it.
    function _holds_5_escrows_are_as_booked(Sight[] memory channels) private pure {
        for (uint256 i = 0; i < channels.length; ++i) {
            VM.assertEq(channels[i].balance, channels[i].booked.balance, "a balance is not as booked");
            VM.assertEq(channels[i].claimed, channels[i].booked.claimed, "a claim is not as booked");
        }
    }

    /// 6: a withdrawal has an amount exactly while it has a start, and both are as booked.
    function _holds_6_withdrawals_are_whole_or_absent(Sight[] memory channels) private pure {
        for (uint256 i = 0; i < channels.length; ++i) {
            VM.assertTrue((channels[i].pending == 0) == (channels[i].since == 0), "half a withdrawal");
            VM.assertEq(channels[i].pending, channels[i].booked.pending, "a withdrawal is not as booked");
            VM.assertEq(channels[i].since, channels[i].booked.since, "a withdrawal's start is not as booked");
        }
    }

    /// 9: collectors pass money on; they never keep any.
    function _holds_9_collectors_hold_nothing() private view {
        for (uint256 t = 0; t < TOKENS; ++t) {
            VM.assertEq(IERC20(_tokens[t]).balanceOf(ALLOWANCES), 0, "a collector kept something");
            VM.assertEq(IERC20(_tokens[t]).balanceOf(AUTHORIZATIONS), 0, "a collector kept something");
        }
    }

    /// 10: one of the tokens knocks at every door whenever it is moved.
    function _holds_10_no_door_opens_while_tokens_move() private view {
        VM.assertEq(_knocking.opened(), 0, "a door was open while tokens moved");
    }

    /// 11: no move changes what the contracts are.
    function _holds_11_the_code_stays_the_runtime_code() private view {
        VM.assertEq(address(SETTLEMENT).codehash, _codes[0], "the code changed");
        VM.assertEq(ALLOWANCES.codehash, _codes[1], "the code changed");
        VM.assertEq(AUTHORIZATIONS.codehash, _codes[2], "the code changed");
    }

    /// 17: the nonce is the number of refunds.
    function _holds_17_nonces_count_refunds(Sight[] memory channels) private pure {
        for (uint256 i = 0; i < channels.length; ++i) {
            VM.assertEq(channels[i].refundNonce, channels[i].booked.refunds, "a nonce is not as booked");
        }
    }

    function _look() private view returns (Sight[] memory channels) {
        channels = new Sight[](_ids.length);
        for (uint256 i = 0; i < channels.length; ++i) {
            Sight memory channel = channels[i];
            (channel.token, channel.receiver) = (_tokenOf[i], _receiverOf[i]);
            (channel.balance, channel.claimed) = SETTLEMENT.channels(_ids[i]);
            (channel.pending, channel.since) = SETTLEMENT.pendingWithdrawals(_ids[i]);
            channel.refundNonce = SETTLEMENT.refundNonce(_ids[i]);
            channel.booked = _handler.channelOf(i);
        }
    }
}
