// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CallAggregator} from "../../src/CallAggregator.sol";
import {MorToken} from "../../src/MorToken.sol";
import {Scene} from "../base/Scene.sol";

/// Calls in one: all answers, and whose failure counts.
contract CallAggregatorTest is Scene {
    CallAggregator private _aggregator = new CallAggregator();
    MorToken private _token = new MorToken(address(this), address(this), 100);

    function test_clients_find_the_functions_by_their_selectors() public pure {
        VM.assertEq(bytes32(CallAggregator.tryAggregate.selector), bytes32(bytes4(0xbce38bd7)));
        VM.assertEq(bytes32(CallAggregator.aggregate3.selector), bytes32(bytes4(0x82ad56cb)));
    }

    function test_answers_each_call_and_lets_failures_be() public {
        CallAggregator.Result[] memory results = _aggregator.tryAggregate(false, calls());
        VM.assertEq(results.length, 2);
        VM.assertTrue(results[0].success);
        VM.assertEq(results[0].returnData, abi.encode(uint256(100)));
        VM.assertFalse(results[1].success);
    }

    function test_a_failure_undoes_all_when_success_is_required() public {
        VM.expectRevert();
        _aggregator.tryAggregate(true, calls());
    }

    function test_each_call_says_whether_it_may_fail() public {
        CallAggregator.FallibleCall[] memory fallible = new CallAggregator.FallibleCall[](2);
        for (uint256 i = 0; i < 2; ++i) {
            CallAggregator.Call memory call = calls()[i];
            fallible[i] = CallAggregator.FallibleCall(call.target, true, call.callData);
        }
        VM.assertFalse(_aggregator.aggregate3(fallible)[1].success);
        fallible[1].allowFailure = false;
        VM.expectRevert();
        _aggregator.aggregate3(fallible);
    }

    function calls() private view returns (CallAggregator.Call[] memory list) {
        list = new CallAggregator.Call[](2);
        list[0] = CallAggregator.Call(address(_token), abi.encodeCall(_token.balanceOf, (address(this))));
        list[1] = CallAggregator.Call(address(_token), abi.encodeCall(_token.transfer, (address(1), 5)));
    }
}
