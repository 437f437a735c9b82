// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";
import {Wallet} from "../doubles/Wallet.sol";

/// `claimWithSignature`: the authorizer signs exactly these rows, anyone brings them.
contract ClaimWithSignatureTest is SettlementScene {
    function test_anyone_may_bring_the_authorizers_signature() public {
        IBatchSettlement.ChannelConfig memory first = openChannel(100);
        IBatchSettlement.ChannelConfig memory second = channelConfig(1);
        deposit(second, 100);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(first, 10), claimOf(second, 20));
        bytes memory signature = sign(receiverAuthorizer, SETTLEMENT.getClaimBatchDigest(rows));

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Claimed(SETTLEMENT.getChannelId(first), stranger.addr, 10, 10);
        VM.prank(stranger.addr);
        SETTLEMENT.claimWithSignature(rows, signature);

        VM.assertEq(claimedIn(first), 10);
        VM.assertEq(claimedIn(second), 20);
    }

    function test_bringing_it_again_changes_nothing() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, 10));
        bytes memory signature = sign(receiverAuthorizer, SETTLEMENT.getClaimBatchDigest(rows));
        SETTLEMENT.claimWithSignature(rows, signature);

        VM.recordLogs();
        SETTLEMENT.claimWithSignature(rows, signature);

        VM.assertEq(VM.getRecordedLogs().length, 0);
        VM.assertEq(claimedIn(config), 10);
    }

    function test_refuses_another_signer_even_the_receiver() public {
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(openChannel(100), 10));
        bytes32 digest = SETTLEMENT.getClaimBatchDigest(rows);
        refuses(rows, sign(receiver, digest), IBatchSettlement.InvalidSignature.selector);
        refuses(rows, sign(payerAuthorizer, digest), IBatchSettlement.InvalidSignature.selector);
        refuses(rows, "", IBatchSettlement.InvalidSignature.selector);
    }

    function test_refuses_rows_that_were_not_signed() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes memory signature =
            sign(receiverAuthorizer, SETTLEMENT.getClaimBatchDigest(batch(claimOf(config, 50, 10))));
        refuses(batch(claimOf(config, 50, 11)), signature, IBatchSettlement.InvalidSignature.selector);
        refuses(batch(claimOf(config, 51, 10)), signature, IBatchSettlement.InvalidSignature.selector);
        refuses(
            batch(claimOf(config, 50, 10), claimOf(config, 50, 11)),
            signature,
            IBatchSettlement.InvalidSignature.selector
        );
    }

    function test_refuses_rows_of_two_authorizers() public {
        IBatchSettlement.ChannelConfig memory ours = openChannel(100);
        IBatchSettlement.ChannelConfig memory theirs = channelConfig();
        theirs.receiverAuthorizer = stranger.addr;
        deposit(theirs, 100);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(ours, 10), claimOf(theirs, 10));
        bytes memory signature = sign(receiverAuthorizer, SETTLEMENT.getClaimBatchDigest(rows));
        refuses(rows, signature, IBatchSettlement.NotReceiverAuthorizer.selector);
        VM.assertEq(claimedIn(ours), 0);
    }

    function test_the_payers_voucher_is_needed_all_the_same() public {
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimBy(receiverAuthorizer, openChannel(100), 10, 10));
        bytes memory signature = sign(receiverAuthorizer, SETTLEMENT.getClaimBatchDigest(rows));
        refuses(rows, signature, IBatchSettlement.InvalidSignature.selector);
    }

    function test_the_authorizer_may_be_a_contract() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.receiverAuthorizer = address(new Wallet(receiverAuthorizer.addr));
        deposit(config, 100);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, 10));

        SETTLEMENT.claimWithSignature(rows, sign(receiverAuthorizer, SETTLEMENT.getClaimBatchDigest(rows)));

        VM.assertEq(claimedIn(config), 10);
    }

    function test_nobody_signs_for_the_zero_authorizer() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.receiverAuthorizer = address(0);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, 10));
        bytes memory nobodys = abi.encodePacked(bytes32(0), bytes32(0), uint8(27));
        refuses(rows, nobodys, IBatchSettlement.InvalidSignature.selector);
        refuses(rows, new bytes(65), IBatchSettlement.InvalidSignature.selector);
    }

    function test_refuses_an_empty_batch_though_its_digest_exists() public {
        IBatchSettlement.VoucherClaim[] memory none = new IBatchSettlement.VoucherClaim[](0);
        bytes memory signature = sign(receiverAuthorizer, SETTLEMENT.getClaimBatchDigest(none));
        refuses(none, signature, IBatchSettlement.EmptyBatch.selector);
    }

    function refuses(IBatchSettlement.VoucherClaim[] memory rows, bytes memory signature, bytes4 why) private {
        VM.expectRevert(why);
        SETTLEMENT.claimWithSignature(rows, signature);
    }
}
