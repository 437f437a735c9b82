// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";
import {CallbackToken} from "../doubles/Tokens.sol";

/// A token that calls back while it is moved meets a closed door, whichever one it tries.
contract ReentrancyTest is SettlementScene {
    CallbackToken private _token;

    function setUp() public override {
        super.setUp();
        _token = new CallbackToken(payer.addr);
        VM.prank(payer.addr);
        _token.approve(address(ALLOWANCES), type(uint256).max);
    }

    function test_every_way_in_is_closed_while_settling() public {
        IBatchSettlement.ChannelConfig memory config = ours();
        bytes[] memory ways = waysIn(config);
        deposit(config, 1000);
        for (uint128 i = 0; i < ways.length; ++i) {
            claim(config, i + 1);
            _token.arm(address(SETTLEMENT), ways[i]);
            SETTLEMENT.settle(receiver.addr, address(_token));
            closed();
        }
    }

    function test_every_way_in_is_closed_while_depositing() public {
        IBatchSettlement.ChannelConfig memory config = ours();
        bytes[] memory ways = waysIn(config);
        for (uint128 i = 0; i < ways.length; ++i) {
            _token.arm(address(SETTLEMENT), ways[i]);
            deposit(config, 10);
            closed();
        }
        VM.assertEq(balanceIn(config), 10 * ways.length);
    }

    function test_every_way_in_is_closed_while_refunding() public {
        IBatchSettlement.ChannelConfig memory config = ours();
        bytes[] memory ways = waysIn(config);
        deposit(config, 1000);
        for (uint128 i = 0; i < ways.length; ++i) {
            _token.arm(address(SETTLEMENT), ways[i]);
            VM.prank(receiver.addr);
            SETTLEMENT.refund(config, 1);
            closed();
        }
    }

    function test_every_way_in_is_closed_while_withdrawing() public {
        IBatchSettlement.ChannelConfig memory config = ours();
        bytes[] memory ways = waysIn(config);
        deposit(config, 1000);
        for (uint128 i = 0; i < ways.length; ++i) {
            VM.prank(payer.addr);
            SETTLEMENT.initiateWithdraw(config, 1);
            VM.warp(VM.getBlockTimestamp() + DELAY);
            _token.arm(address(SETTLEMENT), ways[i]);
            VM.prank(payer.addr);
            SETTLEMENT.finalizeWithdraw(config);
            closed();
        }
    }

    function ours() private view returns (IBatchSettlement.ChannelConfig memory config) {
        config = channelConfig();
        config.token = address(_token);
    }

    function closed() private view {
        VM.assertEq(
            _token.answer(), abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector)
        );
    }
}
