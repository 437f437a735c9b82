// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Registry} from "../../src/Registry.sol";
import {RegistryScene} from "./RegistryScene.sol";

/// Four providers, three models, an owner, and everybody's moves in any order. A move that the rules forbid at that
/// moment is left out, so every call that is made has to succeed.
contract RegistryHandler is RegistryScene {
    uint256 public constant PROVIDERS = 4;
    uint256 public constant MODELS = 3;

    mapping(address who => uint256) private _staked;

    function setUp() public override {
        super.setUp();
        mor.mint(modelOwner, 1e30);
        for (uint256 i = 0; i < PROVIDERS; ++i) {
            mor.mint(providerOf(i), 1e30);
            VM.prank(providerOf(i));
            mor.approve(address(registry), type(uint256).max);
        }
    }

    function joinOrTopUp(uint256 which, uint256 amount) external {
        join(providerOf(which), within(amount, MIN_STAKE, 10 ether));
    }

    function leaveIfPossible(uint256 which) external {
        address who = providerOf(which);
        (, uint256 bids) = registry.getProviderActiveBids(who, 0, 0);
        if (!registry.getIsProviderActive(who) || bids != 0) return;
        uint256 stake = registry.getProvider(who).stake;
        uint256 before = mor.balanceOf(who);
        depart(who);
        VM.assertEq(mor.balanceOf(who) - before, stake, "invariant 12: the whole stake comes back");
    }

    function addOrEditModel(uint256 which, uint256 amount) external {
        addModel(bytes32(which % MODELS), within(amount, MIN_MODEL_STAKE, 10 ether));
    }

    function removeModelIfPossible(uint256 which) external {
        bytes32 id = modelOf(which);
        (, uint256 bids) = registry.getModelActiveBids(id, 0, 0);
        if (!registry.getIsModelActive(id) || bids != 0) return;
        uint256 stake = registry.getModel(id).stake;
        uint256 before = mor.balanceOf(modelOwner);
        VM.prank(modelOwner);
        registry.modelDeregister(id);
        VM.assertEq(mor.balanceOf(modelOwner) - before, stake, "invariant 12: the whole stake comes back");
    }

    function post(uint256 which, uint256 model, uint256 price) external {
        if (!registry.getIsProviderActive(providerOf(which)) || !registry.getIsModelActive(modelOf(model))) return;
        bid(providerOf(which), modelOf(model), within(price, MIN_PRICE, MAX_PRICE));
    }

    function remove(uint256 which, uint256 index) external {
        address who = providerOf(which);
        (, uint256 count) = registry.getProviderActiveBids(who, 0, 0);
        if (count == 0) return;
        (bytes32[] memory page,) = registry.getProviderActiveBids(who, index % count, 1);
        VM.prank(who);
        registry.deleteModelBid(page[0]);
    }

    function takeFees(uint256 amount) external {
        if (registry.getFeeBalance() == 0) return;
        VM.prank(owner);
        registry.withdrawFee(owner, within(amount, 1, 1 ether));
    }

    function changeFee(uint256 amount) external {
        VM.prank(owner);
        registry.setMarketplaceBidFee(within(amount, 0, 1 ether));
    }

    function providerOf(uint256 which) public pure returns (address) {
        return address(uint160(0xBEEF0000 + which % PROVIDERS));
    }

    function modelOf(uint256 which) public view returns (bytes32) {
        return registry.getModelId(modelOwner, bytes32(which % MODELS));
    }

    function book() external view returns (Registry) {
        return registry;
    }

    function held() external view returns (uint256) {
        return mor.balanceOf(address(registry));
    }
}
