// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IDepositCollector} from "./interfaces/IDepositCollector.sol";

/// A collector that serves one settlement contract only. The address is a constant, the same on every chain, so that
/// collectors need no constructor and can be placed in a genesis block.
abstract contract DepositCollector is IDepositCollector {
    /// The settlement contract that may collect.
    address public constant x402BatchSettlement = 0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003;

    /// Someone else called `collect`.
    error OnlyX402BatchSettlement();

    modifier onlySettlement() {
        require(msg.sender == x402BatchSettlement, OnlyX402BatchSettlement());
        _;
    }
}
