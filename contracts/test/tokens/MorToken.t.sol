// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {MorToken} from "../../src/MorToken.sol";
import {Scene} from "../base/Scene.sol";

/// What clients of the real MOR expect of ours.
contract MorTokenTest is Scene {
    MorToken private _token;
    address private _owner = signer("owner").addr;
    address private _holder = signer("holder").addr;
    address private _spender = signer("spender").addr;

    function setUp() public {
        _token = new MorToken(_owner, _holder, 100);
    }

    function test_looks_like_mor() public view {
        VM.assertEq(_token.name(), "MOR");
        VM.assertEq(_token.symbol(), "MOR");
        VM.assertEq(_token.decimals(), 18);
        VM.assertEq(_token.totalSupply(), 100);
        VM.assertEq(_token.balanceOf(_holder), 100);
    }

    function test_has_no_permit() public {
        (bool answered,) = address(_token).call(abi.encodeWithSignature("DOMAIN_SEPARATOR()"));
        VM.assertFalse(answered);
    }

    function test_allowances_go_up_and_down() public {
        VM.startPrank(_holder);
        VM.assertTrue(_token.increaseAllowance(_spender, 30));
        VM.assertTrue(_token.increaseAllowance(_spender, 5));
        VM.assertEq(_token.allowance(_holder, _spender), 35);
        VM.assertTrue(_token.decreaseAllowance(_spender, 20));
        VM.assertEq(_token.allowance(_holder, _spender), 15);
        VM.expectRevert(abi.encodeWithSelector(MorToken.MorTokenAllowanceBelowZero.selector, _spender, 15, 16));
        _token.decreaseAllowance(_spender, 16);
        VM.stopPrank();
    }

    function test_holders_burn_and_spenders_burn_what_they_may() public {
        VM.startPrank(_holder);
        _token.burn(10);
        _token.approve(_spender, 20);
        VM.stopPrank();
        VM.prank(_spender);
        _token.burnFrom(_holder, 20);
        VM.assertEq(_token.totalSupply(), 70);
        VM.expectRevert();
        VM.prank(_spender);
        _token.burnFrom(_holder, 1);
    }

    function test_owner_and_minters_mint() public {
        VM.prank(_owner);
        _token.mint(_holder, 1);
        VM.expectRevert(abi.encodeWithSelector(MorToken.MorTokenCallerCannotMint.selector, _spender));
        VM.prank(_spender);
        _token.mint(_holder, 1);

        VM.expectEmit(address(_token));
        emit MorToken.MinterUpdated(_spender, true);
        VM.prank(_owner);
        _token.updateMinter(_spender, true);
        VM.assertTrue(_token.isMinter(_spender));
        VM.prank(_spender);
        _token.mint(_holder, 1);
        VM.assertEq(_token.balanceOf(_holder), 102);

        VM.prank(_owner);
        _token.updateMinter(_spender, false);
        VM.expectRevert(abi.encodeWithSelector(MorToken.MorTokenCallerCannotMint.selector, _spender));
        VM.prank(_spender);
        _token.mint(_holder, 1);
    }

    function test_only_the_owner_names_minters() public {
        VM.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, _spender));
        VM.prank(_spender);
        _token.updateMinter(_spender, true);
    }
}
