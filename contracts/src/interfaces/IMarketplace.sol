// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Bids of providers on models, with the ABI of the Morpheus-Lumerin marketplace, its misspelt event included.
interface IMarketplace {
    struct Bid {
        address provider;
        bytes32 modelId;
        uint256 pricePerSecond;
        uint256 nonce;
        uint128 createdAt;
        uint128 deletedAt;
    }

    event MaretplaceFeeUpdated(uint256 bidFee);
    event MarketplaceBidPosted(address indexed provider, bytes32 indexed modelId, uint256 nonce);
    event MarketplaceBidDeleted(address indexed provider, bytes32 indexed modelId, uint256 nonce);
    event MarketplaceBidMinMaxPriceUpdated(uint256 bidMinPricePerSecond, uint256 bidMaxPricePerSecond);

    error MarketplaceProviderNotFound();
    error MarketplaceModelNotFound();
    error MarketplaceActiveBidNotFound();
    error MarketplaceBidMinPricePerSecondIsZero();
    error MarketplaceBidMinPricePerSecondIsInvalid();
    error MarketplaceBidPricePerSecondInvalid();
    error MarketplaceFeeAmountIsZero();

    /// Sets what posting a bid costs. By the owner.
    function setMarketplaceBidFee(uint256 bidFee) external;

    /// Sets the prices that new bids may ask. By the owner.
    function setMinMaxBidPricePerSecond(uint256 bidMinPricePerSecond, uint256 bidMaxPricePerSecond) external;

    /// Posts a bid and replaces the provider's earlier one on the model. By the provider, who pays the fee.
    function postModelBid(address provider, bytes32 modelId, uint256 pricePerSecond) external returns (bytes32 bidId);

    /// Takes a bid off the market. By its provider.
    function deleteModelBid(bytes32 bidId) external;

    /// Pays out collected fees, at most what there is. By the owner.
    function withdrawFee(address recipient, uint256 amount) external;

    /// The id of the provider's bid on the model with the given nonce.
    function getBidId(address provider, bytes32 modelId, uint256 nonce) external pure returns (bytes32);

    /// The key under which a provider's nonces for a model count.
    function getProviderModelId(address provider, bytes32 modelId) external pure returns (bytes32);

    /// What posting a bid costs.
    function getBidFee() external view returns (uint256);

    /// Fees collected and not yet paid out.
    function getFeeBalance() external view returns (uint256);

    /// The prices that new bids may ask.
    function getMinMaxBidPricePerSecond() external view returns (uint256, uint256);

    /// The bid as stored; all zero when unknown.
    function getBid(bytes32 bidId) external view returns (Bid memory);

    /// A page of the provider's bids on the market, and how many there are.
    function getProviderActiveBids(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (bytes32[] memory, uint256);

    /// A page of the bids on the model, and how many there are.
    function getModelActiveBids(
        bytes32 modelId,
        uint256 offset,
        uint256 limit
    ) external view returns (bytes32[] memory, uint256);

    /// A page of all bids that the provider ever posted, and how many there are.
    function getProviderBids(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (bytes32[] memory, uint256);

    /// A page of all bids ever posted on the model, and how many there are.
    function getModelBids(
        bytes32 modelId,
        uint256 offset,
        uint256 limit
    ) external view returns (bytes32[] memory, uint256);

    /// The token of stakes and fees.
    function getToken() external view returns (address);

    /// Whether the bid was posted and is still on the market.
    function isBidActive(bytes32 bidId) external view returns (bool);
}
