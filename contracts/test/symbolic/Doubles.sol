// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

import {IDepositCollector} from "../../src/interfaces/IDepositCollector.sol";

/// Balances and nothing else: what a solver has to know of a token.
contract LedgerToken {
    mapping(address holder => uint256) public balanceOf;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
        return true;
    }
}

/// Brings what is asked for, out of nothing.
contract MintingCollector is IDepositCollector {
    function collect(address, address token, uint256 amount, bytes32, bytes calldata) external {
        LedgerToken(token).mint(msg.sender, amount);
    }
}

/// A payer who has signed whatever is shown to it: signatures are not what these checks are about.
contract AgreeableWallet is IERC1271 {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return IERC1271.isValidSignature.selector;
    }
}
