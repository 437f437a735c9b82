// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {RegistryBase} from "./RegistryBase.sol";

/// Providers: who they are, where they answer, what they have at stake.
abstract contract ProviderRegistry is IProviderRegistry, RegistryBase {
    using EnumerableSet for EnumerableSet.AddressSet;

    uint256 private constant ENDPOINT_LENGTH_MAX = 256;
    uint128 private constant LIMIT_PERIOD = 365 days;

    uint256 private _providerMinStake;
    mapping(address account => Provider) private _providers;
    EnumerableSet.AddressSet private _activeProviders;

    constructor(uint256 minStake) {
        _setProviderMinStake(minStake);
    }

    /// @inheritdoc IProviderRegistry
    function providerSetMinStake(uint256 providerMinimumStake) external onlyOwner {
        _setProviderMinStake(providerMinimumStake);
    }

    /// @inheritdoc IProviderRegistry
    function providerRegister(address provider, uint256 amount, string calldata endpoint) external {
        _requireCaller(provider);
        uint256 length = bytes(endpoint).length;
        require(length <= ENDPOINT_LENGTH_MAX, ProviderEndpointTooLong(length, ENDPOINT_LENGTH_MAX));

        Provider storage entry = _providers[provider];
        uint256 stake = entry.stake + amount;
        require(stake >= _providerMinStake, ProviderStakeTooLow(stake, _providerMinStake));

        if (entry.createdAt == 0) {
            entry.createdAt = uint128(block.timestamp);
            entry.limitPeriodEnd = uint128(block.timestamp) + LIMIT_PERIOD;
        }
        entry.isDeleted = false;
        entry.endpoint = endpoint;
        entry.stake = stake;
        _activeProviders.add(provider);

        emit ProviderRegistered(provider);
        _take(provider, amount);
    }

    /// @inheritdoc IProviderRegistry
    function providerDeregister(address provider) external {
        _requireCaller(provider);
        Provider storage entry = _providers[provider];
        require(entry.createdAt != 0, ProviderNotFound());
        require(!_providerHasActiveBids(provider), ProviderHasActiveBids());
        require(!entry.isDeleted, ProviderHasAlreadyDeregistered());

        uint256 stake = entry.stake;
        entry.stake = 0;
        entry.isDeleted = true;
        _activeProviders.remove(provider);

        emit ProviderDeregistered(provider);
        _pay(provider, stake);
    }

    /// @inheritdoc IProviderRegistry
    function getProvider(address provider) external view returns (Provider memory) {
        return _providers[provider];
    }

    /// @inheritdoc IProviderRegistry
    function getProviderMinimumStake() external view returns (uint256) {
        return _providerMinStake;
    }

    /// @inheritdoc IProviderRegistry
    function getActiveProviders(uint256 offset, uint256 limit) external view returns (address[] memory, uint256) {
        uint256 length = _activeProviders.length();
        return (_activeProviders.values(offset, _pageEnd(offset, limit, length)), length);
    }

    /// @inheritdoc IProviderRegistry
    function getIsProviderActive(address provider) public view returns (bool) {
        Provider storage entry = _providers[provider];
        return entry.createdAt != 0 && !entry.isDeleted;
    }

    function _providerHasActiveBids(address provider) internal view virtual returns (bool);

    function _setProviderMinStake(uint256 minStake) private {
        _providerMinStake = minStake;
        emit ProviderMinimumStakeUpdated(minStake);
    }
}
