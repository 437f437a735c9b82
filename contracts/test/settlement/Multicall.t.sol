// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Errors} from "@openzeppelin/contracts/utils/Errors.sol";

import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";

/// `multicall`: several calls of one caller, all or none.
contract MulticallTest is SettlementScene {
    function test_claims_and_settles_in_one_transaction() public {
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(openChannel(100), 30));
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(BatchSettlement.claim, (rows));
        calls[1] = abi.encodeCall(BatchSettlement.settle, (receiver.addr, address(mor)));

        VM.prank(receiver.addr);
        SETTLEMENT.multicall(calls);

        VM.assertEq(mor.balanceOf(receiver.addr), 30);
    }

    function test_the_caller_stays_the_caller() public {
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(openChannel(100), 30));
        bytes[] memory calls = new bytes[](1);
        calls[0] = abi.encodeCall(BatchSettlement.claim, (rows));

        VM.expectRevert(IBatchSettlement.NotAuthorizedToClaim.selector);
        VM.prank(stranger.addr);
        SETTLEMENT.multicall(calls);
    }

    function test_one_failure_undoes_all() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(BatchSettlement.refund, (config, 10));
        calls[1] = abi.encodeCall(BatchSettlement.refund, (config, 0));

        VM.expectRevert(IBatchSettlement.ZeroRefund.selector);
        VM.prank(receiver.addr);
        SETTLEMENT.multicall(calls);

        VM.assertEq(balanceIn(config), 100);
    }

    function test_refuses_a_call_to_no_function() public {
        bytes[] memory calls = new bytes[](1);
        calls[0] = hex"12345678";
        VM.expectRevert(Errors.FailedCall.selector);
        SETTLEMENT.multicall(calls);
    }

    function test_answers_with_what_each_call_returned() public {
        IBatchSettlement.ChannelConfig memory config = openChannel(100);
        bytes32 id = SETTLEMENT.getChannelId(config);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(BatchSettlement.getChannelId, (config));
        calls[1] = abi.encodeCall(BatchSettlement.channels, (id));

        bytes[] memory answers = SETTLEMENT.multicall(calls);

        VM.assertEq(answers[0], abi.encode(id));
        VM.assertEq(answers[1], abi.encode(uint128(100), uint128(0)));
    }
}
