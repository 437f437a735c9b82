// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {RegistryBase} from "./RegistryBase.sol";

/// Models: what they are called, where they are described, who owns them.
abstract contract ModelRegistry is IModelRegistry, RegistryBase {
    using EnumerableSet for EnumerableSet.Bytes32Set;

    uint256 private constant NAME_LENGTH_MAX = 100;
    uint256 private constant TAGS_MAX = 16;
    uint256 private constant TAG_LENGTH_MAX = 32;

    uint256 private _modelMinStake;
    mapping(bytes32 modelId => Model) private _models;
    bytes32[] private _modelIds;
    EnumerableSet.Bytes32Set private _activeModelIds;

    constructor(uint256 minStake) {
        _setModelMinStake(minStake);
    }

    /// @inheritdoc IModelRegistry
    function modelSetMinStake(uint256 modelMinimumStake) external onlyOwner {
        _setModelMinStake(modelMinimumStake);
    }

    /// @inheritdoc IModelRegistry
    function modelRegister(
        address modelOwner,
        bytes32 baseModelId,
        bytes32 ipfsCID,
        uint256 fee,
        uint256 amount,
        string calldata name,
        string[] calldata tags
    ) external {
        _requireCaller(modelOwner);
        _requireShort(name, tags);

        bytes32 modelId = getModelId(modelOwner, baseModelId);
        Model storage entry = _models[modelId];
        uint256 stake = entry.stake + amount;
        require(stake >= _modelMinStake, ModelStakeTooLow(stake, _modelMinStake));

        if (entry.createdAt == 0) {
            entry.createdAt = uint128(block.timestamp);
            entry.owner = modelOwner;
            _modelIds.push(modelId);
        }
        entry.isDeleted = false;
        entry.ipfsCID = ipfsCID;
        entry.fee = fee;
        entry.stake = stake;
        entry.name = name;
        _replaceTags(entry, tags);
        _activeModelIds.add(modelId);

        emit ModelRegisteredUpdated(modelOwner, modelId);
        _take(modelOwner, amount);
    }

    /// @inheritdoc IModelRegistry
    function modelDeregister(bytes32 modelId) external {
        Model storage entry = _models[modelId];
        address modelOwner = entry.owner;
        _requireCaller(modelOwner); // an unknown model has no owner, so nobody passes
        require(!_modelHasActiveBids(modelId), ModelHasActiveBids());
        require(!entry.isDeleted, ModelHasAlreadyDeregistered());

        uint256 stake = entry.stake;
        entry.stake = 0;
        entry.isDeleted = true;
        _activeModelIds.remove(modelId);

        emit ModelDeregistered(modelOwner, modelId);
        _pay(modelOwner, stake);
    }

    /// @inheritdoc IModelRegistry
    function getModel(bytes32 modelId) external view returns (Model memory) {
        return _models[modelId];
    }

    /// @inheritdoc IModelRegistry
    function getModelIds(uint256 offset, uint256 limit) external view returns (bytes32[] memory, uint256) {
        return _page(_modelIds, offset, limit);
    }

    /// @inheritdoc IModelRegistry
    function getActiveModelIds(uint256 offset, uint256 limit) external view returns (bytes32[] memory, uint256) {
        return _page(_activeModelIds, offset, limit);
    }

    /// @inheritdoc IModelRegistry
    function getModelMinimumStake() external view returns (uint256) {
        return _modelMinStake;
    }

    /// @inheritdoc IModelRegistry
    function getIsModelActive(bytes32 modelId) public view returns (bool) {
        Model storage entry = _models[modelId];
        return entry.createdAt != 0 && !entry.isDeleted;
    }

    /// @inheritdoc IModelRegistry
    function getModelId(address modelOwner, bytes32 baseModelId) public pure returns (bytes32) {
        return keccak256(abi.encodePacked(modelOwner, baseModelId));
    }

    function _modelHasActiveBids(bytes32 modelId) internal view virtual returns (bool);

    function _setModelMinStake(uint256 minStake) private {
        _modelMinStake = minStake;
        emit ModelMinimumStakeUpdated(minStake);
    }

    function _replaceTags(Model storage entry, string[] calldata tags) private {
        delete entry.tags;
        for (uint256 i = 0; i < tags.length; ++i) {
            entry.tags.push(tags[i]);
        }
    }

    function _requireShort(string calldata name, string[] calldata tags) private pure {
        uint256 length = bytes(name).length;
        require(length <= NAME_LENGTH_MAX, ModelNameTooLong(length, NAME_LENGTH_MAX));
        require(tags.length <= TAGS_MAX, ModelTooManyTags(tags.length, TAGS_MAX));
        for (uint256 i = 0; i < tags.length; ++i) {
            length = bytes(tags[i]).length;
            require(length <= TAG_LENGTH_MAX, ModelTagTooLong(i, length, TAG_LENGTH_MAX));
        }
    }
}
