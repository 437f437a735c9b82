// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";

/// `initiateWithdraw`: the payer side asks, nothing moves.
contract InitiateWithdrawTest is SettlementScene {
    function test_payer_and_payer_authorizer_may_start() public {
        address[2] memory sides = [payer.addr, payerAuthorizer.addr];
        for (uint256 salt = 0; salt < sides.length; ++salt) {
            IBatchSettlement.ChannelConfig memory config = channelConfig(salt);
            deposit(config, 100);

            VM.expectEmit(address(SETTLEMENT));
            emit IBatchSettlement.WithdrawInitiated(SETTLEMENT.getChannelId(config), 60, uint40(START) + DELAY);
            VM.prank(sides[salt]);
            SETTLEMENT.initiateWithdraw(config, 60);

            (uint128 amount, uint40 initiatedAt) = pendingIn(config);
            VM.assertEq(amount, 60);
            VM.assertEq(initiatedAt, START);
        }
        VM.assertEq(held(), 200); // nothing moves yet
    }

    function test_nobody_else_may() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        address[3] memory others = [receiver.addr, receiverAuthorizer.addr, stranger.addr];
        for (uint256 i = 0; i < others.length; ++i) {
            refuses(others[i], config, 1, IBatchSettlement.InvalidChannel.selector);
        }
    }

    function test_refuses_nothing() public {
        refuses(payer.addr, openChannel(100), 0, IBatchSettlement.NothingToWithdraw.selector);
    }

    function test_refuses_more_than_is_unclaimed() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        claim(config, 30);
        refuses(payer.addr, config, 71, IBatchSettlement.WithdrawAmountExceedsAvailable.selector);
        VM.prank(payer.addr);
        SETTLEMENT.initiateWithdraw(config, 70);
    }

    function test_refuses_a_second_one_meanwhile() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        VM.prank(payer.addr);
        SETTLEMENT.initiateWithdraw(config, 10);
        refuses(payerAuthorizer.addr, config, 10, IBatchSettlement.WithdrawalAlreadyPending.selector);
    }

    function test_refuses_a_channel_that_was_never_opened() public {
        refuses(payer.addr, channelConfig(), 1, IBatchSettlement.WithdrawAmountExceedsAvailable.selector);
    }

    function refuses(address caller, IBatchSettlement.ChannelConfig memory config, uint128 amount, bytes4 why) private {
        VM.expectRevert(why);
        VM.prank(caller);
        SETTLEMENT.initiateWithdraw(config, amount);
    }
}

