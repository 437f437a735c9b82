// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// An EIP-712 domain that is computed when it is needed. A contract that keeps nothing from its constructor, neither
/// storage nor immutables, can be placed in a genesis block by its runtime bytecode alone.
abstract contract RuntimeDomain is IERC5267 {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    string private constant VERSION = "1";
    bytes32 private constant VERSION_HASH = keccak256("1");

    /// The domain as EIP-5267 describes it: name, version, chain id and contract, no salt, no extensions.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        (name,) = _domainName();
        return (hex"0f", name, VERSION, block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    /// The domain's name and its hash.
    function _domainName() internal pure virtual returns (string memory name, bytes32 nameHash);

    function _hashTypedData(bytes32 structHash) internal view returns (bytes32) {
        (, bytes32 nameHash) = _domainName();
        bytes32 separator = keccak256(abi.encode(DOMAIN_TYPEHASH, nameHash, VERSION_HASH, block.chainid, address(this)));
        return MessageHashUtils.toTypedDataHash(separator, structHash);
    }
}
