// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";

/// MOR for development chains: what the real token offers to a client, without its bridge. Like the real one it has
/// `increaseAllowance`, which Morpheus-Lumerin clients call, and no permit.
contract MorToken is ERC20Burnable, Ownable {
    /// The account was allowed, or no longer allowed, to mint.
    event MinterUpdated(address indexed minter, bool allowed);

    /// The caller is neither owner nor minter.
    error MorTokenCallerCannotMint(address caller);
    /// The allowance is smaller than what is to be taken off it.
    error MorTokenAllowanceBelowZero(address spender, uint256 allowance, uint256 decrease);

    mapping(address account => bool) private _minters;

    constructor(address owner, address holder, uint256 supply) ERC20("MOR", "MOR") Ownable(owner) {
        if (supply != 0) _mint(holder, supply);
    }

    /// Allows or forbids an account to mint.
    function updateMinter(address minter, bool allowed) external onlyOwner {
        _minters[minter] = allowed;
        emit MinterUpdated(minter, allowed);
    }

    /// Creates tokens. By the owner and by minters.
    function mint(address account, uint256 amount) external {
        require(_minters[msg.sender] || msg.sender == owner(), MorTokenCallerCannotMint(msg.sender));
        _mint(account, amount);
    }

    /// Adds to what the spender may take.
    function increaseAllowance(address spender, uint256 addedValue) external returns (bool) {
        _approve(msg.sender, spender, allowance(msg.sender, spender) + addedValue);
        return true;
    }

    /// Takes off what the spender may take.
    function decreaseAllowance(address spender, uint256 subtractedValue) external returns (bool) {
        uint256 current = allowance(msg.sender, spender);
        require(current >= subtractedValue, MorTokenAllowanceBelowZero(spender, current, subtractedValue));
        _approve(msg.sender, spender, current - subtractedValue);
        return true;
    }

    /// Whether the account was allowed to mint; the owner always may.
    function isMinter(address account) external view returns (bool) {
        return _minters[account];
    }
}
