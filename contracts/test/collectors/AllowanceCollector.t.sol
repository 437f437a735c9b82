// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AllowanceCollector} from "../../src/AllowanceCollector.sol";
import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {DepositCollector} from "../../src/DepositCollector.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";
import {UnsignedCollector} from "../doubles/Collectors.sol";
import {Wallet} from "../doubles/Wallet.sol";

/// The allowance collector: what a signature covers, how long, and how often.
contract AllowanceCollectorTest is SettlementScene {
    function test_takes_exactly_the_amount_and_keeps_nothing() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        VM.assertEq(mor.balanceOf(payer.addr), WEALTH - 100);
        VM.assertEq(mor.balanceOf(address(ALLOWANCES)), 0);
        VM.assertEq(balanceIn(config), 100);
    }

    function test_announces_the_spent_nonce() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        bytes memory data = allowanceData(payer, config, 100, 42, START);
        VM.assertFalse(ALLOWANCES.isNonceSpent(payer.addr, 42));

        VM.expectEmit(address(ALLOWANCES));
        emit AllowanceCollector.NonceSpent(payer.addr, 42);
        SETTLEMENT.deposit(config, 100, address(ALLOWANCES), data);

        VM.assertTrue(ALLOWANCES.isNonceSpent(payer.addr, 42));
        VM.assertFalse(ALLOWANCES.isNonceSpent(receiver.addr, 42));
    }

    function test_refuses_whoever_is_not_the_settlement_contract() public {
        bytes memory data = allowanceData(payer, channelConfig(), 100);
        bytes32 id = SETTLEMENT.getChannelId(channelConfig());
        address[3] memory callers = [payer.addr, stranger.addr, address(new BatchSettlement())];
        for (uint256 i = 0; i < callers.length; ++i) {
            VM.expectRevert(DepositCollector.OnlyX402BatchSettlement.selector);
            VM.prank(callers[i]);
            ALLOWANCES.collect(payer.addr, address(mor), 100, id, data);
        }
    }

    function test_refuses_a_second_use() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        bytes memory data = allowanceData(payer, config, 100, 7, START);
        SETTLEMENT.deposit(config, 100, address(ALLOWANCES), data);
        refuses(config, 100, data, spent(7));
    }

    function test_refuses_a_nonce_that_was_used_for_another_channel() public {
        SETTLEMENT.deposit(
            channelConfig(), 100, address(ALLOWANCES), allowanceData(payer, channelConfig(), 100, 7, START)
        );
        refuses(channelConfig(1), 50, allowanceData(payer, channelConfig(1), 50, 7, START), spent(7));
    }

    function test_refuses_a_signature_for_another_channel() public {
        bytes memory data = allowanceData(payer, channelConfig(), 100, 7, START);
        refuses(channelConfig(1), 100, data, invalid(channelConfig(1), 100, 7, START));
    }

    function test_refuses_a_signature_for_another_amount() public {
        bytes memory data = allowanceData(payer, channelConfig(), 100, 7, START);
        refuses(channelConfig(), 101, data, invalid(channelConfig(), 101, 7, START));
        refuses(channelConfig(), 99, data, invalid(channelConfig(), 99, 7, START));
    }

    function test_refuses_a_signature_for_another_nonce_or_deadline() public {
        bytes memory signature = signatureOf(allowanceData(payer, channelConfig(), 100, 7, START));
        refuses(channelConfig(), 100, abi.encode(8, START, signature), invalid(channelConfig(), 100, 8, START));
        refuses(channelConfig(), 100, abi.encode(7, START + 1, signature), invalid(channelConfig(), 100, 7, START + 1));
    }

    function test_refuses_a_signature_for_another_chain() public {
        VM.chainId(1);
        bytes memory data = allowanceData(payer, channelConfig(), 100, 7, START);
        VM.chainId(31_337);
        refuses(channelConfig(), 100, data, invalid(channelConfig(), 100, 7, START));
    }

    function test_holds_until_the_deadline_and_not_longer() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        bytes memory data = allowanceData(payer, config, 100, 7, START + 10);
        VM.warp(START + 11);
        refuses(
            config,
            100,
            data,
            abi.encodeWithSelector(AllowanceCollector.AllowanceCollectorExpired.selector, START + 10, START + 11)
        );
        VM.warp(START + 10);
        SETTLEMENT.deposit(config, 100, address(ALLOWANCES), data);
    }

    function test_refuses_data_that_is_not_its_own() public {
        VM.expectRevert();
        SETTLEMENT.deposit(channelConfig(), 100, address(ALLOWANCES), "");
        VM.expectRevert();
        SETTLEMENT.deposit(channelConfig(), 100, address(ALLOWANCES), hex"00");
    }

    function test_a_refused_deposit_spends_no_nonce() public {
        bytes memory data = allowanceData(payer, channelConfig(), 100, 7, START);
        VM.prank(payer.addr);
        mor.approve(address(ALLOWANCES), 99);
        VM.expectRevert();
        SETTLEMENT.deposit(channelConfig(), 100, address(ALLOWANCES), data);
        VM.assertFalse(ALLOWANCES.isNonceSpent(payer.addr, 7));
    }

    function test_a_cancelled_nonce_is_spent() public {
        bytes memory data = allowanceData(payer, channelConfig(), 100, 7, START);
        VM.prank(payer.addr);
        ALLOWANCES.cancelNonce(7);
        refuses(channelConfig(), 100, data, spent(7));
    }

    function test_nobody_cancels_for_another() public {
        bytes memory data = allowanceData(payer, channelConfig(), 100, 7, START);
        VM.prank(stranger.addr);
        ALLOWANCES.cancelNonce(7);
        SETTLEMENT.deposit(channelConfig(), 100, address(ALLOWANCES), data);
    }

    function test_a_contract_wallet_may_sign() public {
        Wallet wallet = new Wallet(payer.addr);
        mor.mint(address(wallet), 100);
        wallet.approve(mor, address(ALLOWANCES), 100);
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.payer = address(wallet);

        bytes memory forged = allowanceData(stranger, config, 100, 7, START);
        VM.expectRevert();
        SETTLEMENT.deposit(config, 100, address(ALLOWANCES), forged);
        deposit(config, 100);

        VM.assertEq(balanceIn(config), 100);
    }

    function test_each_nonce_has_a_bit_of_its_own() public {
        VM.startPrank(payer.addr);
        for (uint256 nonce = 0; nonce <= 512; ++nonce) {
            VM.assertFalse(ALLOWANCES.isNonceSpent(payer.addr, nonce));
            ALLOWANCES.cancelNonce(nonce);
        }
        VM.stopPrank();
    }

    function testFuzz_nonces_are_spent_one_by_one_in_any_order(uint256 first, uint256 second) public {
        VM.assume(first != second);
        VM.startPrank(payer.addr);
        ALLOWANCES.cancelNonce(first);
        VM.assertFalse(ALLOWANCES.isNonceSpent(payer.addr, second));
        ALLOWANCES.cancelNonce(second);
        VM.expectRevert(spent(first));
        ALLOWANCES.cancelNonce(first);
        VM.stopPrank();
    }

    function refuses(
        IBatchSettlement.ChannelConfig memory config,
        uint128 amount,
        bytes memory data,
        bytes memory why
    ) private {
        VM.expectRevert(why);
        SETTLEMENT.deposit(config, amount, address(ALLOWANCES), data);
    }

    function spent(uint256 nonce) private view returns (bytes memory) {
        return abi.encodeWithSelector(AllowanceCollector.AllowanceCollectorNonceSpent.selector, payer.addr, nonce);
    }

    function invalid(
        IBatchSettlement.ChannelConfig memory config,
        uint128 amount,
        uint256 nonce,
        uint256 deadline
    ) private view returns (bytes memory) {
        bytes32 digest = ALLOWANCES.getAllowanceDepositDigest(
            SETTLEMENT.getChannelId(config), config.token, amount, nonce, deadline
        );
        return
            abi.encodeWithSelector(AllowanceCollector.AllowanceCollectorInvalidSignature.selector, payer.addr, digest);
    }

    function signatureOf(bytes memory data) private pure returns (bytes memory signature) {
        (,, signature) = abi.decode(data, (uint256, uint256, bytes));
    }
}

