// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DepositCollector} from "../../src/DepositCollector.sol";
import {UsdToken} from "../../src/UsdToken.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";

/// The EIP-3009 collector: an authorisation pays into one channel, once, through the collector only.
contract Eip3009CollectorTest is SettlementScene {
    function test_brings_in_the_authorised_amount_and_keeps_nothing() public {
        bytes memory data = authorizationData(payer, inUsd(0), 100, 0, START + 1, 9);
        VM.prank(stranger.addr); // who pays the gas
        SETTLEMENT.deposit(inUsd(0), 100, address(AUTHORIZATIONS), data);

        VM.assertEq(balanceIn(inUsd(0)), 100);
        VM.assertEq(usd.balanceOf(address(SETTLEMENT)), 100);
        VM.assertEq(usd.balanceOf(address(AUTHORIZATIONS)), 0);
        VM.assertEq(usd.balanceOf(payer.addr), WEALTH - 100);
    }

    function test_works_once() public {
        bytes memory data = authorizationData(payer, inUsd(0), 100, 0, START + 1, 9);
        SETTLEMENT.deposit(inUsd(0), 100, address(AUTHORIZATIONS), data);
        refuses(inUsd(0), 100, data);
    }

    function test_refuses_an_authorisation_for_another_channel_or_amount() public {
        bytes memory data = authorizationData(payer, inUsd(0), 100, 0, START + 1, 9);
        refuses(inUsd(1), 100, data);
        refuses(inUsd(0), 101, data);
    }

    function test_refuses_another_signer() public {
        refuses(inUsd(0), 100, authorizationData(stranger, inUsd(0), 100, 0, START + 1, 9));
    }

    function test_refuses_before_and_after_its_time() public {
        refuses(inUsd(0), 100, authorizationData(payer, inUsd(0), 100, START, START + 1, 9));
        refuses(inUsd(0), 100, authorizationData(payer, inUsd(0), 100, 0, START, 9));
    }

    function test_refuses_whoever_is_not_the_settlement_contract() public {
        bytes memory data = authorizationData(payer, inUsd(0), 100, 0, START + 1, 9);
        bytes32 id = SETTLEMENT.getChannelId(inUsd(0));
        VM.expectRevert(DepositCollector.OnlyX402BatchSettlement.selector);
        VM.prank(stranger.addr);
        AUTHORIZATIONS.collect(payer.addr, address(usd), 100, id, data);
    }

    function test_nobody_takes_the_authorisation_to_the_token_directly() public {
        bytes memory data = authorizationData(payer, inUsd(0), 100, 0, START + 1, 9);
        (,,, bytes memory signature) = abi.decode(data, (uint256, uint256, uint256, bytes));
        bytes32 nonce = keccak256(abi.encode(SETTLEMENT.getChannelId(inUsd(0)), 9));
        VM.expectRevert(
            abi.encodeWithSelector(UsdToken.UsdTokenCallerNotReceiver.selector, stranger.addr, address(AUTHORIZATIONS))
        );
        VM.prank(stranger.addr);
        usd.receiveWithAuthorization(payer.addr, address(AUTHORIZATIONS), 100, 0, START + 1, nonce, signature);
    }

    function refuses(IBatchSettlement.ChannelConfig memory config, uint128 amount, bytes memory data) private {
        VM.expectRevert();
        SETTLEMENT.deposit(config, amount, address(AUTHORIZATIONS), data);
        VM.assertEq(balanceIn(config), config.salt == 0 ? usd.balanceOf(address(SETTLEMENT)) : 0);
    }

    function inUsd(uint256 salt) private view returns (IBatchSettlement.ChannelConfig memory config) {
        config = channelConfig(salt);
        config.token = address(usd);
    }
}
