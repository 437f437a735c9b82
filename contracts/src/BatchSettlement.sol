// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {RuntimeDomain} from "./RuntimeDomain.sol";
import {IBatchSettlement} from "./interfaces/IBatchSettlement.sol";
import {IDepositCollector} from "./interfaces/IDepositCollector.sol";

/// Payment channels of the x402 `batch-settlement` scheme: no owner, no fee, no upgrade, no constructor argument.
///
/// Per channel two numbers are kept: `balance`, what was paid in and not given back, and `totalClaimed`, the part of it
/// that belongs to the receiver. The difference is the payer's. Settling pays receivers from a sum over all of their
/// channels and touches no channel. Tokens that take fees or rebase are not supported.
contract BatchSettlement is IBatchSettlement, RuntimeDomain, Multicall, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    struct Escrow {
        uint128 balance;
        uint128 totalClaimed;
    }

    struct Withdrawal {
        uint128 amount;
        uint40 initiatedAt;
    }

    struct Earnings {
        uint128 totalClaimed;
        uint128 totalSettled;
    }

    uint40 public constant MIN_WITHDRAW_DELAY = 15 minutes;
    uint40 public constant MAX_WITHDRAW_DELAY = 30 days;

    bytes32 public constant CHANNEL_CONFIG_TYPEHASH = keccak256(
        "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
    );
    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");
    bytes32 public constant REFUND_TYPEHASH = keccak256("Refund(bytes32 channelId,uint256 nonce,uint128 amount)");
    bytes32 public constant CLAIM_ENTRY_TYPEHASH =
        keccak256("ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)");
    bytes32 public constant CLAIM_BATCH_TYPEHASH = keccak256(
        "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
    );

    string private constant DOMAIN_NAME = "x402 Batch Settlement";
    bytes32 private constant DOMAIN_NAME_HASH = keccak256("x402 Batch Settlement");

    mapping(bytes32 channelId => Escrow) private _escrows;
    mapping(bytes32 channelId => Withdrawal) private _withdrawals;
    mapping(bytes32 channelId => uint256) private _refundNonces;
    mapping(address receiver => mapping(address token => Earnings)) private _earnings;

    // ---- money in ----

    /// @inheritdoc IBatchSettlement
    function deposit(
        ChannelConfig calldata config,
        uint128 amount,
        address collector,
        bytes calldata collectorData
    ) external nonReentrant {
        _requireUsable(config);
        require(amount != 0, ZeroDeposit());
        require(collector != address(0), InvalidCollector());

        bytes32 channelId = getChannelId(config);
        Escrow storage escrow = _escrows[channelId];
        uint128 before = escrow.balance;
        require(amount <= type(uint128).max - before, DepositOverflow());
        uint128 newBalance = before + amount;
        escrow.balance = newBalance;

        _collect(config, amount, channelId, collector, collectorData);

        if (before == 0) emit ChannelCreated(channelId, config); // an empty escrow has no claims either
        emit Deposited(channelId, msg.sender, amount, newBalance);
    }

    // ---- money to the receiver ----

    /// @inheritdoc IBatchSettlement
    function claim(VoucherClaim[] calldata voucherClaims) external nonReentrant {
        require(voucherClaims.length != 0, EmptyBatch());
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            require(_isReceiverSide(voucherClaims[i].voucher.channel), NotAuthorizedToClaim());
            _recordClaim(voucherClaims[i]);
        }
    }

    /// @inheritdoc IBatchSettlement
    function claimWithSignature(
        VoucherClaim[] calldata voucherClaims,
        bytes calldata authorizerSignature
    ) external nonReentrant {
        require(voucherClaims.length != 0, EmptyBatch());
        address authorizer = voucherClaims[0].voucher.channel.receiverAuthorizer;
        bytes32 digest = getClaimBatchDigest(voucherClaims);
        require(
            SignatureChecker.isValidSignatureNowCalldata(authorizer, digest, authorizerSignature), InvalidSignature()
        );
        for (uint256 i = 0; i < voucherClaims.length; ++i) {
            require(voucherClaims[i].voucher.channel.receiverAuthorizer == authorizer, NotReceiverAuthorizer());
            _recordClaim(voucherClaims[i]);
        }
    }

    /// @inheritdoc IBatchSettlement
    function settle(address receiver, address token) external nonReentrant {
        Earnings storage earnings = _earnings[receiver][token];
        uint128 claimed = earnings.totalClaimed;
        uint128 due = claimed - earnings.totalSettled;
        if (due == 0) return;

        earnings.totalSettled = claimed;
        emit Settled(receiver, token, msg.sender, due);
        IERC20(token).safeTransfer(receiver, due);
    }

    // ---- money back to the payer ----

    /// @inheritdoc IBatchSettlement
    function initiateWithdraw(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        require(_isPayerSide(config), InvalidChannel());
        require(amount != 0, NothingToWithdraw());

        bytes32 channelId = getChannelId(config);
        Withdrawal storage withdrawal = _withdrawals[channelId];
        require(withdrawal.initiatedAt == 0, WithdrawalAlreadyPending());
        require(amount <= _unclaimed(_escrows[channelId]), WithdrawAmountExceedsAvailable());

        uint40 now40 = uint40(block.timestamp);
        withdrawal.amount = amount;
        withdrawal.initiatedAt = now40;
        emit WithdrawInitiated(channelId, amount, now40 + config.withdrawDelay);
    }

    /// @inheritdoc IBatchSettlement
    function finalizeWithdraw(ChannelConfig calldata config) external nonReentrant {
        require(_isPayerSide(config), NotAuthorizedToFinalizeWithdraw());

        bytes32 channelId = getChannelId(config);
        Withdrawal memory withdrawal = _withdrawals[channelId];
        require(withdrawal.initiatedAt != 0, WithdrawalNotPending());
        require(block.timestamp >= uint256(withdrawal.initiatedAt) + config.withdrawDelay, WithdrawDelayNotElapsed());

        delete _withdrawals[channelId];
        Escrow storage escrow = _escrows[channelId];
        uint128 amount = _atMost(withdrawal.amount, _unclaimed(escrow));
        bool emptied = _takeOut(escrow, amount);

        emit WithdrawFinalized(channelId, msg.sender, amount);
        if (emptied) emit ChannelClosed(channelId, config);
        if (amount != 0) IERC20(config.token).safeTransfer(config.payer, amount);
    }

    /// @inheritdoc IBatchSettlement
    function refund(ChannelConfig calldata config, uint128 amount) external nonReentrant {
        require(_isReceiverSide(config), NotAuthorizedToRefund());
        _refund(config, getChannelId(config), amount);
    }

    /// @inheritdoc IBatchSettlement
    function refundWithSignature(
        ChannelConfig calldata config,
        uint128 amount,
        uint256 nonce,
        bytes calldata receiverAuthorizerSignature
    ) external nonReentrant {
        bytes32 channelId = getChannelId(config);
        require(nonce == _refundNonces[channelId], InvalidRefundNonce());
        require(
            SignatureChecker.isValidSignatureNowCalldata(
                config.receiverAuthorizer, getRefundDigest(channelId, nonce, amount), receiverAuthorizerSignature
            ),
            InvalidSignature()
        );
        _refund(config, channelId, amount);
    }

    // ---- views ----

    /// @inheritdoc IBatchSettlement
    function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed) {
        Escrow storage escrow = _escrows[channelId];
        return (escrow.balance, escrow.totalClaimed);
    }

    /// @inheritdoc IBatchSettlement
    function pendingWithdrawals(bytes32 channelId) external view returns (uint128 amount, uint40 initiatedAt) {
        Withdrawal storage withdrawal = _withdrawals[channelId];
        return (withdrawal.amount, withdrawal.initiatedAt);
    }

    /// @inheritdoc IBatchSettlement
    function receivers(
        address receiver,
        address token
    ) external view returns (uint128 totalClaimed, uint128 totalSettled) {
        Earnings storage earnings = _earnings[receiver][token];
        return (earnings.totalClaimed, earnings.totalSettled);
    }

    /// @inheritdoc IBatchSettlement
    function refundNonce(bytes32 channelId) external view returns (uint256) {
        return _refundNonces[channelId];
    }

    /// @inheritdoc IBatchSettlement
    function getChannelId(ChannelConfig calldata config) public view returns (bytes32) {
        return _hashTypedData(keccak256(abi.encode(CHANNEL_CONFIG_TYPEHASH, config)));
    }

    /// @inheritdoc IBatchSettlement
    function getVoucherDigest(bytes32 channelId, uint128 maxClaimableAmount) public view returns (bytes32) {
        return _hashTypedData(keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, maxClaimableAmount)));
    }

    /// @inheritdoc IBatchSettlement
    function getRefundDigest(bytes32 channelId, uint256 nonce, uint128 amount) public view returns (bytes32) {
        return _hashTypedData(keccak256(abi.encode(REFUND_TYPEHASH, channelId, nonce, amount)));
    }

    /// @inheritdoc IBatchSettlement
    function getClaimBatchDigest(VoucherClaim[] calldata voucherClaims) public view returns (bytes32) {
        bytes32[] memory entries = new bytes32[](voucherClaims.length);
        for (uint256 i = 0; i < entries.length; ++i) {
            VoucherClaim calldata row = voucherClaims[i];
            entries[i] = keccak256(
                abi.encode(
                    CLAIM_ENTRY_TYPEHASH,
                    getChannelId(row.voucher.channel),
                    row.voucher.maxClaimableAmount,
                    row.totalClaimed
                )
            );
        }
        bytes32 entriesHash = keccak256(abi.encodePacked(entries));
        return _hashTypedData(keccak256(abi.encode(CLAIM_BATCH_TYPEHASH, entriesHash)));
    }

    // ---- the steps behind them ----

    function _domainName() internal pure override returns (string memory, bytes32) {
        return (DOMAIN_NAME, DOMAIN_NAME_HASH);
    }

    function _requireUsable(ChannelConfig calldata config) private pure {
        require(config.payer != address(0), InvalidChannel());
        require(config.receiver != address(0), InvalidChannel());
        require(config.receiverAuthorizer != address(0), InvalidChannel());
        require(config.token != address(0), InvalidChannel());
        require(
            config.withdrawDelay >= MIN_WITHDRAW_DELAY && config.withdrawDelay <= MAX_WITHDRAW_DELAY,
            WithdrawDelayOutOfRange()
        );
    }

    /// Lets the collector pull the tokens and believes only the balance.
    function _collect(
        ChannelConfig calldata config,
        uint128 amount,
        bytes32 channelId,
        address collector,
        bytes calldata collectorData
    ) private {
        IERC20 token = IERC20(config.token);
        uint256 before = token.balanceOf(address(this));
        IDepositCollector(collector).collect(config.payer, config.token, amount, channelId, collectorData);
        require(token.balanceOf(address(this)) == before + amount, DepositCollectionFailed());
    }

    function _recordClaim(VoucherClaim calldata row) private {
        ChannelConfig calldata config = row.voucher.channel;
        bytes32 channelId = getChannelId(config);
        Escrow storage escrow = _escrows[channelId];
        uint128 recorded = escrow.totalClaimed;
        uint128 total = row.totalClaimed;

        if (total <= recorded) return; // an old or repeated claim
        require(total <= row.voucher.maxClaimableAmount, ClaimExceedsCeiling());
        require(total <= escrow.balance, ClaimExceedsBalance());
        _requirePayerSigned(config, getVoucherDigest(channelId, row.voucher.maxClaimableAmount), row.signature);

        escrow.totalClaimed = total;
        _earnings[config.receiver][config.token].totalClaimed += total - recorded;
        emit Claimed(channelId, msg.sender, total - recorded, total);
    }

    /// A named authorizer is a plain key; without one the payer signs, which may be a contract.
    function _requirePayerSigned(ChannelConfig calldata config, bytes32 digest, bytes calldata signature) private view {
        bool valid = config.payerAuthorizer == address(0)
            ? SignatureChecker.isValidSignatureNowCalldata(config.payer, digest, signature)
            : ECDSA.recoverCalldata(digest, signature) == config.payerAuthorizer;
        require(valid, InvalidSignature());
    }

    function _refund(ChannelConfig calldata config, bytes32 channelId, uint128 requested) private {
        require(requested != 0, ZeroRefund());
        ++_refundNonces[channelId];

        Escrow storage escrow = _escrows[channelId];
        uint128 amount = _atMost(requested, _unclaimed(escrow));
        if (amount == 0) return;

        bool emptied = _takeOut(escrow, amount);
        _shrinkWithdrawal(_withdrawals[channelId], amount);

        emit Refunded(channelId, msg.sender, amount);
        if (emptied) emit ChannelClosed(channelId, config);
        IERC20(config.token).safeTransfer(config.payer, amount);
    }

    /// What was refunded need not be withdrawn any more.
    function _shrinkWithdrawal(Withdrawal storage withdrawal, uint128 refunded) private {
        uint128 pending = withdrawal.amount; // zero when none is under way
        if (refunded < pending) {
            withdrawal.amount = pending - refunded;
        } else if (withdrawal.initiatedAt != 0) {
            withdrawal.amount = 0;
            withdrawal.initiatedAt = 0;
        }
    }

    /// Lowers the escrow; true when nothing is left, which also means that nothing was ever claimed.
    function _takeOut(Escrow storage escrow, uint128 amount) private returns (bool emptied) {
        uint128 left = escrow.balance - amount;
        escrow.balance = left;
        return left == 0;
    }

    function _unclaimed(Escrow storage escrow) private view returns (uint128) {
        return escrow.balance - escrow.totalClaimed;
    }

    function _isReceiverSide(ChannelConfig calldata config) private view returns (bool) {
        return msg.sender == config.receiver || msg.sender == config.receiverAuthorizer;
    }

    function _isPayerSide(ChannelConfig calldata config) private view returns (bool) {
        return msg.sender == config.payer || msg.sender == config.payerAuthorizer;
    }

    function _atMost(uint128 wanted, uint128 limit) private pure returns (uint128) {
        return wanted < limit ? wanted : limit;
    }
}
