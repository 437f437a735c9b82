// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Registry} from "../../src/Registry.sol";
import {IMarketplace} from "../../src/interfaces/IMarketplace.sol";
import {Scene} from "../base/Scene.sol";
import {RegistryHandler} from "./RegistryHandler.sol";

/// INVARIANTS.md, 12 and 14, after any sequence of allowed moves. Looked at every tenth move: the look takes longer than
/// the moves, and what breaks here stays broken.
/// forge-config: default.invariant.check-interval = 10
contract RegistryInvariants is Scene {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    RegistryHandler private _handler;
    Registry private _registry;

    function setUp() public {
        _handler = new RegistryHandler();
        _handler.setUp();
        _registry = _handler.book();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](8);
        selectors[0] = RegistryHandler.joinOrTopUp.selector;
        selectors[1] = RegistryHandler.leaveIfPossible.selector;
        selectors[2] = RegistryHandler.addOrEditModel.selector;
        selectors[3] = RegistryHandler.removeModelIfPossible.selector;
        selectors[4] = RegistryHandler.post.selector;
        selectors[5] = RegistryHandler.remove.selector;
        selectors[6] = RegistryHandler.takeFees.selector;
        selectors[7] = RegistryHandler.changeFee.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_handler), selectors);
    }

    /// One campaign for all of them: the sequences would be the same for each.
    function invariant_registry() external view {
        _holds_12_holdings_are_stakes_and_fees();
        _holds_14_one_active_bid_a_pair();
        _holds_14_active_lists_are_the_lists_filtered();
        _holds_14_only_active_sides_have_bids();
    }

    /// 12: what the registry holds is stakes and fees, to the unit.
    function _holds_12_holdings_are_stakes_and_fees() private view {
        uint256 owed = _registry.getFeeBalance();
        for (uint256 i = 0; i < _handler.PROVIDERS(); ++i) {
            owed += _registry.getProvider(_handler.providerOf(i)).stake;
        }
        for (uint256 i = 0; i < _handler.MODELS(); ++i) {
            owed += _registry.getModel(_handler.modelOf(i)).stake;
        }
        VM.assertEq(_handler.held(), owed);
    }

    /// 14: at most one bid of a provider on a model is on the market, and it is the last one posted.
    function _holds_14_one_active_bid_a_pair() private view {
        for (uint256 p = 0; p < _handler.PROVIDERS(); ++p) {
            address provider = _handler.providerOf(p);
            (bytes32[] memory all,) = _registry.getProviderBids(provider, 0, type(uint256).max);
            for (uint256 i = 0; i < all.length; ++i) {
                IMarketplace.Bid memory bid = _registry.getBid(all[i]);
                bytes32 next = _registry.getBidId(provider, bid.modelId, bid.nonce + 1);
                bool isLast = _registry.getBid(next).createdAt == 0;
                VM.assertTrue(isLast || !_registry.isBidActive(all[i]), "an older bid is on the market");
            }
        }
    }

    /// 14: the active lists are the whole lists without what was deleted, from either side.
    function _holds_14_active_lists_are_the_lists_filtered() private view {
        for (uint256 p = 0; p < _handler.PROVIDERS(); ++p) {
            (bytes32[] memory all,) = _registry.getProviderBids(_handler.providerOf(p), 0, type(uint256).max);
            (bytes32[] memory active,) = _registry.getProviderActiveBids(_handler.providerOf(p), 0, type(uint256).max);
            _sameAsFiltered(all, active);
        }
        for (uint256 m = 0; m < _handler.MODELS(); ++m) {
            (bytes32[] memory all,) = _registry.getModelBids(_handler.modelOf(m), 0, type(uint256).max);
            (bytes32[] memory active,) = _registry.getModelActiveBids(_handler.modelOf(m), 0, type(uint256).max);
            _sameAsFiltered(all, active);
        }
    }

    /// 14: nobody who left, and no model that was removed, has a bid on the market.
    function _holds_14_only_active_sides_have_bids() private view {
        for (uint256 p = 0; p < _handler.PROVIDERS(); ++p) {
            address provider = _handler.providerOf(p);
            (bytes32[] memory active,) = _registry.getProviderActiveBids(provider, 0, type(uint256).max);
            VM.assertTrue(active.length == 0 || _registry.getIsProviderActive(provider));
            for (uint256 i = 0; i < active.length; ++i) {
                VM.assertTrue(_registry.getIsModelActive(_registry.getBid(active[i]).modelId));
            }
        }
    }

    function _sameAsFiltered(bytes32[] memory all, bytes32[] memory active) private view {
        uint256 count;
        for (uint256 i = 0; i < all.length; ++i) {
            if (_registry.isBidActive(all[i])) ++count;
        }
        VM.assertEq(active.length, count);
        for (uint256 i = 0; i < active.length; ++i) {
            VM.assertTrue(_registry.isBidActive(active[i]));
        }
    }
}
