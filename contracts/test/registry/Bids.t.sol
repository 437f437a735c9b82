// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {Registry} from "../../src/Registry.sol";
import {IMarketplace} from "../../src/interfaces/IMarketplace.sol";
import {RegistryBase} from "../../src/registry/RegistryBase.sol";
import {RegistryScene} from "./RegistryScene.sol";

/// Bids from posting to deletion, their fees, and what only the owner may do.
contract BidsTest is RegistryScene {
    bytes32 private modelId;

    function setUp() public override {
        super.setUp();
        modelId = addModel(BASE_MODEL);
        join(provider, 1 ether);
    }

    function test_posts_a_bid_and_takes_the_fee() public {
        bytes32 expected = keccak256(abi.encodePacked(provider, modelId, uint256(0)));
        VM.expectEmit(address(registry));
        emit IMarketplace.MarketplaceBidPosted(provider, modelId, 0);
        bytes32 id = bid(provider, modelId, MIN_PRICE);

        VM.assertEq(id, expected);
        IMarketplace.Bid memory posted = registry.getBid(id);
        VM.assertEq(posted.provider, provider);
        VM.assertEq(posted.modelId, modelId);
        VM.assertEq(posted.pricePerSecond, MIN_PRICE);
        VM.assertEq(posted.nonce, 0);
        VM.assertEq(posted.createdAt, START);
        VM.assertEq(posted.deletedAt, 0);
        VM.assertTrue(registry.isBidActive(id));
        VM.assertEq(registry.getFeeBalance(), FEE);
        VM.assertEq(mor.balanceOf(provider), WEALTH - 1 ether - FEE);
    }

    function test_a_new_bid_replaces_the_old_one() public {
        bytes32 first = bid(provider, modelId, MIN_PRICE);
        VM.warp(START + 5);
        VM.expectEmit(address(registry));
        emit IMarketplace.MarketplaceBidDeleted(provider, modelId, 0);
        VM.expectEmit(address(registry));
        emit IMarketplace.MarketplaceBidPosted(provider, modelId, 1);
        bytes32 second = bid(provider, modelId, MAX_PRICE);

        VM.assertFalse(registry.isBidActive(first));
        VM.assertEq(registry.getBid(first).deletedAt, START + 5);
        onlyActive(second);
        (bytes32[] memory all, uint256 total) = registry.getProviderBids(provider, 0, 9);
        VM.assertEq(total, 2);
        VM.assertEq(all[0], first);
        VM.assertEq(all[1], second);
        (all, total) = registry.getModelBids(modelId, 1, 9);
        VM.assertEq(total, 2);
        VM.assertEq(all.length, 1);
        VM.assertEq(all[0], second);
    }

    function test_a_deleted_bid_leaves_the_market_and_stays_readable() public {
        bytes32 first = bid(provider, modelId, MIN_PRICE);
        VM.expectEmit(address(registry));
        emit IMarketplace.MarketplaceBidDeleted(provider, modelId, 0);
        remove(provider, first);

        VM.assertEq(registry.getBid(first).deletedAt, START);
        (, uint256 active) = registry.getProviderActiveBids(provider, 0, 9);
        VM.assertEq(active, 0);
        VM.expectRevert(IMarketplace.MarketplaceActiveBidNotFound.selector);
        remove(provider, first);

        VM.warp(START + 9);
        bytes32 second = bid(provider, modelId, MIN_PRICE);
        VM.assertEq(second, registry.getBidId(provider, modelId, 1));
        VM.assertEq(registry.getBid(first).deletedAt, START); // deleted once, not again by its successor
        onlyActive(second);
    }

    function test_providers_bid_beside_each_other() public {
        join(rival, 1 ether);
        bytes32 ours = bid(provider, modelId, MIN_PRICE);
        bytes32 theirs = bid(rival, modelId, MIN_PRICE);
        VM.assertTrue(ours != theirs);
        VM.assertTrue(registry.isBidActive(ours));
        (, uint256 active) = registry.getModelActiveBids(modelId, 0, 9);
        VM.assertEq(active, 2);
    }

    function test_nobody_acts_for_another() public {
        bytes32 id = bid(provider, modelId, MIN_PRICE);
        bytes memory why =
            abi.encodeWithSelector(RegistryBase.InsufficientRightsForOperation.selector, provider, stranger);
        VM.expectRevert(why);
        VM.prank(stranger);
        registry.postModelBid(provider, modelId, MIN_PRICE);
        VM.expectRevert(why);
        remove(stranger, id);
    }

    function test_refuses_who_is_not_a_provider_any_more() public {
        VM.expectRevert(IMarketplace.MarketplaceProviderNotFound.selector);
        bid(stranger, modelId, MIN_PRICE);
        depart(provider);
        VM.expectRevert(IMarketplace.MarketplaceProviderNotFound.selector);
        bid(provider, modelId, MIN_PRICE);
    }

    function test_refuses_what_is_not_a_model_any_more() public {
        VM.expectRevert(IMarketplace.MarketplaceModelNotFound.selector);
        bid(provider, bytes32("unknown"), MIN_PRICE);
        VM.prank(modelOwner);
        registry.modelDeregister(modelId);
        VM.expectRevert(IMarketplace.MarketplaceModelNotFound.selector);
        bid(provider, modelId, MIN_PRICE);
    }

    function test_refuses_prices_outside_the_bounds() public {
        uint256[3] memory wrong = [uint256(0), MIN_PRICE - 1, MAX_PRICE + 1];
        for (uint256 i = 0; i < wrong.length; ++i) {
            VM.expectRevert(IMarketplace.MarketplaceBidPricePerSecondInvalid.selector);
            bid(provider, modelId, wrong[i]);
        }
        bid(provider, modelId, MIN_PRICE);
        bid(provider, modelId, MAX_PRICE);
    }

    function test_the_owner_moves_the_bounds() public {
        VM.expectEmit(address(registry));
        emit IMarketplace.MarketplaceBidMinMaxPriceUpdated(5, 5);
        VM.startPrank(owner);
        registry.setMinMaxBidPricePerSecond(5, 5);
        VM.expectRevert(IMarketplace.MarketplaceBidMinPricePerSecondIsZero.selector);
        registry.setMinMaxBidPricePerSecond(0, 5);
        VM.expectRevert(IMarketplace.MarketplaceBidMinPricePerSecondIsInvalid.selector);
        registry.setMinMaxBidPricePerSecond(6, 5);
        VM.stopPrank();
        (uint256 min, uint256 max) = registry.getMinMaxBidPricePerSecond();
        VM.assertEq(min, 5);
        VM.assertEq(max, 5);
        bid(provider, modelId, 5);
    }

    function test_the_owner_sets_the_fee_and_takes_it() public {
        VM.expectEmit(address(registry));
        emit IMarketplace.MaretplaceFeeUpdated(2 ether);
        VM.prank(owner);
        registry.setMarketplaceBidFee(2 ether);
        bid(provider, modelId, MIN_PRICE);
        bid(provider, modelId, MIN_PRICE);

        VM.startPrank(owner);
        registry.withdrawFee(owner, 1 ether);
        VM.assertEq(mor.balanceOf(owner), 1 ether);
        registry.withdrawFee(owner, 99 ether); // never more than there is
        VM.assertEq(mor.balanceOf(owner), 4 ether);
        VM.assertEq(registry.getFeeBalance(), 0);
        VM.expectRevert(IMarketplace.MarketplaceFeeAmountIsZero.selector);
        registry.withdrawFee(owner, 1);
        VM.stopPrank();
        VM.assertEq(mor.balanceOf(address(registry)), 1 ether + MIN_MODEL_STAKE); // stakes are not fees
    }

    function test_bidding_may_be_free() public {
        VM.prank(owner);
        registry.setMarketplaceBidFee(0);
        VM.prank(provider);
        mor.approve(address(registry), 0);
        bid(provider, modelId, MIN_PRICE);
        VM.assertEq(registry.getFeeBalance(), 0);
    }

    function test_only_the_owner_governs() public {
        bytes memory why = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, stranger);
        VM.startPrank(stranger);
        VM.expectRevert(why);
        registry.setMarketplaceBidFee(0);
        VM.expectRevert(why);
        registry.setMinMaxBidPricePerSecond(1, 1);
        VM.expectRevert(why);
        registry.withdrawFee(stranger, 1);
        VM.expectRevert(why);
        registry.transferOwnership(stranger);
        VM.stopPrank();
    }

    function test_ownership_passes_when_it_is_accepted() public {
        VM.prank(owner);
        registry.transferOwnership(rival);
        VM.assertEq(registry.owner(), owner);
        VM.prank(rival);
        registry.acceptOwnership();
        VM.assertEq(registry.owner(), rival);
    }

    function test_the_constructor_checks_what_the_setters_check() public {
        Registry.Parameters memory wrong = parameters();
        wrong.minPricePerSecond = 0;
        VM.expectRevert(IMarketplace.MarketplaceBidMinPricePerSecondIsZero.selector);
        new Registry(wrong);
        wrong.minPricePerSecond = MAX_PRICE + 1;
        VM.expectRevert(IMarketplace.MarketplaceBidMinPricePerSecondIsInvalid.selector);
        new Registry(wrong);
    }

    function test_the_constructor_sets_everything() public view {
        VM.assertEq(registry.getToken(), address(mor));
        VM.assertEq(registry.owner(), owner);
        VM.assertEq(registry.getBidFee(), FEE);
        VM.assertEq(registry.getProviderMinimumStake(), MIN_STAKE);
        VM.assertEq(registry.getModelMinimumStake(), MIN_MODEL_STAKE);
        (uint256 min, uint256 max) = registry.getMinMaxBidPricePerSecond();
        VM.assertEq(min, MIN_PRICE);
        VM.assertEq(max, MAX_PRICE);
    }

    function testFuzz_ids_are_packed_hashes(address who, bytes32 what, uint256 nonce) public view {
        VM.assertEq(registry.getModelId(who, what), keccak256(bytes.concat(bytes20(who), what)));
        VM.assertEq(registry.getProviderModelId(who, what), keccak256(bytes.concat(bytes20(who), what)));
        VM.assertEq(registry.getBidId(who, what, nonce), keccak256(bytes.concat(bytes20(who), what, bytes32(nonce))));
    }

    function remove(address who, bytes32 id) private {
        VM.prank(who);
        registry.deleteModelBid(id);
    }

    function onlyActive(bytes32 id) private view {
        (bytes32[] memory page, uint256 total) = registry.getProviderActiveBids(provider, 0, 9);
        VM.assertEq(total, 1);
        VM.assertEq(page[0], id);
        (page, total) = registry.getModelActiveBids(modelId, 0, 9);
        VM.assertEq(total, 1);
        VM.assertEq(page[0], id);
    }
}
