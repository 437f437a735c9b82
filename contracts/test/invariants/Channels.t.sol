// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {Scene} from "../base/Scene.sol";
import {ChannelHandler} from "./ChannelHandler.sol";

/// INVARIANTS.md, 1 to 6, after any sequence of honest moves. The numbers are those of that file.
contract ChannelInvariants is Scene {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    BatchSettlement private constant SETTLEMENT = BatchSettlement(0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003);

    ChannelHandler private _handler;

    function setUp() public {
        _handler = new ChannelHandler();
        _handler.setUp();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](9);
        selectors[0] = ChannelHandler.pay.selector;
        selectors[1] = ChannelHandler.claimSome.selector;
        selectors[2] = ChannelHandler.claimWithOldRow.selector;
        selectors[3] = ChannelHandler.settleOne.selector;
        selectors[4] = ChannelHandler.startWithdrawal.selector;
        selectors[5] = ChannelHandler.endWithdrawal.selector;
        selectors[6] = ChannelHandler.giveBack.selector;
        selectors[7] = ChannelHandler.wait.selector;
        selectors[8] = ChannelHandler.pay.selector; // money has to come in for the rest to mean anything
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_handler), selectors);
    }

    /// One campaign for all of them: the sequences would be the same for each.
    function invariant_channels() external view {
        _holds_1_holdings_equal_debts();
        _holds_1_what_came_in_is_held_or_went_out();
        _holds_2_claims_stay_within_ceiling_and_escrow();
        _holds_4_earnings_are_the_sum_of_claims();
        _holds_6_withdrawals_are_whole_or_absent();
        _holds_9_collectors_hold_nothing();
    }

    /// The campaign above must have been about something.
    function afterInvariant() external view {
        VM.assertTrue(_handler.moves("pay") != 0, "no deposit in the whole run");
        VM.assertTrue(_handler.moves("claim") != 0, "no claim in the whole run");
    }

    /// 1: what the contract holds is what it owes, to the unit.
    function _holds_1_holdings_equal_debts() private view {
        address[2] memory tokens = _handler.tokens();
        for (uint256 t = 0; t < tokens.length; ++t) {
            uint256 owed = _unclaimedIn(tokens[t]) + _unsettledIn(tokens[t]);
            VM.assertEq(IERC20(tokens[t]).balanceOf(address(SETTLEMENT)), owed, "holdings are not debts");
        }
    }

    /// 1 again, against the handler's books: nothing appears, nothing is lost.
    function _holds_1_what_came_in_is_held_or_went_out() private view {
        address[2] memory tokens = _handler.tokens();
        address[2] memory receivers = _handler.receiversOfAll();
        for (uint256 t = 0; t < tokens.length; ++t) {
            uint256 out = _handler.returnedFrom(tokens[t]);
            for (uint256 r = 0; r < receivers.length; ++r) {
                out += _handler.settledTo(tokens[t], receivers[r]);
            }
            uint256 held = IERC20(tokens[t]).balanceOf(address(SETTLEMENT));
            VM.assertEq(_handler.depositedIn(tokens[t]), held + out, "money appeared or was lost");
        }
    }

    /// 2: nobody gets more than was signed for, nor more than is there.
    function _holds_2_claims_stay_within_ceiling_and_escrow() private view {
        for (uint256 i = 0; i < _handler.CHANNELS(); ++i) {
            bytes32 id = SETTLEMENT.getChannelId(_handler.configOf(i));
            (uint128 balance, uint128 claimed) = SETTLEMENT.channels(id);
            VM.assertLe(claimed, balance, "claimed more than the escrow");
            VM.assertLe(claimed, _handler.highestCeiling(id), "claimed more than was signed");
        }
    }

    /// 4: a receiver's sum is the sum of its channels, and what was settled came out of it.
    function _holds_4_earnings_are_the_sum_of_claims() private view {
        address[2] memory tokens = _handler.tokens();
        address[2] memory receivers = _handler.receiversOfAll();
        for (uint256 t = 0; t < tokens.length; ++t) {
            for (uint256 r = 0; r < receivers.length; ++r) {
                (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(receivers[r], tokens[t]);
                VM.assertEq(claimed, _claimedFor(receivers[r], tokens[t]), "earnings are not the channels' sum");
                VM.assertEq(settled, _handler.settledTo(tokens[t], receivers[r]), "settled is not what was paid");
            }
        }
    }

    /// 6: a withdrawal has an amount exactly while it has a start.
    function _holds_6_withdrawals_are_whole_or_absent() private view {
        for (uint256 i = 0; i < _handler.CHANNELS(); ++i) {
            bytes32 id = SETTLEMENT.getChannelId(_handler.configOf(i));
            (uint128 amount, uint40 since) = SETTLEMENT.pendingWithdrawals(id);
            VM.assertTrue((amount == 0) == (since == 0), "half a withdrawal");
        }
    }

    /// Collectors pass money on; they never keep any.
    function _holds_9_collectors_hold_nothing() private view {
        address[2] memory tokens = _handler.tokens();
        for (uint256 t = 0; t < tokens.length; ++t) {
            VM.assertEq(IERC20(tokens[t]).balanceOf(0x4c45544845000000000000000000000000000001), 0);
            VM.assertEq(IERC20(tokens[t]).balanceOf(0x4020806089470a89826cB9fB1f4059150b550004), 0);
        }
    }

    function _unclaimedIn(address token) private view returns (uint256 sum) {
        for (uint256 i = 0; i < _handler.CHANNELS(); ++i) {
            IBatchSettlement.ChannelConfig memory config = _handler.configOf(i);
            if (config.token != token) continue;
            (uint128 balance, uint128 claimed) = SETTLEMENT.channels(SETTLEMENT.getChannelId(config));
            sum += balance - claimed;
        }
    }

    function _unsettledIn(address token) private view returns (uint256 sum) {
        address[2] memory receivers = _handler.receiversOfAll();
        for (uint256 r = 0; r < receivers.length; ++r) {
            (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(receivers[r], token);
            sum += claimed - settled;
        }
    }

    function _claimedFor(address receiver, address token) private view returns (uint256 sum) {
        for (uint256 i = 0; i < _handler.CHANNELS(); ++i) {
            IBatchSettlement.ChannelConfig memory config = _handler.configOf(i);
            if (config.token != token || config.receiver != receiver) continue;
            (, uint128 claimed) = SETTLEMENT.channels(SETTLEMENT.getChannelId(config));
            sum += claimed;
        }
    }
}
