// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";
import {SulkyToken} from "../doubles/Tokens.sol";

/// `settle`: what was claimed reaches the receiver, once.
contract SettleTest is SettlementScene {
    function test_anyone_may_have_the_receiver_paid() public {
        claim(openChannel(100), 30);

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Settled(receiver.addr, address(mor), stranger.addr, 30);
        VM.prank(stranger.addr);
        SETTLEMENT.settle(receiver.addr, address(mor));

        VM.assertEq(mor.balanceOf(receiver.addr), 30);
        VM.assertEq(mor.balanceOf(stranger.addr), 0);
        VM.assertEq(held(), 70);
        (uint128 totalClaimed, uint128 totalSettled) = SETTLEMENT.receivers(receiver.addr, address(mor));
        VM.assertEq(totalClaimed, 30);
        VM.assertEq(totalSettled, 30);
    }

    function test_pays_nothing_twice() public {
        claim(openChannel(100), 30);
        SETTLEMENT.settle(receiver.addr, address(mor));

        VM.recordLogs();
        SETTLEMENT.settle(receiver.addr, address(mor));

        VM.assertEq(VM.getRecordedLogs().length, 0);
        VM.assertEq(mor.balanceOf(receiver.addr), 30);
    }

    function test_pays_what_is_new_each_time() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        uint128[4] memory totals = [uint128(40), 50, 55, 100];
        for (uint256 i = 0; i < totals.length; ++i) {
            claim(config, totals[i]);
            SETTLEMENT.settle(receiver.addr, address(mor));
            VM.assertEq(mor.balanceOf(receiver.addr), totals[i]);
        }
    }

    function test_does_nothing_for_who_has_nothing_due() public {
        VM.recordLogs();
        SETTLEMENT.settle(stranger.addr, address(mor));
        VM.assertEq(VM.getRecordedLogs().length, 0);
    }

    function test_sweeps_all_channels_of_one_token_and_leaves_others() public {
        IBatchSettlement.ChannelConfig memory second = channelConfig(1);
        IBatchSettlement.ChannelConfig memory inUsd = channelConfig();
        inUsd.token = address(usd);
        claim(openChannel(100), 10);
        deposit(second, 100);
        claim(second, 20);
        deposit(inUsd, 100);
        claim(inUsd, 40);

        SETTLEMENT.settle(receiver.addr, address(mor));

        VM.assertEq(mor.balanceOf(receiver.addr), 30);
        VM.assertEq(usd.balanceOf(receiver.addr), 0);
        VM.assertEq(usd.balanceOf(address(SETTLEMENT)), 100);
    }

    function test_a_token_that_refuses_leaves_the_debt() public {
        claim(openChannel(100), 30);
        VM.etch(address(mor), type(SulkyToken).runtimeCode);

        VM.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(mor)));
        SETTLEMENT.settle(receiver.addr, address(mor));

        (uint128 totalClaimed, uint128 totalSettled) = SETTLEMENT.receivers(receiver.addr, address(mor));
        VM.assertEq(totalClaimed - totalSettled, 30);
    }

    /// Invariant 4.
    function testFuzz_pays_exactly_what_was_claimed_since(uint128 first, uint128 second) public {
        first = within128(first, 1, 1000);
        second = within128(second, first, 1000);
        IBatchSettlement.ChannelConfig memory config = openChannel(1000);

        claim(config, first);
        SETTLEMENT.settle(receiver.addr, address(mor));
        VM.assertEq(mor.balanceOf(receiver.addr), first);

        claim(config, second);
        SETTLEMENT.settle(receiver.addr, address(mor));
        VM.assertEq(mor.balanceOf(receiver.addr), second);
        VM.assertEq(held(), 1000 - second);
    }
}
