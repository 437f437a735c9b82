// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IProviderRegistry} from "../../src/interfaces/IProviderRegistry.sol";
import {RegistryBase} from "../../src/registry/RegistryBase.sol";
import {RegistryScene} from "./RegistryScene.sol";

/// The life of a provider, and pages over all of them.
contract ProvidersTest is RegistryScene {
    function test_registers_and_takes_the_stake() public {
        VM.expectEmit(address(registry));
        emit IProviderRegistry.ProviderRegistered(provider);
        join(provider, 1 ether);

        IProviderRegistry.Provider memory entry = registry.getProvider(provider);
        VM.assertEq(entry.endpoint, "provider.example:3333");
        VM.assertEq(entry.stake, 1 ether);
        VM.assertEq(entry.createdAt, START);
        VM.assertEq(entry.limitPeriodEnd, START + 365 days);
        VM.assertEq(entry.limitPeriodEarned, 0);
        VM.assertFalse(entry.isDeleted);
        VM.assertTrue(registry.getIsProviderActive(provider));
        VM.assertEq(mor.balanceOf(address(registry)), 1 ether);
        VM.assertEq(mor.balanceOf(provider), WEALTH - 1 ether);
    }

    function test_registering_again_tops_up_and_changes_the_endpoint() public {
        join(provider, 1 ether);
        VM.warp(START + 1);
        VM.prank(provider);
        registry.providerRegister(provider, 2 ether, "other.example:1");

        IProviderRegistry.Provider memory entry = registry.getProvider(provider);
        VM.assertEq(entry.endpoint, "other.example:1");
        VM.assertEq(entry.stake, 3 ether);
        VM.assertEq(entry.createdAt, START);
        (address[] memory page, uint256 total) = registry.getActiveProviders(0, 9);
        VM.assertEq(page.length, 1);
        VM.assertEq(total, 1);
    }

    function test_a_change_of_endpoint_needs_no_tokens() public {
        join(provider, 1 ether);
        join(provider, 0);
        VM.assertEq(mor.balanceOf(provider), WEALTH - 1 ether);
    }

    function test_refuses_too_little() public {
        VM.expectRevert(
            abi.encodeWithSelector(IProviderRegistry.ProviderStakeTooLow.selector, MIN_STAKE - 1, MIN_STAKE)
        );
        join(provider, MIN_STAKE - 1);
        join(provider, MIN_STAKE);
    }

    function test_refuses_an_endpoint_that_is_too_long() public {
        VM.prank(provider);
        registry.providerRegister(provider, 1 ether, text(256));
        VM.expectRevert(abi.encodeWithSelector(IProviderRegistry.ProviderEndpointTooLong.selector, 257, 256));
        VM.prank(provider);
        registry.providerRegister(provider, 1 ether, text(257));
    }

    function test_nobody_acts_for_another() public {
        join(provider, 1 ether);
        bytes memory why =
            abi.encodeWithSelector(RegistryBase.InsufficientRightsForOperation.selector, provider, stranger);
        VM.expectRevert(why);
        VM.prank(stranger);
        registry.providerRegister(provider, 1 ether, "");
        VM.expectRevert(why);
        VM.prank(stranger);
        registry.providerDeregister(provider);
    }

    function test_leaving_returns_the_whole_stake() public {
        join(provider, 5 ether);
        VM.expectEmit(address(registry));
        emit IProviderRegistry.ProviderDeregistered(provider);
        depart(provider);

        VM.assertEq(mor.balanceOf(provider), WEALTH);
        VM.assertEq(registry.getProvider(provider).stake, 0);
        VM.assertTrue(registry.getProvider(provider).isDeleted);
        VM.assertFalse(registry.getIsProviderActive(provider));
        (, uint256 total) = registry.getActiveProviders(0, 9);
        VM.assertEq(total, 0);
    }

    function test_who_left_may_come_back_with_a_new_stake() public {
        join(provider, 5 ether);
        depart(provider);
        VM.expectRevert(abi.encodeWithSelector(IProviderRegistry.ProviderStakeTooLow.selector, 0, MIN_STAKE));
        join(provider, 0);
        VM.warp(START + 1 days);
        join(provider, 1 ether);

        VM.assertEq(registry.getProvider(provider).stake, 1 ether);
        VM.assertEq(registry.getProvider(provider).createdAt, START);
        VM.assertTrue(registry.getIsProviderActive(provider));
    }

    function test_refuses_to_let_go_of_an_unknown_or_gone_provider() public {
        VM.expectRevert(IProviderRegistry.ProviderNotFound.selector);
        depart(stranger);
        join(provider, 1 ether);
        depart(provider);
        VM.expectRevert(IProviderRegistry.ProviderHasAlreadyDeregistered.selector);
        depart(provider);
    }

    function test_refuses_to_let_go_of_who_has_bids() public {
        join(provider, 1 ether);
        bytes32 id = bid(provider, addModel(BASE_MODEL), MIN_PRICE);
        VM.expectRevert(IProviderRegistry.ProviderHasActiveBids.selector);
        depart(provider);
        VM.prank(provider);
        registry.deleteModelBid(id);
        depart(provider);
    }

    function test_a_higher_minimum_leaves_who_is_there() public {
        join(provider, MIN_STAKE);
        VM.expectEmit(address(registry));
        emit IProviderRegistry.ProviderMinimumStakeUpdated(9 ether);
        VM.prank(owner);
        registry.providerSetMinStake(9 ether);

        VM.assertEq(registry.getProviderMinimumStake(), 9 ether);
        VM.assertTrue(registry.getIsProviderActive(provider));
        VM.expectRevert(abi.encodeWithSelector(IProviderRegistry.ProviderStakeTooLow.selector, MIN_STAKE, 9 ether));
        join(provider, 0);
    }

    function test_only_the_owner_sets_the_minimum() public {
        VM.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, stranger));
        VM.prank(stranger);
        registry.providerSetMinStake(0);
    }

    function testFuzz_pages_add_up_to_the_whole(uint8 count, uint256 limit) public {
        count = uint8(within(count, 0, 12));
        limit = within(limit, 1, 15);
        for (uint160 i = 1; i <= count; ++i) {
            mor.mint(address(i << 40), 1 ether);
            VM.prank(address(i << 40));
            mor.approve(address(registry), 1 ether);
            join(address(i << 40), 1 ether);
        }
        uint256 seen;
        for (uint256 offset = 0; offset < count; offset += limit) {
            (address[] memory page, uint256 total) = registry.getActiveProviders(offset, limit);
            VM.assertEq(total, count);
            for (uint256 i = 0; i < page.length; ++i) {
                VM.assertEq(page[i], address(uint160(seen + 1) << 40));
                ++seen;
            }
        }
        VM.assertEq(seen, count);
    }

    function test_a_page_beyond_the_end_is_empty_and_no_limit_is_too_large() public {
        join(provider, 1 ether);
        join(rival, 1 ether);
        (address[] memory page, uint256 total) = registry.getActiveProviders(2, 1);
        VM.assertEq(page.length, 0);
        VM.assertEq(total, 2);
        (page,) = registry.getActiveProviders(type(uint256).max, type(uint256).max);
        VM.assertEq(page.length, 0);
        (page,) = registry.getActiveProviders(1, type(uint256).max);
        VM.assertEq(page.length, 1);
        VM.assertEq(page[0], rival);
    }
}
