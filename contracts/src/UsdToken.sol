// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {RuntimeDomain} from "./RuntimeDomain.sol";
import {IReceiveWithAuthorization} from "./interfaces/IReceiveWithAuthorization.sol";

/// A dollar for development chains: six decimals and EIP-3009, as far as deposits use it. Its domain is
/// "Development Dollar" version "1".
contract UsdToken is ERC20, Ownable, RuntimeDomain, IReceiveWithAuthorization {
    /// The authorisation was spent.
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

    /// Only the named receiver may bring the authorisation.
    error UsdTokenCallerNotReceiver(address caller, address receiver);
    /// The authorisation holds strictly between the two times.
    error UsdTokenAuthorizationNotValidNow(uint256 validAfter, uint256 validBefore, uint256 timestamp);
    /// The authorisation was spent before.
    error UsdTokenAuthorizationSpent(address authorizer, bytes32 nonce);
    /// The signature is not the authorizer's.
    error UsdTokenInvalidSignature(address authorizer);

    bytes32 public constant RECEIVE_WITH_AUTHORIZATION_TYPEHASH = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    string private constant NAME = "Development Dollar";
    bytes32 private constant NAME_HASH = keccak256("Development Dollar");

    mapping(address authorizer => mapping(bytes32 nonce => bool)) private _spent;

    constructor(address owner, address holder, uint256 supply) ERC20(NAME, "USDdev") Ownable(owner) {
        if (supply != 0) _mint(holder, supply);
    }

    /// @inheritdoc IReceiveWithAuthorization
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        require(msg.sender == to, UsdTokenCallerNotReceiver(msg.sender, to));
        require(
            block.timestamp > validAfter && block.timestamp < validBefore,
            UsdTokenAuthorizationNotValidNow(validAfter, validBefore, block.timestamp)
        );
        require(!_spent[from][nonce], UsdTokenAuthorizationSpent(from, nonce));
        bytes32 digest = _hashTypedData(
            keccak256(abi.encode(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, from, to, value, validAfter, validBefore, nonce))
        );
        require(SignatureChecker.isValidSignatureNowCalldata(from, digest, signature), UsdTokenInvalidSignature(from));
        _spent[from][nonce] = true;
        emit AuthorizationUsed(from, nonce);
        _transfer(from, to, value);
    }

    /// Creates tokens.
    function mint(address account, uint256 amount) external onlyOwner {
        _mint(account, amount);
    }

    /// Whether the authorizer's nonce was spent.
    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool) {
        return _spent[authorizer][nonce];
    }

    /// Six, like the dollars in use.
    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function _domainName() internal pure override returns (string memory, bytes32) {
        return (NAME, NAME_HASH);
    }
}
