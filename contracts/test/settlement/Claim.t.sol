// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";
import {Wallet} from "../doubles/Wallet.sol";

/// `claim`: who may, up to what, on whose signature, and what a wrong row does to the others.
contract ClaimTest is SettlementScene {
    function test_records_what_is_due_and_moves_no_tokens() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, 50, 30));

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Claimed(SETTLEMENT.getChannelId(config), receiver.addr, 30, 30);
        VM.prank(receiver.addr);
        SETTLEMENT.claim(rows);

        VM.assertEq(claimedIn(config), 30);
        VM.assertEq(balanceIn(config), 100);
        VM.assertEq(held(), 100);
        (uint128 totalClaimed, uint128 totalSettled) = SETTLEMENT.receivers(receiver.addr, address(mor));
        VM.assertEq(totalClaimed, 30);
        VM.assertEq(totalSettled, 0);
    }

    function test_counts_only_what_is_new() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        claim(config, 30);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, 75));

        VM.expectEmit(address(SETTLEMENT));
        emit IBatchSettlement.Claimed(SETTLEMENT.getChannelId(config), receiverAuthorizer.addr, 45, 75);
        VM.prank(receiverAuthorizer.addr);
        SETTLEMENT.claim(rows);

        VM.assertEq(claimedIn(config), 75);
    }

    function test_takes_the_whole_escrow_and_not_a_unit_more() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        refuses(claimOf(config, 101), IBatchSettlement.ClaimExceedsBalance.selector);
        claim(config, 100);
        VM.assertEq(claimedIn(config), 100);
    }

    function test_is_for_the_receiver_and_its_authorizer_only() public {
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(openChannel(100), 30));
        address[3] memory others = [payer.addr, payerAuthorizer.addr, stranger.addr];
        for (uint256 i = 0; i < others.length; ++i) {
            VM.expectRevert(IBatchSettlement.NotAuthorizedToClaim.selector);
            VM.prank(others[i]);
            SETTLEMENT.claim(rows);
        }
    }

    function test_every_row_has_to_be_the_callers() public {
        IBatchSettlement.ChannelConfig memory ours = openChannel(100);
        IBatchSettlement.ChannelConfig memory theirs = channelConfig();
        theirs.receiver = stranger.addr;
        theirs.receiverAuthorizer = stranger.addr;
        deposit(theirs, 100);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(ours, 30), claimOf(theirs, 30));

        VM.expectRevert(IBatchSettlement.NotAuthorizedToClaim.selector);
        VM.prank(receiver.addr);
        SETTLEMENT.claim(rows);
    }

    function test_refuses_an_empty_batch() public {
        VM.expectRevert(IBatchSettlement.EmptyBatch.selector);
        SETTLEMENT.claim(new IBatchSettlement.VoucherClaim[](0));
    }

    function test_skips_old_rows_without_looking_at_their_signature() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        claim(config, 30);
        IBatchSettlement.VoucherClaim memory equal = claimOf(config, 30);
        equal.signature = "no signature at all";
        IBatchSettlement.VoucherClaim memory lower = claimOf(config, 10, 29); // even above its own ceiling

        VM.recordLogs();
        VM.prank(receiver.addr);
        SETTLEMENT.claim(batch(equal, lower));

        VM.assertEq(VM.getRecordedLogs().length, 0);
        VM.assertEq(claimedIn(config), 30);
    }

    function test_refuses_more_than_the_voucher_allows() public {
        refuses(claimOf(openChannel(100), 30, 31), IBatchSettlement.ClaimExceedsCeiling.selector);
    }

    function test_one_wrong_row_undoes_the_batch() public {
        IBatchSettlement.ChannelConfig memory good = openChannel(100);
        IBatchSettlement.ChannelConfig memory bad = channelConfig(1);
        deposit(bad, 100);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(good, 30), claimOf(bad, 30, 31));

        VM.expectRevert(IBatchSettlement.ClaimExceedsCeiling.selector);
        VM.prank(receiver.addr);
        SETTLEMENT.claim(rows);

        VM.assertEq(claimedIn(good), 0);
    }

    function test_a_batch_may_span_channels_and_repeat_one() public {
        IBatchSettlement.ChannelConfig memory first = openChannel(100);
        IBatchSettlement.ChannelConfig memory second = channelConfig(1);
        deposit(second, 100);

        VM.startPrank(receiver.addr);
        SETTLEMENT.claim(batch(claimOf(first, 10), claimOf(second, 20)));
        SETTLEMENT.claim(batch(claimOf(first, 15), claimOf(first, 25)));
        VM.stopPrank();

        VM.assertEq(claimedIn(first), 25);
        VM.assertEq(claimedIn(second), 20);
        (uint128 totalClaimed,) = SETTLEMENT.receivers(receiver.addr, address(mor));
        VM.assertEq(totalClaimed, 45);
    }

    function test_with_an_authorizer_the_payers_own_signature_does_not_count() public {
        refuses(claimBy(payer, openChannel(100), 30, 30), IBatchSettlement.InvalidSignature.selector);
    }

    function test_refuses_a_strangers_signature() public {
        refuses(claimBy(stranger, openChannel(100), 30, 30), IBatchSettlement.InvalidSignature.selector);
    }

    function test_refuses_a_signature_over_another_ceiling() public {
        IBatchSettlement.VoucherClaim memory row = claimOf(openChannel(100), 30);
        row.voucher.maxClaimableAmount = 31;
        refuses(row, IBatchSettlement.InvalidSignature.selector);
    }

    function test_refuses_a_voucher_of_another_channel() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        IBatchSettlement.VoucherClaim memory row = claimOf(channelConfig(1), 30);
        row.voucher.channel = config;
        refuses(row, IBatchSettlement.InvalidSignature.selector);
    }

    function test_refuses_a_voucher_of_another_chain() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        VM.chainId(1);
        IBatchSettlement.VoucherClaim memory foreign = claimOf(config, 30);
        VM.chainId(31_337);
        refuses(foreign, IBatchSettlement.InvalidSignature.selector);
    }

    function test_a_channel_is_another_on_another_chain() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        VM.chainId(1);
        refuses(claimOf(config, 30), IBatchSettlement.ClaimExceedsBalance.selector);
    }

    function test_refuses_a_malformed_signature() public {
        IBatchSettlement.VoucherClaim memory row = claimOf(openChannel(100), 30);
        row.signature = hex"1234";
        VM.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureLength.selector, 2));
        VM.prank(receiver.addr);
        SETTLEMENT.claim(batch(row));
    }

    function test_refuses_a_signature_that_nobody_made() public {
        IBatchSettlement.VoucherClaim memory row = claimOf(openChannel(100), 30);
        row.signature[64] = 0x05; // no such parity
        refuses(row, ECDSA.ECDSAInvalidSignature.selector);
    }

    function test_refuses_the_mirrored_form_of_a_signature() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        IBatchSettlement.VoucherClaim memory row = claimOf(config, 30);
        bytes32 digest = SETTLEMENT.getVoucherDigest(SETTLEMENT.getChannelId(config), 30);
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(payerAuthorizer.key, digest);
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes32 mirrored = bytes32(order - uint256(s));
        row.signature = abi.encodePacked(r, mirrored, v == 27 ? uint8(28) : uint8(27));

        VM.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, mirrored));
        VM.prank(receiver.addr);
        SETTLEMENT.claim(batch(row));
    }

    function test_without_authorizer_the_payer_signs() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.payerAuthorizer = address(0);
        deposit(config, 100);

        refuses(claimBy(payerAuthorizer, config, 30, 30), IBatchSettlement.InvalidSignature.selector);
        claim(config, 30);

        VM.assertEq(claimedIn(config), 30);
    }

    function test_without_authorizer_a_contract_wallet_may_sign() public {
        Wallet wallet = new Wallet(payer.addr);
        mor.mint(address(wallet), 100);
        wallet.approve(mor, address(ALLOWANCES), 100);
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.payer = address(wallet);
        config.payerAuthorizer = address(0);
        deposit(config, 100);

        refuses(claimBy(stranger, config, 30, 30), IBatchSettlement.InvalidSignature.selector);
        claim(config, 30);

        VM.assertEq(claimedIn(config), 30);
    }

    function test_an_authorizer_that_is_a_contract_cannot_sign() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.payerAuthorizer = address(new Wallet(payerAuthorizer.addr));
        deposit(config, 100);
        refuses(claimOf(config, 30), IBatchSettlement.InvalidSignature.selector);
    }

    function testFuzz_the_highest_valid_claim_counts(uint128[8] memory ceilings, uint128[8] memory totals) public {
        uint128 escrow = 1000;
        IBatchSettlement.ChannelConfig memory config = openChannel(escrow);
        uint128 highest;
        for (uint256 i = 0; i < ceilings.length; ++i) {
            uint128 ceiling = within128(ceilings[i], 0, 1200);
            uint128 total = within128(totals[i], 0, 1200);
            IBatchSettlement.VoucherClaim memory row = claimOf(config, ceiling, total);
            if (total > highest && total > ceiling) {
                refuses(row, IBatchSettlement.ClaimExceedsCeiling.selector);
            } else if (total > highest && total > escrow) {
                refuses(row, IBatchSettlement.ClaimExceedsBalance.selector);
            } else {
                VM.prank(receiver.addr);
                SETTLEMENT.claim(batch(row));
                if (total > highest) highest = total;
            }
            VM.assertEq(claimedIn(config), highest);
        }
    }

    function refuses(IBatchSettlement.VoucherClaim memory row, bytes4 why) private {
        VM.expectRevert(why);
        VM.prank(receiver.addr);
        SETTLEMENT.claim(batch(row));
    }
}
