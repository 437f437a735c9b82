// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

import {IMarketplace} from "../interfaces/IMarketplace.sol";
import {ModelRegistry} from "./ModelRegistry.sol";
import {ProviderRegistry} from "./ProviderRegistry.sol";

/// Bids: at most one on the market for each provider and model. A bid that is replaced or deleted stays readable.
abstract contract Marketplace is IMarketplace, ProviderRegistry, ModelRegistry {
    using EnumerableSet for EnumerableSet.Bytes32Set;

    uint256 private _bidFee;
    uint256 private _feeBalance;
    uint256 private _bidMinPricePerSecond;
    uint256 private _bidMaxPricePerSecond;

    mapping(bytes32 bidId => Bid) private _bids;
    /// How many bids the provider has posted on the model: the next bid's nonce.
    mapping(bytes32 providerModelId => uint256) private _nextNonce;

    // All bids only grow, so they need no set.
    mapping(address provider => bytes32[]) private _providerBids;
    mapping(bytes32 modelId => bytes32[]) private _modelBids;
    mapping(address provider => EnumerableSet.Bytes32Set) private _providerActiveBids;
    mapping(bytes32 modelId => EnumerableSet.Bytes32Set) private _modelActiveBids;

    constructor(uint256 minPricePerSecond, uint256 maxPricePerSecond, uint256 bidFee) {
        _setPrices(minPricePerSecond, maxPricePerSecond);
        _setBidFee(bidFee);
    }

    /// @inheritdoc IMarketplace
    function setMarketplaceBidFee(uint256 bidFee) external onlyOwner {
        _setBidFee(bidFee);
    }

    /// @inheritdoc IMarketplace
    function setMinMaxBidPricePerSecond(uint256 bidMinPricePerSecond, uint256 bidMaxPricePerSecond) external onlyOwner {
        _setPrices(bidMinPricePerSecond, bidMaxPricePerSecond);
    }

    /// @inheritdoc IMarketplace
    function postModelBid(address provider, bytes32 modelId, uint256 pricePerSecond) external returns (bytes32 bidId) {
        _requireCaller(provider);
        require(getIsProviderActive(provider), MarketplaceProviderNotFound());
        require(getIsModelActive(modelId), MarketplaceModelNotFound());
        require(
            pricePerSecond >= _bidMinPricePerSecond && pricePerSecond <= _bidMaxPricePerSecond,
            MarketplaceBidPricePerSecondInvalid()
        );

        uint256 nonce = _nextNonce[getProviderModelId(provider, modelId)]++;
        if (nonce != 0) {
            bytes32 earlier = getBidId(provider, modelId, nonce - 1);
            if (isBidActive(earlier)) _deleteBid(earlier);
        }

        bidId = getBidId(provider, modelId, nonce);
        _bids[bidId] = Bid({
            provider: provider,
            modelId: modelId,
            pricePerSecond: pricePerSecond,
            nonce: nonce,
            createdAt: uint128(block.timestamp),
            deletedAt: 0
        });
        _providerBids[provider].push(bidId);
        _modelBids[modelId].push(bidId);
        _providerActiveBids[provider].add(bidId);
        _modelActiveBids[modelId].add(bidId);
        uint256 fee = _bidFee;
        _feeBalance += fee;

        emit MarketplaceBidPosted(provider, modelId, nonce);
        _take(provider, fee);
    }

    /// @inheritdoc IMarketplace
    function deleteModelBid(bytes32 bidId) external {
        require(isBidActive(bidId), MarketplaceActiveBidNotFound());
        _requireCaller(_bids[bidId].provider);
        _deleteBid(bidId);
    }

    /// @inheritdoc IMarketplace
    function withdrawFee(address recipient, uint256 amount) external onlyOwner {
        uint256 paid = amount < _feeBalance ? amount : _feeBalance;
        require(paid != 0, MarketplaceFeeAmountIsZero());
        _feeBalance -= paid;
        _pay(recipient, paid);
    }

    /// @inheritdoc IMarketplace
    function getBidFee() external view returns (uint256) {
        return _bidFee;
    }

    /// @inheritdoc IMarketplace
    function getFeeBalance() external view returns (uint256) {
        return _feeBalance;
    }

    /// @inheritdoc IMarketplace
    function getMinMaxBidPricePerSecond() external view returns (uint256, uint256) {
        return (_bidMinPricePerSecond, _bidMaxPricePerSecond);
    }

    /// @inheritdoc IMarketplace
    function getBid(bytes32 bidId) external view returns (Bid memory) {
        return _bids[bidId];
    }

    /// @inheritdoc IMarketplace
    function getProviderActiveBids(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (bytes32[] memory, uint256) {
        return _page(_providerActiveBids[provider], offset, limit);
    }

    /// @inheritdoc IMarketplace
    function getModelActiveBids(
        bytes32 modelId,
        uint256 offset,
        uint256 limit
    ) external view returns (bytes32[] memory, uint256) {
        return _page(_modelActiveBids[modelId], offset, limit);
    }

    /// @inheritdoc IMarketplace
    function getProviderBids(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (bytes32[] memory, uint256) {
        return _page(_providerBids[provider], offset, limit);
    }

    /// @inheritdoc IMarketplace
    function getModelBids(
        bytes32 modelId,
        uint256 offset,
        uint256 limit
    ) external view returns (bytes32[] memory, uint256) {
        return _page(_modelBids[modelId], offset, limit);
    }

    /// @inheritdoc IMarketplace
    function getToken() external view returns (address) {
        return address(_token);
    }

    /// @inheritdoc IMarketplace
    function isBidActive(bytes32 bidId) public view returns (bool) {
        Bid storage bid = _bids[bidId];
        return bid.createdAt != 0 && bid.deletedAt == 0;
    }

    /// @inheritdoc IMarketplace
    function getBidId(address provider, bytes32 modelId, uint256 nonce) public pure returns (bytes32) {
        return keccak256(abi.encodePacked(provider, modelId, nonce));
    }

    /// @inheritdoc IMarketplace
    function getProviderModelId(address provider, bytes32 modelId) public pure returns (bytes32) {
        return keccak256(abi.encodePacked(provider, modelId));
    }

    function _providerHasActiveBids(address provider) internal view override returns (bool) {
        return _providerActiveBids[provider].length() != 0;
    }

    function _modelHasActiveBids(bytes32 modelId) internal view override returns (bool) {
        return _modelActiveBids[modelId].length() != 0;
    }

    function _deleteBid(bytes32 bidId) private {
        Bid storage bid = _bids[bidId];
        bid.deletedAt = uint128(block.timestamp);
        _providerActiveBids[bid.provider].remove(bidId);
        _modelActiveBids[bid.modelId].remove(bidId);
        emit MarketplaceBidDeleted(bid.provider, bid.modelId, bid.nonce);
    }

    function _setBidFee(uint256 bidFee) private {
        _bidFee = bidFee;
        emit MaretplaceFeeUpdated(bidFee);
    }

    function _setPrices(uint256 minPricePerSecond, uint256 maxPricePerSecond) private {
        require(minPricePerSecond != 0, MarketplaceBidMinPricePerSecondIsZero());
        require(minPricePerSecond <= maxPricePerSecond, MarketplaceBidMinPricePerSecondIsInvalid());
        _bidMinPricePerSecond = minPricePerSecond;
        _bidMaxPricePerSecond = maxPricePerSecond;
        emit MarketplaceBidMinMaxPriceUpdated(minPricePerSecond, maxPricePerSecond);
    }
}
