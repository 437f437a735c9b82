// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "./Vm.sol";

/// What every test has: the cheatcodes, named accounts with keys, and numbers within bounds.
abstract contract Scene {
    /// An account whose key is known.
    struct Signer {
        address addr;
        uint256 key;
    }

    Vm internal constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// A round time, so that dates in traces can be read.
    uint256 internal constant START = 1_800_000_000;

    function signer(string memory name) internal pure returns (Signer memory) {
        uint256 key = uint256(keccak256(bytes(name)));
        return Signer(VM.addr(key), key);
    }

    function sign(Signer memory who, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = VM.sign(who.key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// Maps any number into [low, high].
    function within(uint256 x, uint256 low, uint256 high) internal pure returns (uint256) {
        if (x >= low && x <= high) return x;
        return low + x % (high - low + 1);
    }

    /// A bounded number of the money type.
    function within128(uint256 x, uint256 low, uint256 high) internal pure returns (uint128) {
        return uint128(within(x, low, high));
    }

    /// How many of the logs `emitter` wrote under `topic`.
    function countLogs(Vm.Log[] memory logs, address emitter, bytes32 topic) internal pure returns (uint256 count) {
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == emitter && logs[i].topics[0] == topic) ++count;
        }
    }
}
