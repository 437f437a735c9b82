// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Many calls in one, for chains of our own: clients expect a contract with these functions at
/// 0xcA11bde05977b3631167028862bE2a173976CA11, as public chains have it. Here calls carry no value.
contract CallAggregator {
    struct Call {
        address target;
        bytes callData;
    }

    struct FallibleCall {
        address target;
        bool allowFailure;
        bytes callData;
    }

    struct Result {
        bool success;
        bytes returnData;
    }

    /// The call at `index` failed and was not allowed to.
    error CallAggregatorCallFailed(uint256 index, bytes returnData);

    /// Makes the calls in order; with `requireSuccess`, a failure undoes all.
    function tryAggregate(bool requireSuccess, Call[] calldata calls) external returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; ++i) {
            results[i] = _call(i, calls[i].target, calls[i].callData, !requireSuccess);
        }
    }

    /// Makes the calls in order; each says whether it may fail.
    function aggregate3(FallibleCall[] calldata calls) external returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; ++i) {
            results[i] = _call(i, calls[i].target, calls[i].callData, calls[i].allowFailure);
        }
    }

    function _call(
        uint256 index,
        address target,
        bytes calldata callData,
        bool allowFailure
    ) private returns (Result memory result) {
        (result.success, result.returnData) = target.call(callData);
        require(result.success || allowFailure, CallAggregatorCallFailed(index, result.returnData));
    }
}
