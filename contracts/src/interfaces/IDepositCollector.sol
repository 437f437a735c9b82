// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// A way to bring a payer's tokens into the settlement contract. The settlement contract trusts no collector: it
/// compares its own token balance before and after. The payer trusts the collectors that they approve or sign for.
interface IDepositCollector {
    /// Moves exactly `amount` of `token` from `payer` to the caller, or reverts. `collectorData` carries the payer's
    /// authorisation in the collector's own encoding and must be bound to `channelId`.
    function collect(
        address payer,
        address token,
        uint256 amount,
        bytes32 channelId,
        bytes calldata collectorData
    ) external;
}
