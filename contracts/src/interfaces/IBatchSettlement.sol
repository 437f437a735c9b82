// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// One-way payment channels with cumulative vouchers: the on-chain half of the x402 `batch-settlement` scheme.
///
/// A payer escrows tokens for one receiver, signs ever larger ceilings off chain, and the receiver claims up to the
/// ceiling whenever it likes. Names, types, errors and events are those of the public scheme, so that its clients
/// work unchanged; see INVARIANTS.md for what holds at all times.
interface IBatchSettlement {
    /// What a channel is. Its EIP-712 hash is the channel's id, so nothing of it is stored.
    struct ChannelConfig {
        address payer;
        /// The key that signs vouchers; zero: the payer itself signs (ECDSA or ERC-1271).
        address payerAuthorizer;
        address receiver;
        /// The key that may claim and refund in the receiver's name, also through signatures.
        address receiverAuthorizer;
        address token;
        /// Seconds between the payer's wish to withdraw and the withdrawal.
        uint40 withdrawDelay;
        bytes32 salt;
    }

    /// What a payer signs: the sum, over the channel's whole life, that may be claimed at most.
    struct Voucher {
        ChannelConfig channel;
        uint128 maxClaimableAmount;
    }

    /// A voucher, its signature, and the cumulative sum that is claimed with it.
    struct VoucherClaim {
        Voucher voucher;
        bytes signature;
        uint128 totalClaimed;
    }

    event ChannelCreated(bytes32 indexed channelId, ChannelConfig config);
    event ChannelClosed(bytes32 indexed channelId, ChannelConfig config);
    event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
    event Claimed(bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed);
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
    event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
    event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

    error InvalidChannel();
    error ZeroDeposit();
    error DepositOverflow();
    error InvalidSignature();
    error NotReceiverAuthorizer();
    error NotAuthorizedToClaim();
    error NotAuthorizedToRefund();
    error ClaimExceedsCeiling();
    error ClaimExceedsBalance();
    error WithdrawalAlreadyPending();
    error WithdrawalNotPending();
    error NotAuthorizedToFinalizeWithdraw();
    error WithdrawDelayNotElapsed();
    error NothingToWithdraw();
    error WithdrawAmountExceedsAvailable();
    error WithdrawDelayOutOfRange();
    error EmptyBatch();
    error DepositCollectionFailed();
    error InvalidCollector();
    error InvalidRefundNonce();
    error ZeroRefund();

    /// Adds `amount` to the channel's escrow. Anyone may bring the payer's authorisation, which is the collector's to
    /// check; the contract itself only insists that it received exactly `amount`.
    function deposit(
        ChannelConfig calldata config,
        uint128 amount,
        address collector,
        bytes calldata collectorData
    ) external;

    /// Records claims. The caller must be receiver or receiver authorizer of every row. A row that claims no more than
    /// what is recorded is skipped before its signature is looked at; any row that is wrong undoes the whole batch.
    function claim(VoucherClaim[] calldata voucherClaims) external;

    /// As `claim`, brought by anyone, against one receiver authorizer's signature over all rows.
    function claimWithSignature(VoucherClaim[] calldata voucherClaims, bytes calldata authorizerSignature) external;

    /// Pays the receiver what was claimed for it and not yet paid. Anyone may call it; it does nothing when all is paid.
    function settle(address receiver, address token) external;

    /// Starts the delay after which the payer may take back `amount`. By payer or payer authorizer; one at a time.
    /// Vouchers that are signed but not claimed reserve nothing: the receiver has to claim within the delay.
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external;

    /// Ends the withdrawal: pays the payer the amount, or what is left unclaimed if that is less.
    function finalizeWithdraw(ChannelConfig calldata config) external;

    /// Gives up to `amount` of the unclaimed escrow back to the payer, at once. By receiver or receiver authorizer.
    function refund(ChannelConfig calldata config, uint128 amount) external;

    /// As `refund`, brought by anyone, against the receiver authorizer's signature over the current refund nonce.
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external;

    /// The channel's id: the EIP-712 hash of its configuration in this contract's domain.
    function getChannelId(ChannelConfig calldata config) external view returns (bytes32);

    /// What a payer (or payer authorizer) signs to raise the ceiling.
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) external view returns (bytes32);

    /// What a receiver authorizer signs for `refundWithSignature`.
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) external view returns (bytes32);

    /// What a receiver authorizer signs for `claimWithSignature`. Defined for the empty batch as well.
    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) external view returns (bytes32);

    /// Escrow that is still in the contract's books, and how much of it was ever claimed. Claims do not lower `balance`.
    function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);

    /// The withdrawal under way; `initiatedAt` zero: none.
    function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt);

    /// Sums over all channels of a receiver and token.
    function receivers(
        address receiver,
        address token
    ) external view returns (uint128 totalClaimed, uint128 totalSettled);

    /// The nonce that the next refund of the channel uses. Every refund advances it, also one that moves nothing.
    function refundNonce(bytes32 channelId) external view returns (uint256);
}