/// Invariant 8. The payer has approved the collector without limit. A thief opens a channel in the payer's name whose
/// keys are all the thief's: whatever lands in it is the thief's at the next claim.
contract AllowanceTheftTest is SettlementScene {
    Signer private thief = signer("thief");

    function test_a_collector_that_asks_for_no_signature_would_be_robbed() public {
        UnsignedCollector careless = new UnsignedCollector();
        VM.prank(payer.addr);
        mor.approve(address(careless), type(uint256).max);
        IBatchSettlement.ChannelConfig memory trap = trapChannel();

        VM.startPrank(thief.addr);
        SETTLEMENT.deposit(trap, 1000, address(careless), "");
        SETTLEMENT.claim(batch(claimBy(thief, trap, 1000, 1000)));
        SETTLEMENT.settle(thief.addr, address(mor));
        VM.stopPrank();

        VM.assertEq(mor.balanceOf(thief.addr), 1000); // which is why ours asks
    }

    function test_no_signature() public {
        fails(abi.encode(uint256(0), type(uint256).max, bytes("")));
    }

    function test_the_thiefs_signature() public {
        fails(allowanceData(thief, trapChannel(), 1000));
    }

    function test_a_signature_that_was_used() public {
        bytes memory used = allowanceData(payer, channelConfig(), 1000, 0, START);
        SETTLEMENT.deposit(channelConfig(), 1000, address(ALLOWANCES), used);
        fails(used);
    }

    function test_an_unused_signature_for_an_honest_channel() public {
        fails(allowanceData(payer, channelConfig(), 1000));
    }

    function test_a_channel_that_differs_in_one_key_only() public {
        bytes memory honest = allowanceData(payer, channelConfig(), 1000);
        for (uint256 i = 0; i < 4; ++i) {
            IBatchSettlement.ChannelConfig memory trap = channelConfig();
            if (i == 0) trap.payerAuthorizer = thief.addr;
            if (i == 1) trap.receiver = thief.addr;
            if (i == 2) trap.receiverAuthorizer = thief.addr;
            if (i == 3) trap.payerAuthorizer = address(0);
            VM.expectRevert();
            SETTLEMENT.deposit(trap, 1000, address(ALLOWANCES), honest);
        }
    }

    function test_the_collector_called_directly_with_a_good_signature() public {
        bytes memory honest = allowanceData(payer, channelConfig(), 1000);
        bytes32 id = SETTLEMENT.getChannelId(channelConfig());
        VM.expectRevert(DepositCollector.OnlyX402BatchSettlement.selector);
        VM.prank(thief.addr); // the caller would receive the tokens
        ALLOWANCES.collect(payer.addr, address(mor), 1000, id, honest);
    }

    function testFuzz_any_bytes(uint256 nonce, uint256 deadline, bytes memory signature) public {
        fails(abi.encode(nonce, deadline, signature));
    }

    function fails(bytes memory data) private {
        IBatchSettlement.ChannelConfig memory trap = trapChannel();
        uint256 before = mor.balanceOf(payer.addr);
        VM.expectRevert();
        VM.prank(thief.addr);
        SETTLEMENT.deposit(trap, 1000, address(ALLOWANCES), data);
        VM.assertEq(mor.balanceOf(payer.addr), before);
    }

    function trapChannel() private view returns (IBatchSettlement.ChannelConfig memory trap) {
        trap = channelConfig();
        trap.payerAuthorizer = thief.addr;
        trap.receiver = thief.addr;
        trap.receiverAuthorizer = thief.addr;
    }
}
