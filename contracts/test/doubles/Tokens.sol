// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// Keeps one unit of every transfer for itself.
contract FeeToken is ERC20("Fee", "FEE") {
    constructor(address holder) {
        _mint(holder, 1_000_000 ether);
    }

    function _update(address from, address to, uint256 value) internal override {
        if (from == address(0)) return super._update(from, to, value);
        super._update(from, address(this), 1);
        super._update(from, to, value - 1);
    }
}

/// Calls back into whoever moves it, with what it was told to call.
contract CallbackToken is ERC20("Callback", "CB") {
    address private _target;
    bytes private _call;
    bytes public answer;

    constructor(address holder) {
        _mint(holder, 1_000_000 ether);
    }

    function arm(address target, bytes calldata call) external {
        _target = target;
        _call = call;
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (_target == address(0)) return;
        address target = _target;
        _target = address(0);
        (, answer) = target.call(_call);
    }
}

/// Knocks at another contract's doors, one after the other, each time it is moved, and counts those that opened.
contract KnockingToken is ERC20("Knocking", "KNOCK") {
    address private _house;
    bytes[] private _doors;
    uint256 public knocks;
    uint256 public opened;

    function mint(address holder, uint256 amount) external {
        _mint(holder, amount);
    }

    function arm(address house, bytes[] calldata doors) external {
        _house = house;
        for (uint256 i = 0; i < doors.length; ++i) {
            _doors.push(doors[i]);
        }
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (_house == address(0)) return;
        (bool open, bytes memory answer) = _house.call(_doors[knocks++ % _doors.length]);
        if (open || bytes4(answer) != ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector) ++opened;
    }
}

/// Says `false` where others revert.
contract SulkyToken {
    mapping(address => uint256) public balanceOf;

    function transfer(address, uint256) external pure returns (bool) {
        return false;
    }

    function transferFrom(address, address, uint256) external pure returns (bool) {
        return false;
    }
}
