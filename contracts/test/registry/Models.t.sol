// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IModelRegistry} from "../../src/interfaces/IModelRegistry.sol";
import {RegistryBase} from "../../src/registry/RegistryBase.sol";
import {RegistryScene} from "./RegistryScene.sol";

/// The life of a model, and pages over all of them.
contract ModelsTest is RegistryScene {
    function test_registers_and_takes_the_stake() public {
        bytes32 modelId = keccak256(abi.encodePacked(modelOwner, BASE_MODEL));
        VM.expectEmit(address(registry));
        emit IModelRegistry.ModelRegisteredUpdated(modelOwner, modelId);
        VM.assertEq(addModel(BASE_MODEL, 1 ether), modelId);

        IModelRegistry.Model memory entry = registry.getModel(modelId);
        VM.assertEq(entry.ipfsCID, bytes32("cid"));
        VM.assertEq(entry.fee, 7);
        VM.assertEq(entry.stake, 1 ether);
        VM.assertEq(entry.owner, modelOwner);
        VM.assertEq(entry.name, "a model");
        VM.assertEq(entry.tags.length, 2);
        VM.assertEq(entry.tags[0], "llm");
        VM.assertEq(entry.tags[1], "tee");
        VM.assertEq(entry.createdAt, START);
        VM.assertFalse(entry.isDeleted);
        VM.assertTrue(registry.getIsModelActive(modelId));
        VM.assertEq(mor.balanceOf(address(registry)), 1 ether);
    }

    function test_registering_again_edits_and_tops_up() public {
        bytes32 modelId = addModel(BASE_MODEL, 1 ether);
        VM.warp(START + 1);
        VM.prank(modelOwner);
        registry.modelRegister(modelOwner, BASE_MODEL, bytes32("other"), 8, 2 ether, "renamed", new string[](1));

        IModelRegistry.Model memory entry = registry.getModel(modelId);
        VM.assertEq(entry.ipfsCID, bytes32("other"));
        VM.assertEq(entry.fee, 8);
        VM.assertEq(entry.stake, 3 ether);
        VM.assertEq(entry.name, "renamed");
        VM.assertEq(entry.tags.length, 1);
        VM.assertEq(entry.tags[0], "");
        VM.assertEq(entry.createdAt, START);
        (, uint256 all) = registry.getModelIds(0, 9);
        VM.assertEq(all, 1);
    }

    function test_refuses_too_little() public {
        VM.expectRevert(
            abi.encodeWithSelector(IModelRegistry.ModelStakeTooLow.selector, MIN_MODEL_STAKE - 1, MIN_MODEL_STAKE)
        );
        addModel(BASE_MODEL, MIN_MODEL_STAKE - 1);
        addModel(BASE_MODEL, MIN_MODEL_STAKE);
    }

    function test_refuses_texts_that_are_too_long() public {
        register(text(100), new string[](16));
        VM.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelNameTooLong.selector, 101, 100));
        register(text(101), new string[](0));
        VM.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelTooManyTags.selector, 17, 16));
        register("a model", new string[](17));
        register("a model", tags("llm", text(32)));
        VM.expectRevert(abi.encodeWithSelector(IModelRegistry.ModelTagTooLong.selector, 1, 33, 32));
        register("a model", tags("llm", text(33)));
    }

    function test_nobody_acts_for_another() public {
        bytes32 modelId = addModel(BASE_MODEL);
        bytes memory why =
            abi.encodeWithSelector(RegistryBase.InsufficientRightsForOperation.selector, modelOwner, stranger);
        VM.expectRevert(why);
        VM.prank(stranger);
        registry.modelRegister(modelOwner, BASE_MODEL, "", 0, 1 ether, "", new string[](0));
        VM.expectRevert(why);
        VM.prank(stranger);
        registry.modelDeregister(modelId);
    }

    function test_an_unknown_model_is_nobodys() public {
        VM.expectRevert(
            abi.encodeWithSelector(RegistryBase.InsufficientRightsForOperation.selector, address(0), stranger)
        );
        VM.prank(stranger);
        registry.modelDeregister(bytes32("unknown"));
    }

    function test_removing_returns_the_whole_stake() public {
        bytes32 modelId = addModel(BASE_MODEL, 5 ether);
        VM.expectEmit(address(registry));
        emit IModelRegistry.ModelDeregistered(modelOwner, modelId);
        remove(modelId);

        VM.assertEq(mor.balanceOf(modelOwner), WEALTH);
        VM.assertEq(registry.getModel(modelId).stake, 0);
        VM.assertFalse(registry.getIsModelActive(modelId));
        (, uint256 all) = registry.getModelIds(0, 9);
        (, uint256 active) = registry.getActiveModelIds(0, 9);
        VM.assertEq(all, 1);
        VM.assertEq(active, 0);
        VM.expectRevert(IModelRegistry.ModelHasAlreadyDeregistered.selector);
        remove(modelId);
    }

    function test_a_removed_model_may_come_back() public {
        bytes32 modelId = addModel(BASE_MODEL, 5 ether);
        remove(modelId);
        VM.assertEq(addModel(BASE_MODEL, 1 ether), modelId);

        VM.assertTrue(registry.getIsModelActive(modelId));
        VM.assertEq(registry.getModel(modelId).stake, 1 ether);
        (, uint256 all) = registry.getModelIds(0, 9);
        VM.assertEq(all, 1);
    }

    function test_refuses_to_remove_a_model_with_bids() public {
        bytes32 modelId = addModel(BASE_MODEL);
        join(provider, 1 ether);
        bytes32 id = bid(provider, modelId, MIN_PRICE);
        VM.expectRevert(IModelRegistry.ModelHasActiveBids.selector);
        remove(modelId);
        VM.prank(provider);
        registry.deleteModelBid(id);
        remove(modelId);
    }

    function test_only_the_owner_sets_the_minimum() public {
        VM.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, stranger));
        VM.prank(stranger);
        registry.modelSetMinStake(0);

        VM.expectEmit(address(registry));
        emit IModelRegistry.ModelMinimumStakeUpdated(2 ether);
        VM.prank(owner);
        registry.modelSetMinStake(2 ether);
        VM.assertEq(registry.getModelMinimumStake(), 2 ether);
    }

    function testFuzz_pages_add_up_to_the_whole(uint8 count, uint256 limit, uint8 removed) public {
        count = uint8(within(count, 1, 8));
        limit = within(limit, 1, 10);
        for (uint256 i = 0; i < count; ++i) {
            addModel(bytes32(i));
        }
        bytes32 gone = registry.getModelId(modelOwner, bytes32(uint256(removed % count)));
        remove(gone);

        uint256 seen;
        for (uint256 offset = 0; offset < count; offset += limit) {
            (bytes32[] memory page, uint256 total) = registry.getActiveModelIds(offset, limit);
            VM.assertEq(total, count - 1);
            for (uint256 i = 0; i < page.length; ++i) {
                VM.assertTrue(page[i] != gone);
            }
            seen += page.length;
        }
        VM.assertEq(seen, count - 1);
        (bytes32[] memory all,) = registry.getModelIds(0, count);
        for (uint256 i = 0; i < count; ++i) {
            VM.assertEq(all[i], registry.getModelId(modelOwner, bytes32(i)));
        }
    }

    function register(string memory name, string[] memory list) private {
        VM.prank(modelOwner);
        registry.modelRegister(modelOwner, BASE_MODEL, "", 0, 1 ether, name, list);
    }

    function remove(bytes32 modelId) private {
        VM.prank(modelOwner);
        registry.modelDeregister(modelId);
    }
}
