// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IMarketplace} from "../../src/interfaces/IMarketplace.sol";
import {IModelRegistry} from "../../src/interfaces/IModelRegistry.sol";
import {IProviderRegistry} from "../../src/interfaces/IProviderRegistry.sol";
import {RegistryBase} from "../../src/registry/RegistryBase.sol";
import {RegistryScene} from "./RegistryScene.sol";

/// Invariant 13: selectors, topics and error ids are the literals that Morpheus-Lumerin clients carry.
contract AbiTest is RegistryScene {
    function test_function_selectors() public pure {
        same(IProviderRegistry.providerSetMinStake.selector, 0x0b7f94d6);
        same(IProviderRegistry.providerRegister.selector, 0x365700cb);
        same(IProviderRegistry.providerDeregister.selector, 0x2ca36c49);
        same(IProviderRegistry.getProvider.selector, 0x55f21eb7);
        same(IProviderRegistry.getProviderMinimumStake.selector, 0x53c029f6);
        same(IProviderRegistry.getActiveProviders.selector, 0xd5472642);
        same(IProviderRegistry.getIsProviderActive.selector, 0x63ef175d);
        same(IModelRegistry.modelSetMinStake.selector, 0x78998329);
        same(IModelRegistry.modelRegister.selector, 0x21dea0a0);
        same(IModelRegistry.modelDeregister.selector, 0xd5a245f1);
        same(IModelRegistry.getModelId.selector, 0xbb93d26a);
        same(IModelRegistry.getModel.selector, 0x21e7c498);
        same(IModelRegistry.getModelIds.selector, 0x08d0aab4);
        same(IModelRegistry.getModelMinimumStake.selector, 0xf647ba3d);
        same(IModelRegistry.getActiveModelIds.selector, 0x3839d3dc);
        same(IModelRegistry.getIsModelActive.selector, 0xca74b5f3);
        same(IMarketplace.setMarketplaceBidFee.selector, 0x849c239c);
        same(IMarketplace.setMinMaxBidPricePerSecond.selector, 0xf748de1c);
        same(IMarketplace.postModelBid.selector, 0xede96bb1);
        same(IMarketplace.deleteModelBid.selector, 0x8913dcaa);
        same(IMarketplace.withdrawFee.selector, 0xfd9be522);
        same(IMarketplace.getBidId.selector, 0x747ddd5b);
        same(IMarketplace.getProviderModelId.selector, 0x1cc9de8c);
        same(IMarketplace.getBidFee.selector, 0x8dbb4647);
        same(IMarketplace.getFeeBalance.selector, 0xd4c30ceb);
        same(IMarketplace.getMinMaxBidPricePerSecond.selector, 0x38c8ac62);
        same(IMarketplace.getBid.selector, 0x91704e1e);
        same(IMarketplace.getProviderActiveBids.selector, 0xaf5b77ca);
        same(IMarketplace.getModelActiveBids.selector, 0x8a683b6e);
        same(IMarketplace.getProviderBids.selector, 0x59d435c4);
        same(IMarketplace.getModelBids.selector, 0xfade17b1);
        same(IMarketplace.getToken.selector, 0x21df0da7);
        same(IMarketplace.isBidActive.selector, 0x1345df58);
    }

    function test_event_topics() public pure {
        VM.assertEq(
            IMarketplace.MaretplaceFeeUpdated.selector,
            0x9c16b729dd48a231a60f92c4c1a12a5225825dd20699fc221314ea2d73a97cce
        );
        VM.assertEq(
            IMarketplace.MarketplaceBidPosted.selector,
            0xfc422bb61cd73bc76f27eecf69cce3db0b05d39769ca3ed0fb314a3d04bff6f6
        );
        VM.assertEq(
            IMarketplace.MarketplaceBidDeleted.selector,
            0x409dfc0f98bf6e062e576fbdc63c9f82392d44deff61e3412f8bd256d2814883
        );
        VM.assertEq(
            IMarketplace.MarketplaceBidMinMaxPriceUpdated.selector,
            0x522f4bcd10bb097a0de10e63abe81fdef5ff505c11cded69df4bb84b1f87a563
        );
        VM.assertEq(
            IProviderRegistry.ProviderRegistered.selector,
            0x70abce74777b3838ae60a33a6b9a87d9d25532668fe4fea548554c55868579c0
        );
        VM.assertEq(
            IProviderRegistry.ProviderDeregistered.selector,
            0xf04091b4a187e321a42001e46961e45b6a75b203fc6fb766b7e05505f6080abb
        );
        VM.assertEq(
            IProviderRegistry.ProviderMinimumStakeUpdated.selector,
            0x4d6b08cda70533f8222fea5ffc794d3a1f5dcde2620c6fa74789ef647db19450
        );
        VM.assertEq(
            IProviderRegistry.ProviderWithdrawn.selector,
            0x61388fbc2ba003175d3018b8f13b002234cc4e203a332a4a6dadb96bc82c3db2
        );
        VM.assertEq(
            IModelRegistry.ModelRegisteredUpdated.selector,
            0xda9282a68d90c36d31d780a69a65da6c35191a5d8cdd37bd1a1a5aa9fb168e77
        );
        VM.assertEq(
            IModelRegistry.ModelDeregistered.selector,
            0x79a9f3017f26694a70f688c1e37f4add042a050660c62fc8351f760b153b888b
        );
        VM.assertEq(
            IModelRegistry.ModelMinimumStakeUpdated.selector,
            0x136e2b2828baa18257e8eef3c26df62481c7b16303ca0ebe4202865df5e97d7e
        );
    }

    function test_error_ids() public pure {
        same(IMarketplace.MarketplaceProviderNotFound.selector, 0x8d0285d4);
        same(IMarketplace.MarketplaceModelNotFound.selector, 0x0e68881c);
        same(IMarketplace.MarketplaceActiveBidNotFound.selector, 0x33ac0973);
        same(IMarketplace.MarketplaceBidMinPricePerSecondIsZero.selector, 0x6261483d);
        same(IMarketplace.MarketplaceBidMinPricePerSecondIsInvalid.selector, 0x5dcc0631);
        same(IMarketplace.MarketplaceBidPricePerSecondInvalid.selector, 0x9c7f2f48);
        same(IMarketplace.MarketplaceFeeAmountIsZero.selector, 0x864d4cb3);
        same(IProviderRegistry.ProviderStakeTooLow.selector, 0xbcc35dcc);
        same(IProviderRegistry.ProviderNotDeregistered.selector, 0x5ac22984);
        same(IProviderRegistry.ProviderNoStake.selector, 0x943a78fe);
        same(IProviderRegistry.ProviderNothingToWithdraw.selector, 0xaf027e2e);
        same(IProviderRegistry.ProviderHasActiveBids.selector, 0xf6c1fedc);
        same(IProviderRegistry.ProviderNotFound.selector, 0xb1cd0903);
        same(IProviderRegistry.ProviderHasAlreadyDeregistered.selector, 0x15b52eb4);
        same(IModelRegistry.ModelStakeTooLow.selector, 0x2f7895f5);
        same(IModelRegistry.ModelHasAlreadyDeregistered.selector, 0xb0835d39);
        same(IModelRegistry.ModelNotFound.selector, 0x897b047d);
        same(IModelRegistry.ModelHasActiveBids.selector, 0x633910a0);
        same(RegistryBase.InsufficientRightsForOperation.selector, 0x2e980d14);
        same(Ownable.OwnableUnauthorizedAccount.selector, 0x118cdaa7);
    }

    /// Field order on the wire, as a client decodes it.
    function test_struct_encodings() public {
        bytes32 modelId = addModel(BASE_MODEL, 1 ether);
        join(provider, 2 ether);
        bytes32 bidId = bid(provider, modelId, MIN_PRICE);

        VM.assertEq(
            answer(abi.encodeCall(registry.getProvider, (provider))),
            abi.encode(
                uint256(0x20),
                uint256(0xc0), // endpoint follows the six heads
                uint256(2 ether),
                START,
                START + 365 days,
                uint256(0),
                false,
                uint256(21),
                bytes32("provider.example:3333")
            )
        );
        VM.assertEq(
            answer(abi.encodeCall(registry.getBid, (bidId))),
            abi.encode(provider, modelId, MIN_PRICE, uint256(0), START, uint256(0))
        );
        VM.assertEq(
            answer(abi.encodeCall(registry.getModel, (modelId))),
            bytes.concat(
                abi.encode(uint256(0x20), bytes32("cid"), uint256(7), uint256(1 ether), modelOwner),
                abi.encode(uint256(0x100), uint256(0x140), START, false, uint256(7), bytes32("a model")),
                abi.encode(uint256(2), uint256(0x40), uint256(0x80)),
                abi.encode(uint256(3), bytes32("llm"), uint256(3), bytes32("tee"))
            )
        );
    }

    function answer(bytes memory call) private view returns (bytes memory) {
        (bool accepted, bytes memory returned) = address(registry).staticcall(call);
        VM.assertTrue(accepted);
        return returned;
    }

    function same(bytes4 ours, bytes4 theirs) private pure {
        VM.assertEq(bytes32(ours), bytes32(theirs));
    }
}
