// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";
import {Wallet} from "../doubles/Wallet.sol";

/// `refund`: the receiver side gives back at once.
contract RefundTest is SettlementScene {
    function test_gives_back_to_the_payer_at_once() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Refunded(SETTLEMENT.getChannelId(config), receiver.addr, 60);
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 60);

        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 40);
        VM.assertEq(balanceIn(config), 40);
        VM.assertEq(nonceOf(config), 1);
    }

    function test_is_for_the_receiver_and_its_authorizer_only() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        address[3] memory others = [payer.addr, payerAuthorizer.addr, stranger.addr];
        for (uint256 i = 0; i < others.length; ++i) {
            refuses(others[i], config, 1, IBatchSettlement.NotAuthorizedToRefund.selector);
        }
        VM.prank(receiverAuthorizer.addr);
        SETTLEMENT.refund(config, 1);
        VM.assertEq(balanceIn(config), 99);
    }

    function test_refuses_nothing_and_keeps_the_nonce() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        refuses(receiver.addr, config, 0, IBatchSettlement.ZeroRefund.selector);
        VM.assertEq(nonceOf(config), 0);
    }

    function test_gives_at_most_what_is_unclaimed() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        claim(config, 30);

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Refunded(SETTLEMENT.getChannelId(config), receiver.addr, 70);
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, type(uint128).max);

        VM.assertEq(balanceIn(config), 30);
        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 30);
    }

    function test_one_that_moves_nothing_still_spends_the_nonce() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        claim(config, 100);

        VM.recordLogs();
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 5);

        VM.assertEq(VM.getRecordedLogs().length, 0);
        VM.assertEq(nonceOf(config), 1);
        VM.assertEq(held(), 100);
    }

    function test_announces_the_end_of_a_channel_that_was_never_claimed_on() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Refunded(SETTLEMENT.getChannelId(config), receiver.addr, 100);
        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.ChannelClosed(SETTLEMENT.getChannelId(config), config);
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 100);
    }

    function test_announces_no_end_while_something_is_left_or_was_claimed() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        claim(config, 40);

        VM.recordLogs();
        VM.startPrank(receiver.addr);
        SETTLEMENT.refund(config, 10);
        SETTLEMENT.refund(config, 50);
        VM.stopPrank();

        bytes32 closed = IBatchSettlement.ChannelClosed.selector;
        VM.assertEq(countLogs(VM.getRecordedLogs(), address(SETTLEMENT), closed), 0);
        VM.assertEq(balanceIn(config), 40);
    }

    function test_leaves_no_trace_of_a_withdrawal_where_none_is_under_way() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 25);
        (uint128 amount, uint40 initiatedAt) = pendingIn(config);
        VM.assertEq(amount, 0);
        VM.assertEq(initiatedAt, 0);
    }

    function test_shrinks_a_withdrawal_under_way() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        VM.prank(payer.addr);
        SETTLEMENT.initiateWithdraw(config, 60);

        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 25);

        (uint128 amount, uint40 initiatedAt) = pendingIn(config);
        VM.assertEq(amount, 35);
        VM.assertEq(initiatedAt, START);
    }

    function test_ends_a_withdrawal_that_it_covers() public {
        for (uint128 refunded = 60; refunded <= 61; ++refunded) {
            IBatchSettlement.ChannelConfig memory config = channelConfig(refunded);
            deposit(config, 100);
            VM.prank(payer.addr);
            SETTLEMENT.initiateWithdraw(config, 60);

            VM.prank(receiver.addr);
            SETTLEMENT.refund(config, refunded);

            (uint128 amount, uint40 initiatedAt) = pendingIn(config);
            VM.assertEq(amount, 0);
            VM.assertEq(initiatedAt, 0);
        }
    }

    /// Invariant 5.
    function testFuzz_gives_exactly_what_was_asked_or_what_is_left(uint128 asked, uint128 claimed) public {
        asked = within128(asked, 1, 2000);
        claimed = within128(claimed, 0, 1000);
        IBatchSettlement.ChannelConfig memory config = openChannel(1000);
        if (claimed > 0) claim(config, claimed);

        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, asked);

        uint256 paid = asked < 1000 - claimed ? asked : 1000 - claimed;
        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 1000 + paid);
        VM.assertEq(balanceIn(config), 1000 - paid);
        VM.assertEq(claimedIn(config), claimed);
    }

    function refuses(address caller, IBatchSettlement.ChannelConfig memory config, uint128 amount, bytes4 why) private {
        VM.expectRevert(why);
        VM.prank(caller);
        SETTLEMENT.refund(config, amount);
    }

    function nonceOf(IBatchSettlement.ChannelConfig memory config) private view returns (uint256) {
        return SETTLEMENT.refundNonce(SETTLEMENT.getChannelId(config));
    }
}

