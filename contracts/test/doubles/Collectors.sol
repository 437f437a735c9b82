// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IDepositCollector} from "../../src/interfaces/IDepositCollector.sol";

/// Pays deposits out of its own pocket, `surplus` more or less than asked.
contract PocketCollector is IDepositCollector {
    int256 private immutable _surplus;

    constructor(int256 surplus) {
        _surplus = surplus;
    }

    function collect(address, address token, uint256 amount, bytes32, bytes calldata) external {
        uint256 paid = uint256(int256(amount) + _surplus);
        require(IERC20(token).transfer(msg.sender, paid), "transfer refused");
    }
}

/// What an allowance collector must not be: it takes from whoever approved to it, unasked.
contract UnsignedCollector is IDepositCollector {
    function collect(address payer, address token, uint256 amount, bytes32, bytes calldata) external {
        require(IERC20(token).transferFrom(payer, msg.sender, amount), "transfer refused");
    }
}
