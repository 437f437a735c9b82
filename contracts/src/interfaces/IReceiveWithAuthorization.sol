// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// The part of EIP-3009 that deposits need, in the form that also takes ERC-1271 signatures.
interface IReceiveWithAuthorization {
    /// Moves `value` from `from` to `to` against `from`'s signature. The caller must be `to`.
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}