/// `finalizeWithdraw`: after the delay the payer gets what is then unclaimed.
contract FinalizeWithdrawTest is SettlementScene {
    function test_pays_the_payer_whoever_of_its_side_ends_it() public {
        address[2] memory sides = [payer.addr, payerAuthorizer.addr];
        for (uint256 salt = 0; salt < sides.length; ++salt) {
            IBatchSettlement.ChannelConfig memory config = channelConfig(salt);
            deposit(config, 100);
            start(config, 60);
            uint256 before = mor.balanceOf(payer.addr);
            VM.warp(VM.getBlockTimestamp() + DELAY);

            VM.expectEmit(address(SETTLEMENT));
            emit IBatchSettlement.WithdrawFinalized(SETTLEMENT.getChannelId(config), sides[salt], 60);
            VM.prank(sides[salt]);
            SETTLEMENT.finalizeWithdraw(config);

            VM.assertEq(mor.balanceOf(payer.addr) - before, 60);
            VM.assertEq(balanceIn(config), 40);
            nothingPending(config);
        }
    }

    function test_nobody_else_may() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        start(config, 60);
        VM.warp(START + DELAY);
        address[3] memory others = [receiver.addr, receiverAuthorizer.addr, stranger.addr];
        for (uint256 i = 0; i < others.length; ++i) {
            refuses(others[i], config, IBatchSettlement.NotAuthorizedToFinalizeWithdraw.selector);
        }
    }

    function test_refuses_when_none_was_started() public {
        refuses(payer.addr, openChannel(100), IBatchSettlement.WithdrawalNotPending.selector);
    }

    function test_refuses_a_second_before_the_delay_is_over() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        start(config, 60);
        VM.warp(START + DELAY - 1);
        refuses(payer.addr, config, IBatchSettlement.WithdrawDelayNotElapsed.selector);
    }

    function test_a_claim_within_the_delay_comes_first() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        start(config, 100);
        VM.warp(START + DELAY);
        claim(config, 70);

        VM.prank(payer.addr);
        SETTLEMENT.finalizeWithdraw(config);

        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 70);
        VM.assertEq(balanceIn(config), 70);
        SETTLEMENT.settle(receiver.addr, address(mor));
        VM.assertEq(mor.balanceOf(receiver.addr), 70);
    }

    function test_ends_with_nothing_when_all_was_claimed() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        start(config, 100);
        claim(config, 100);
        VM.warp(START + DELAY);

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.WithdrawFinalized(SETTLEMENT.getChannelId(config), payer.addr, 0);
        VM.prank(payer.addr);
        SETTLEMENT.finalizeWithdraw(config);

        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 100);
        nothingPending(config);
    }

    function test_a_signed_voucher_reserves_nothing() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, 70));
        start(config, 100);
        VM.warp(START + DELAY);
        VM.prank(payer.addr);
        SETTLEMENT.finalizeWithdraw(config);

        VM.expectRevert(IBatchSettlement.ClaimExceedsBalance.selector);
        VM.prank(receiver.addr);
        SETTLEMENT.claim(rows);
    }

    function test_announces_the_end_of_a_channel_that_was_never_claimed_on() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        start(config, 100);
        VM.warp(START + DELAY);

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.WithdrawFinalized(SETTLEMENT.getChannelId(config), payer.addr, 100);
        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.ChannelClosed(SETTLEMENT.getChannelId(config), config);
        VM.prank(payer.addr);
        SETTLEMENT.finalizeWithdraw(config);
    }

    function test_announces_no_end_while_something_is_left_or_was_claimed() public {
        IBatchSettlement.ChannelConfig memory partly = channelConfig(1);
        deposit(partly, 100);
        start(partly, 60);
        IBatchSettlement.ChannelConfig memory claimed = channelConfig(2);
        deposit(claimed, 100);
        claim(claimed, 40);
        start(claimed, 60);
        VM.warp(START + DELAY);

        VM.recordLogs();
        VM.startPrank(payer.addr);
        SETTLEMENT.finalizeWithdraw(partly);
        SETTLEMENT.finalizeWithdraw(claimed);
        VM.stopPrank();

        bytes32 closed = IBatchSettlement.ChannelClosed.selector;
        VM.assertEq(countLogs(VM.getRecordedLogs(), address(SETTLEMENT), closed), 0);
    }

    function test_the_channels_own_delay_counts() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.withdrawDelay = 15 minutes;
        deposit(config, 100);
        start(config, 100);
        VM.warp(START + 15 minutes - 1);
        refuses(payer.addr, config, IBatchSettlement.WithdrawDelayNotElapsed.selector);
        VM.warp(START + 15 minutes);
        VM.prank(payer.addr);
        SETTLEMENT.finalizeWithdraw(config);
        VM.assertEq(balanceIn(config), 0);
    }

    function test_can_be_started_again() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        start(config, 60);
        VM.warp(START + DELAY);
        VM.prank(payer.addr);
        SETTLEMENT.finalizeWithdraw(config);
        start(config, 40);
        refuses(payer.addr, config, IBatchSettlement.WithdrawDelayNotElapsed.selector);
    }

    function testFuzz_pays_what_was_asked_or_what_is_left(uint128 asked, uint128 claimed, uint40 waited) public {
        asked = within128(asked, 1, 1000);
        claimed = within128(claimed, 0, 1000);
        IBatchSettlement.ChannelConfig memory config = openChannel(1000);
        start(config, asked);
        if (claimed > 0) claim(config, claimed);
        VM.warp(START + waited);
        if (waited < DELAY) return refuses(payer.addr, config, IBatchSettlement.WithdrawDelayNotElapsed.selector);

        VM.prank(payer.addr);
        SETTLEMENT.finalizeWithdraw(config);

        uint256 paid = asked < 1000 - claimed ? asked : 1000 - claimed;
        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 1000 + paid);
        VM.assertEq(balanceIn(config), 1000 - paid);
        VM.assertEq(held(), 1000 - paid);
    }

    function start(IBatchSettlement.ChannelConfig memory config, uint128 amount) private {
        VM.prank(payer.addr);
        SETTLEMENT.initiateWithdraw(config, amount);
    }

    function nothingPending(IBatchSettlement.ChannelConfig memory config) private view {
        (uint128 amount, uint40 initiatedAt) = pendingIn(config);
        VM.assertEq(amount, 0);
        VM.assertEq(initiatedAt, 0);
    }

    function refuses(address caller, IBatchSettlement.ChannelConfig memory config, bytes4 why) private {
        VM.expectRevert(why);
        VM.prank(caller);
        SETTLEMENT.finalizeWithdraw(config);
    }
}
