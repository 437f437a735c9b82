//! What we call on the contracts, as Rust types.
//!
//! Only the functions in use. That they are those of the committed artifacts
//! (and so of the Solidity sources) is held by a test below.

use alloy::sol;

sol! {
    /// Payment channels: x402 `batch-settlement`.
    #[derive(Debug, PartialEq)]
    interface Settlement {
        struct ChannelConfig {
            address payer;
            address payerAuthorizer;
            address receiver;
            address receiverAuthorizer;
            address token;
            uint40 withdrawDelay;
            bytes32 salt;
        }
        struct Voucher {
            ChannelConfig channel;
            uint128 maxClaimableAmount;
        }
        struct VoucherClaim {
            Voucher voucher;
            bytes signature;
            uint128 totalClaimed;
        }

        event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
        event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
        event Claimed(bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed);
        event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
        event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
        event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
        event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

        function deposit(ChannelConfig config, uint128 amount, address collector, bytes collectorData);
        function claim(VoucherClaim[] voucherClaims);
        function claimWithSignature(VoucherClaim[] voucherClaims, bytes authorizerSignature);
        function settle(address receiver, address token);
        function initiateWithdraw(ChannelConfig config, uint128 amount);
        function finalizeWithdraw(ChannelConfig config);
        function refund(ChannelConfig config, uint128 amount);
        function getChannelId(ChannelConfig config) returns (bytes32);
        function channels(bytes32 channelId) returns (uint128 balance, uint128 totalClaimed);
        function pendingWithdrawals(bytes32 channelId) returns (uint128 amount, uint40 initiatedAt);
        function receivers(address receiver, address token) returns (uint128 totalClaimed, uint128 totalSettled);
    }

    /// Providers, models and bids: the Morpheus-Lumerin ABI.
    #[derive(Debug)]
    interface Market {
        struct Provider {
            string endpoint;
            uint256 stake;
            uint128 createdAt;
            uint128 limitPeriodEnd;
            uint256 limitPeriodEarned;
            bool isDeleted;
        }
        struct Model {
            bytes32 ipfsCID;
            uint256 fee;
            uint256 stake;
            address owner;
            string name;
            string[] tags;
            uint128 createdAt;
            bool isDeleted;
        }
        struct Bid {
            address provider;
            bytes32 modelId;
            uint256 pricePerSecond;
            uint256 nonce;
            uint128 createdAt;
            uint128 deletedAt;
        }

        event MarketplaceBidPosted(address indexed provider, bytes32 indexed modelId, uint256 nonce);

        function providerRegister(address provider, uint256 amount, string endpoint);
        function providerDeregister(address provider);
        function getProvider(address provider) returns (Provider);
        function getProviderMinimumStake() returns (uint256);
        function getActiveProviders(uint256 offset, uint256 limit) returns (address[] page, uint256 total);
        function modelRegister(address modelOwner, bytes32 baseModelId, bytes32 ipfsCID, uint256 fee, uint256 amount, string name, string[] tags);
        function modelDeregister(bytes32 modelId);
        function getModel(bytes32 modelId) returns (Model);
        function getModelMinimumStake() returns (uint256);
        function getActiveModelIds(uint256 offset, uint256 limit) returns (bytes32[] page, uint256 total);
        function postModelBid(address provider, bytes32 modelId, uint256 pricePerSecond) returns (bytes32 bidId);
        function deleteModelBid(bytes32 bidId);
        function getBid(bytes32 bidId) returns (Bid);
        function getBidFee() returns (uint256);
        function getMinMaxBidPricePerSecond() returns (uint256 min, uint256 max);
        function getProviderActiveBids(address provider, uint256 offset, uint256 limit) returns (bytes32[] page, uint256 total);
        function getToken() returns (address);
    }

    /// What every token has.
    #[derive(Debug)]
    interface Erc20 {
        event Transfer(address indexed from, address indexed to, uint256 value);
        // As wide as the word is: a narrower one would be cut, not refused.
        function decimals() returns (uint256);
        function symbol() returns (string);
        function totalSupply() returns (uint256);
        function balanceOf(address account) returns (uint256);
        function allowance(address owner, address spender) returns (uint256);
        function approve(address spender, uint256 value) returns (bool);
        function transfer(address to, uint256 value) returns (bool);
        function transferFrom(address from, address to, uint256 value) returns (bool);
    }

    /// The registry's constructor argument.
    #[derive(Debug)]
    struct RegistryParameters {
        address token;
        uint256 minPricePerSecond;
        uint256 maxPricePerSecond;
        uint256 providerMinStake;
        uint256 modelMinStake;
        uint256 bidFee;
        address owner;
    }

    /// The errors of Permit2, which is not ours: only to name them.
    #[sol(abi)]
    #[derive(Debug)]
    interface Permit2 {
        error InvalidNonce();
        error SignatureExpired(uint256 signatureDeadline);
        error InvalidAmount(uint256 maxAmount);
        error InvalidSignatureLength();
        error InvalidSigner();
        error InvalidContractSignature();
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Selector;
    use alloy::sol_types::{SolEvent, SolInterface};

    use super::*;
    use crate::artifact::{self, Artifact};

    fn absent<I: SolInterface>(artifact: &Artifact) -> Vec<Selector> {
        let known: Vec<Selector> = artifact.abi.functions().map(|f| f.selector()).collect();
        assert!(I::COUNT > 0 && !known.is_empty());
        I::selectors()
            .map(Selector::from)
            .filter(|selector| !known.contains(selector))
            .collect()
    }

    #[test]
    fn every_function_is_in_the_committed_artifact() {
        let none: [Selector; 0] = [];
        assert_eq!(
            absent::<Settlement::SettlementCalls>(&artifact::SETTLEMENT),
            none
        );
        assert_eq!(absent::<Market::MarketCalls>(&artifact::REGISTRY), none);
        assert_eq!(absent::<Erc20::Erc20Calls>(&artifact::MOR), none);
        assert_eq!(absent::<Erc20::Erc20Calls>(&artifact::USD), none);
    }

    #[test]
    fn what_they_return_is_what_the_artifact_says() {
        let outputs = |artifact: &Artifact, name: &str| -> String {
            let function = &artifact.abi.functions[name][0];
            let types: Vec<String> = function
                .outputs
                .iter()
                .map(|output| output.selector_type().into_owned())
                .collect();
            types.join(",")
        };
        for (name, expected) in [
            (
                "getProvider",
                "(string,uint256,uint128,uint128,uint256,bool)",
            ),
            (
                "getModel",
                "(bytes32,uint256,uint256,address,string,string[],uint128,bool)",
            ),
            (
                "getBid",
                "(address,bytes32,uint256,uint256,uint128,uint128)",
            ),
            ("getActiveProviders", "address[],uint256"),
            ("getActiveModelIds", "bytes32[],uint256"),
            ("getProviderActiveBids", "bytes32[],uint256"),
        ] {
            assert_eq!(outputs(&artifact::REGISTRY, name), expected, "{name}");
        }
        for (name, expected) in [
            ("channels", "uint128,uint128"),
            ("pendingWithdrawals", "uint128,uint40"),
            ("receivers", "uint128,uint128"),
        ] {
            assert_eq!(outputs(&artifact::SETTLEMENT, name), expected, "{name}");
        }
        let posted = &artifact::REGISTRY.abi.events["MarketplaceBidPosted"][0];
        assert_eq!(
            posted.selector(),
            Market::MarketplaceBidPosted::SIGNATURE_HASH
        );
        for (name, expected) in [
            ("ChannelCreated", Settlement::ChannelCreated::SIGNATURE_HASH),
            ("Deposited", Settlement::Deposited::SIGNATURE_HASH),
            ("Claimed", Settlement::Claimed::SIGNATURE_HASH),
            ("Settled", Settlement::Settled::SIGNATURE_HASH),
            ("Refunded", Settlement::Refunded::SIGNATURE_HASH),
            (
                "WithdrawInitiated",
                Settlement::WithdrawInitiated::SIGNATURE_HASH,
            ),
            (
                "WithdrawFinalized",
                Settlement::WithdrawFinalized::SIGNATURE_HASH,
            ),
        ] {
            let event = &artifact::SETTLEMENT.abi.events[name][0];
            assert_eq!(event.selector(), expected, "{name}");
            assert!(event.inputs[0].indexed, "{name}");
        }
    }
}
