// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {UsdToken} from "../../src/UsdToken.sol";
import {Scene} from "../base/Scene.sol";

/// The development dollar by itself; what deposits ask of it is tested with the EIP-3009 collector.
contract UsdTokenTest is Scene {
    UsdToken private _token;
    address private _owner = signer("owner").addr;
    address private _holder = signer("holder").addr;

    function setUp() public {
        _token = new UsdToken(_owner, _holder, 100);
    }

    function test_has_six_decimals_and_its_first_holder() public view {
        VM.assertEq(_token.decimals(), 6);
        VM.assertEq(_token.totalSupply(), 100);
        VM.assertEq(_token.balanceOf(_holder), 100);
    }

    function test_only_the_owner_mints() public {
        VM.prank(_owner);
        _token.mint(_holder, 1);
        VM.assertEq(_token.balanceOf(_holder), 101);
        VM.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, _holder));
        VM.prank(_holder);
        _token.mint(_holder, 1);
    }

    function test_says_its_domain() public view {
        (, string memory name, string memory version,, address verifyingContract,,) = _token.eip712Domain();
        VM.assertEq(name, "Development Dollar");
        VM.assertEq(version, "1");
        VM.assertEq(verifyingContract, address(_token));
    }
}
