// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";
import {PocketCollector} from "../doubles/Collectors.sol";
import {FeeToken} from "../doubles/Tokens.sol";

/// `deposit`: which channels and amounts are taken, and that only the balance is believed.
contract DepositTest is SettlementScene {
    function test_adds_to_the_escrow_and_announces_the_channel() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        bytes32 id = SETTLEMENT.getChannelId(config);
        bytes memory data = allowanceData(payer, config, 100);

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.ChannelCreated(id, config);
        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Deposited(id, stranger.addr, 100, 100);
        VM.prank(stranger.addr); // anyone may bring the payer's signature
        SETTLEMENT.deposit(config, 100, address(ALLOWANCES), data);

        VM.assertEq(balanceIn(config), 100);
        VM.assertEq(claimedIn(config), 0);
        VM.assertEq(held(), 100);
        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 100);
    }

    function test_tops_up_without_announcing_again() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);

        VM.recordLogs();
        deposit(config, 20);

        VM.assertEq(countOf(IBatchSettlement.ChannelCreated.selector), 0);
        VM.assertEq(balanceIn(config), 120);
    }

    function test_announces_again_after_a_full_drain() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 100);

        VM.recordLogs();
        deposit(config, 20);

        VM.assertEq(countOf(IBatchSettlement.ChannelCreated.selector), 1);
    }

    function test_does_not_announce_again_once_something_was_claimed() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        claim(config, 40);
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 60);

        VM.recordLogs();
        deposit(config, 20);

        VM.assertEq(countOf(IBatchSettlement.ChannelCreated.selector), 0);
        VM.assertEq(balanceIn(config), 60);
    }

    function test_refuses_a_channel_without_payer() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.payer = address(0);
        refuses(config, 1, IBatchSettlement.InvalidChannel.selector);
    }

    function test_refuses_a_channel_without_receiver() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.receiver = address(0);
        refuses(config, 1, IBatchSettlement.InvalidChannel.selector);
    }

    function test_refuses_a_channel_without_receiver_authorizer() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.receiverAuthorizer = address(0);
        refuses(config, 1, IBatchSettlement.InvalidChannel.selector);
    }

    function test_refuses_a_channel_without_token() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.token = address(0);
        refuses(config, 1, IBatchSettlement.InvalidChannel.selector);
    }

    function test_takes_a_channel_without_payer_authorizer() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.payerAuthorizer = address(0);
        deposit(config, 1);
        VM.assertEq(balanceIn(config), 1);
    }

    function testFuzz_takes_delays_from_a_quarter_of_an_hour_to_thirty_days(uint40 delay) public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.withdrawDelay = delay;
        if (delay < 900 || delay > 2_592_000) {
            refuses(config, 1, IBatchSettlement.WithdrawDelayOutOfRange.selector);
        } else {
            deposit(config, 1);
        }
    }

    function test_takes_the_first_and_the_last_delay_and_refuses_their_neighbours() public {
        testFuzz_takes_delays_from_a_quarter_of_an_hour_to_thirty_days(899);
        testFuzz_takes_delays_from_a_quarter_of_an_hour_to_thirty_days(900);
        testFuzz_takes_delays_from_a_quarter_of_an_hour_to_thirty_days(2_592_000);
        testFuzz_takes_delays_from_a_quarter_of_an_hour_to_thirty_days(2_592_001);
    }

    function test_refuses_nothing() public {
        refuses(channelConfig(), 0, IBatchSettlement.ZeroDeposit.selector);
    }

    function test_refuses_no_collector() public {
        VM.expectRevert(IBatchSettlement.InvalidCollector.selector);
        SETTLEMENT.deposit(channelConfig(), 1, address(0), "");
    }

    function test_refuses_more_than_a_channel_can_hold() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        mor.mint(payer.addr, type(uint128).max);
        deposit(config, type(uint128).max);
        refuses(config, 1, IBatchSettlement.DepositOverflow.selector);
    }

    function test_refuses_a_collector_or_token_that_is_no_contract() public {
        VM.expectRevert();
        SETTLEMENT.deposit(channelConfig(), 1, stranger.addr, "");
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.token = stranger.addr;
        VM.expectRevert();
        SETTLEMENT.deposit(config, 1, address(ALLOWANCES), "");
    }

    function test_any_collector_may_be_named() public {
        PocketCollector collector = new PocketCollector(0);
        mor.mint(address(collector), 100);
        IBatchSettlement.ChannelConfig memory config = channelConfig();

        SETTLEMENT.deposit(config, 100, address(collector), "");

        VM.assertEq(balanceIn(config), 100);
        VM.assertEq(mor.balanceOf(payer.addr), WEALTH);
    }

    function test_believes_no_collector_that_brings_less_or_more() public {
        for (int256 surplus = -1; surplus <= 1; surplus += 2) {
            PocketCollector collector = new PocketCollector(surplus);
            mor.mint(address(collector), 1000);
            VM.expectRevert(IBatchSettlement.DepositCollectionFailed.selector);
            SETTLEMENT.deposit(channelConfig(), 100, address(collector), "");
        }
    }

    function test_refuses_a_token_that_keeps_a_fee() public {
        FeeToken token = new FeeToken(payer.addr);
        VM.prank(payer.addr);
        token.approve(address(ALLOWANCES), 1 ether);
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.token = address(token);
        refuses(config, 100, IBatchSettlement.DepositCollectionFailed.selector);
    }

    function testFuzz_sums_deposits(uint128 first, uint128 second) public {
        first = within128(first, 1, WEALTH / 2);
        second = within128(second, 1, WEALTH / 2);
        IBatchSettlement.ChannelConfig memory config = openChannel(first);
        deposit(config, second);
        VM.assertEq(balanceIn(config), uint256(first) + second);
        VM.assertEq(held(), uint256(first) + second);
    }

    function refuses(IBatchSettlement.ChannelConfig memory config, uint128 amount, bytes4 why) private {
        bytes memory data = allowanceData(payer, config, amount);
        VM.expectRevert(why);
        SETTLEMENT.deposit(config, amount, address(ALLOWANCES), data);
    }

    function countOf(bytes32 topic) private returns (uint256 count) {
        return countLogs(VM.getRecordedLogs(), address(SETTLEMENT), topic);
    }
}
