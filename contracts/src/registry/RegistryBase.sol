// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

/// What the parts of the registry have in common: the token, the owner, and who may act for whom.
abstract contract RegistryBase is Ownable2Step {
    using EnumerableSet for EnumerableSet.Bytes32Set;
    using SafeERC20 for IERC20;

    /// `delegatee` is not `delegator`. Nobody can act for another here; the name is the one that clients know.
    error InsufficientRightsForOperation(address delegator, address delegatee);

    /// The token of stakes and fees. It must not take fees on transfer.
    IERC20 internal immutable _token;

    constructor(address token, address owner) Ownable(owner) {
        _token = IERC20(token);
    }

    function _requireCaller(address account) internal view {
        require(msg.sender == account, InsufficientRightsForOperation(account, msg.sender));
    }

    function _take(address from, uint256 amount) internal {
        if (amount != 0) _token.safeTransferFrom(from, address(this), amount);
    }

    function _pay(address to, uint256 amount) internal {
        if (amount != 0) _token.safeTransfer(to, amount);
    }

    function _page(
        EnumerableSet.Bytes32Set storage ids,
        uint256 offset,
        uint256 limit
    ) internal view returns (bytes32[] memory, uint256) {
        uint256 length = ids.length();
        return (ids.values(offset, _pageEnd(offset, limit, length)), length);
    }

    function _page(
        bytes32[] storage ids,
        uint256 offset,
        uint256 limit
    ) internal view returns (bytes32[] memory page, uint256 length) {
        length = ids.length;
        page = new bytes32[](_pageEnd(offset, limit, length) - offset);
        for (uint256 i = 0; i < page.length; ++i) {
            page[i] = ids[offset + i];
        }
    }

    /// Where a page ends: beyond the last item pages are shorter or empty, never an error.
    function _pageEnd(uint256 offset, uint256 limit, uint256 length) internal pure returns (uint256) {
        if (offset >= length) return offset;
        return limit < length - offset ? offset + limit : length;
    }
}