/// `refundWithSignature`: the authorizer signs amount and nonce, anyone brings them.
contract RefundWithSignatureTest is SettlementScene {
    function test_anyone_may_bring_the_authorizers_signature() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes memory signature = signed(receiverAuthorizer, config, 0, 60);

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Refunded(SETTLEMENT.getChannelId(config), stranger.addr, 60);
        VM.prank(stranger.addr);
        SETTLEMENT.refundWithSignature(config, 60, 0, signature);

        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 40);
        VM.assertEq(mor.balanceOf(stranger.addr), 0);
    }

    function test_works_once() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes memory signature = signed(receiverAuthorizer, config, 0, 60);
        SETTLEMENT.refundWithSignature(config, 60, 0, signature);
        refuses(config, 60, 0, signature, IBatchSettlement.InvalidRefundNonce.selector);
        refuses(config, 60, 1, signature, IBatchSettlement.InvalidSignature.selector);
    }

    function test_works_once_though_the_channel_was_emptied() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes memory signature = signed(receiverAuthorizer, config, 0, 100);
        SETTLEMENT.refundWithSignature(config, 100, 0, signature);
        deposit(config, 100);
        refuses(config, 100, 0, signature, IBatchSettlement.InvalidRefundNonce.selector);
    }

    function test_a_direct_refund_spends_the_same_nonce() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes memory signature = signed(receiverAuthorizer, config, 0, 60);
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 1);
        refuses(config, 60, 0, signature, IBatchSettlement.InvalidRefundNonce.selector);
    }

    function test_refuses_a_nonce_ahead_of_its_time() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes memory signature = signed(receiverAuthorizer, config, 1, 60);
        refuses(config, 60, 1, signature, IBatchSettlement.InvalidRefundNonce.selector);
    }

    function test_refuses_another_signer_amount_or_channel() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes4 why = IBatchSettlement.InvalidSignature.selector;
        refuses(config, 60, 0, signed(receiver, config, 0, 60), why);
        refuses(config, 60, 0, signed(payer, config, 0, 60), why);
        refuses(config, 61, 0, signed(receiverAuthorizer, config, 0, 60), why);
        refuses(config, 60, 0, signed(receiverAuthorizer, channelConfig(1), 0, 60), why);
        refuses(config, 60, 0, "", why);
    }

    function test_refuses_nothing() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        refuses(config, 0, 0, signed(receiverAuthorizer, config, 0, 0), IBatchSettlement.ZeroRefund.selector);
    }

    function test_the_authorizer_may_be_a_contract() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.receiverAuthorizer = address(new Wallet(receiverAuthorizer.addr));
        deposit(config, 100);
        SETTLEMENT.refundWithSignature(config, 60, 0, signed(receiverAuthorizer, config, 0, 60));
        VM.assertEq(balanceIn(config), 40);
    }

    function test_nobody_signs_for_the_zero_authorizer() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.receiverAuthorizer = address(0);
        bytes memory nobodys = abi.encodePacked(bytes32(0), bytes32(0), uint8(27));
        refuses(config, 60, 0, nobodys, IBatchSettlement.InvalidSignature.selector);
        refuses(config, 60, 0, new bytes(65), IBatchSettlement.InvalidSignature.selector);
    }

    function signed(
        Signer memory who,
        IBatchSettlement.ChannelConfig memory config,
        uint256 nonce,
        uint128 amount
    ) private view returns (bytes memory) {
        return sign(who, SETTLEMENT.getRefundDigest(SETTLEMENT.getChannelId(config), nonce, amount));
    }

    function refuses(
        IBatchSettlement.ChannelConfig memory config,
        uint128 amount,
        uint256 nonce,
        bytes memory signature,
        bytes4 why
    ) private {
        VM.expectRevert(why);
        SETTLEMENT.refundWithSignature(config, amount, nonce, signature);
    }
}
