// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {MorToken} from "../../src/MorToken.sol";
import {Registry} from "../../src/Registry.sol";
import {Scene} from "../base/Scene.sol";

/// A registry with the parameters of the Morpheus-Lumerin main network and accounts that can afford it.
abstract contract RegistryScene is Scene {
    uint256 internal constant WEALTH = 1000 ether;
    uint256 internal constant MIN_STAKE = 0.2 ether;
    uint256 internal constant MIN_MODEL_STAKE = 0.1 ether;
    uint256 internal constant FEE = 0.3 ether;
    uint256 internal constant MIN_PRICE = 1e13;
    uint256 internal constant MAX_PRICE = 1e16;
    bytes32 internal constant BASE_MODEL = keccak256("a base model");

    MorToken internal mor;
    Registry internal registry;

    address internal owner = signer("owner").addr;
    address internal provider = signer("provider").addr;
    address internal rival = signer("rival").addr;
    address internal modelOwner = signer("model owner").addr;
    address internal stranger = signer("stranger").addr;

    function setUp() public virtual {
        VM.warp(START);
        mor = new MorToken(address(this), address(this), 0);
        registry = new Registry(parameters());
        address[4] memory users = [provider, rival, modelOwner, stranger];
        for (uint256 i = 0; i < users.length; ++i) {
            mor.mint(users[i], WEALTH);
            VM.prank(users[i]);
            mor.approve(address(registry), type(uint256).max);
        }
    }

    function parameters() internal view returns (Registry.Parameters memory) {
        return Registry.Parameters({
            token: address(mor),
            minPricePerSecond: MIN_PRICE,
            maxPricePerSecond: MAX_PRICE,
            providerMinStake: MIN_STAKE,
            modelMinStake: MIN_MODEL_STAKE,
            bidFee: FEE,
            owner: owner
        });
    }

    function join(address who, uint256 stake) internal {
        VM.prank(who);
        registry.providerRegister(who, stake, "provider.example:3333");
    }

    function depart(address who) internal {
        VM.prank(who);
        registry.providerDeregister(who);
    }

    function addModel(bytes32 base) internal returns (bytes32) {
        return addModel(base, MIN_MODEL_STAKE);
    }

    function addModel(bytes32 base, uint256 stake) internal returns (bytes32 modelId) {
        VM.prank(modelOwner);
        registry.modelRegister(modelOwner, base, bytes32("cid"), 7, stake, "a model", tags("llm", "tee"));
        return registry.getModelId(modelOwner, base);
    }

    function bid(address who, bytes32 modelId, uint256 price) internal returns (bytes32) {
        VM.prank(who);
        return registry.postModelBid(who, modelId, price);
    }

    function tags(string memory first, string memory second) internal pure returns (string[] memory list) {
        list = new string[](2);
        (list[0], list[1]) = (first, second);
    }

    function text(uint256 length) internal pure returns (string memory) {
        return string(new bytes(length));
    }
}
