// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";

/// What can be asked: constants, and the books of channels that exist and of those that do not.
contract ViewsTest is SettlementScene {
    function test_the_limits_of_the_delay() public view {
        VM.assertEq(SETTLEMENT.MIN_WITHDRAW_DELAY(), 900);
        VM.assertEq(SETTLEMENT.MAX_WITHDRAW_DELAY(), 2_592_000);
    }

    function test_the_types_that_are_signed() public view {
        string memory config = "ChannelConfig(address payer,address payerAuthorizer,address receiver,"
            "address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)";
        string memory entry = "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)";
        VM.assertEq(SETTLEMENT.CHANNEL_CONFIG_TYPEHASH(), hashOf(config));
        VM.assertEq(SETTLEMENT.VOUCHER_TYPEHASH(), hashOf("Voucher(bytes32 channelId,uint128 maxClaimableAmount)"));
        VM.assertEq(SETTLEMENT.REFUND_TYPEHASH(), hashOf("Refund(bytes32 channelId,uint256 nonce,uint128 amount)"));
        VM.assertEq(SETTLEMENT.CLAIM_ENTRY_TYPEHASH(), hashOf(entry));
        VM.assertEq(SETTLEMENT.CLAIM_BATCH_TYPEHASH(), hashOf(string.concat("ClaimBatch(ClaimEntry[] claims)", entry)));
        VM.assertEq(
            ALLOWANCES.ALLOWANCE_DEPOSIT_TYPEHASH(),
            hashOf("AllowanceDeposit(bytes32 channelId,address token,uint128 amount,uint256 nonce,uint256 deadline)")
        );
    }

    function test_a_channel_that_nobody_opened_is_all_zeros() public view {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        (uint128 amount, uint40 initiatedAt) = pendingIn(config);
        (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(receiver.addr, address(mor));
        VM.assertEq(balanceIn(config) + claimedIn(config) + amount + claimed + settled, 0);
        VM.assertEq(initiatedAt + SETTLEMENT.refundNonce(SETTLEMENT.getChannelId(config)), 0);
    }

    function test_a_channel_in_use_says_each_sum_by_itself() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        claim(config, 30);
        SETTLEMENT.settle(receiver.addr, address(mor));
        claim(config, 35);
        VM.prank(payer.addr);
        SETTLEMENT.initiateWithdraw(config, 20);
        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 7);

        VM.assertEq(balanceIn(config), 93);
        VM.assertEq(claimedIn(config), 35);
        (uint128 amount, uint40 initiatedAt) = pendingIn(config);
        VM.assertEq(amount, 13);
        VM.assertEq(initiatedAt, START);
        (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(receiver.addr, address(mor));
        VM.assertEq(claimed, 35);
        VM.assertEq(settled, 30);
        VM.assertEq(SETTLEMENT.refundNonce(SETTLEMENT.getChannelId(config)), 1);
    }

    function testFuzz_every_field_is_in_the_channels_id(uint8 field, uint160 value) public view {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        bytes32 id = SETTLEMENT.getChannelId(config);
        bytes32 hash = keccak256(abi.encode(config));
        field %= 7;
        if (field == 0) config.payer = address(value);
        if (field == 1) config.payerAuthorizer = address(value);
        if (field == 2) config.receiver = address(value);
        if (field == 3) config.receiverAuthorizer = address(value);
        if (field == 4) config.token = address(value);
        if (field == 5) config.withdrawDelay = uint40(value);
        if (field == 6) config.salt = bytes32(uint256(value));
        VM.assertTrue((SETTLEMENT.getChannelId(config) == id) == (keccak256(abi.encode(config)) == hash));
    }

    function hashOf(string memory text) private pure returns (bytes32) {
        return keccak256(bytes(text));
    }
}
