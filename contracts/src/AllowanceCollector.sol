// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {DepositCollector} from "./DepositCollector.sol";
import {RuntimeDomain} from "./RuntimeDomain.sol";

/// Deposits from a plain ERC-20 allowance, for tokens without permit such as MOR.
///
/// An allowance alone says nothing about the channel: whoever calls `deposit` chooses the keys, so an allowance without
/// a signature could be moved by a stranger into a channel that the stranger empties. Hence the payer (ECDSA or
/// ERC-1271) also signs, in the domain "Lethe Allowance Collector" version "1":
///
///   AllowanceDeposit(bytes32 channelId,address token,uint128 amount,uint256 nonce,uint256 deadline)
///
/// and `collectorData` is `abi.encode(uint256 nonce, uint256 deadline, bytes signature)`. The channel id covers the
/// payer, the receiver and all keys. A nonce is any number that the payer has not used; order does not matter.
contract AllowanceCollector is DepositCollector, RuntimeDomain {
    using SafeERC20 for IERC20;

    /// The payer's nonce was spent by a deposit or cancelled.
    event NonceSpent(address indexed payer, uint256 nonce);

    /// The signature was valid until `deadline`, which is past.
    error AllowanceCollectorExpired(uint256 deadline, uint256 timestamp);
    /// The payer has used or cancelled this nonce before.
    error AllowanceCollectorNonceSpent(address payer, uint256 nonce);
    /// The signature is not the payer's over `digest`.
    error AllowanceCollectorInvalidSignature(address payer, bytes32 digest);

    bytes32 public constant ALLOWANCE_DEPOSIT_TYPEHASH =
        keccak256("AllowanceDeposit(bytes32 channelId,address token,uint128 amount,uint256 nonce,uint256 deadline)");

    string private constant DOMAIN_NAME = "Lethe Allowance Collector";
    bytes32 private constant DOMAIN_NAME_HASH = keccak256("Lethe Allowance Collector");

    /// 256 nonces a word: a payer who counts up pays for a new word once in 256 deposits.
    mapping(address payer => mapping(uint256 word => uint256 bits)) private _spent;

    /// Takes `amount` from the payer's allowance to this contract, straight to the settlement contract.
    function collect(
        address payer,
        address token,
        uint256 amount,
        bytes32 channelId,
        bytes calldata collectorData
    ) external override onlySettlement {
        (uint256 nonce, uint256 deadline, bytes memory signature) = abi.decode(collectorData, (uint256, uint256, bytes));
        require(block.timestamp <= deadline, AllowanceCollectorExpired(deadline, block.timestamp));

        bytes32 digest = getAllowanceDepositDigest(channelId, token, amount, nonce, deadline);
        require(
            SignatureChecker.isValidSignatureNow(payer, digest, signature),
            AllowanceCollectorInvalidSignature(payer, digest)
        );
        _spend(payer, nonce);
        IERC20(token).safeTransferFrom(payer, msg.sender, amount);
    }

    /// Spends one of the caller's nonces, so that a signature over it that is still about becomes worthless.
    function cancelNonce(uint256 nonce) external {
        _spend(msg.sender, nonce);
    }

    /// Whether the payer has used or cancelled the nonce.
    function isNonceSpent(address payer, uint256 nonce) external view returns (bool) {
        return _spent[payer][nonce >> 8] & _bit(nonce) != 0;
    }

    /// What a payer signs. `amount` is a uint128 in the type; larger ones are never asked for by the settlement contract.
    function getAllowanceDepositDigest(
        bytes32 channelId,
        address token,
        uint256 amount,
        uint256 nonce,
        uint256 deadline
    ) public view returns (bytes32) {
        return _hashTypedData(
            keccak256(abi.encode(ALLOWANCE_DEPOSIT_TYPEHASH, channelId, token, amount, nonce, deadline))
        );
    }

    function _domainName() internal pure override returns (string memory, bytes32) {
        return (DOMAIN_NAME, DOMAIN_NAME_HASH);
    }

    function _spend(address payer, uint256 nonce) private {
        uint256 word = _spent[payer][nonce >> 8];
        require(word & _bit(nonce) == 0, AllowanceCollectorNonceSpent(payer, nonce));
        _spent[payer][nonce >> 8] = word | _bit(nonce);
        emit NonceSpent(payer, nonce);
    }

    function _bit(uint256 nonce) private pure returns (uint256) {
        return 1 << (nonce & 0xff);
    }
}
