// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Models and their stakes, with the ABI of the Morpheus-Lumerin model registry.
interface IModelRegistry {
    struct Model {
        bytes32 ipfsCID;
        /// Stored for clients; nothing here charges it.
        uint256 fee;
        uint256 stake;
        address owner;
        string name;
        string[] tags;
        uint128 createdAt;
        bool isDeleted;
    }

    event ModelRegisteredUpdated(address indexed owner, bytes32 indexed modelId);
    event ModelDeregistered(address indexed owner, bytes32 indexed modelId);
    event ModelMinimumStakeUpdated(uint256 modelMinimumStake);

    error ModelStakeTooLow(uint256 amount, uint256 minAmount);
    error ModelHasAlreadyDeregistered();
    error ModelHasActiveBids();
    /// Never thrown; part of the ABI that clients know.
    error ModelNotFound();
    error ModelNameTooLong(uint256 length, uint256 limit);
    error ModelTooManyTags(uint256 count, uint256 limit);
    error ModelTagTooLong(uint256 index, uint256 length, uint256 limit);

    /// Sets what a model has to stake from now on. Those already registered stay as they are. By the owner.
    function modelSetMinStake(uint256 modelMinimumStake) external;

    /// Registers a model, edits it, tops up its stake, or brings it back. By the model's owner.
    function modelRegister(
        address modelOwner,
        bytes32 baseModelId,
        bytes32 ipfsCID,
        uint256 fee,
        uint256 amount,
        string calldata name,
        string[] calldata tags
    ) external;

    /// Removes the model and returns the whole stake; nobody may have an active bid on it. By the model's owner.
    function modelDeregister(bytes32 modelId) external;

    /// The id of an owner's model.
    function getModelId(address modelOwner, bytes32 baseModelId) external pure returns (bytes32);

    /// The model as stored; all zero when unknown.
    function getModel(bytes32 modelId) external view returns (Model memory);

    /// A page of all models ever registered, and how many there are.
    function getModelIds(uint256 offset, uint256 limit) external view returns (bytes32[] memory, uint256);

    /// A page of the active models, and how many there are.
    function getActiveModelIds(uint256 offset, uint256 limit) external view returns (bytes32[] memory, uint256);

    /// The stake that `modelRegister` asks for.
    function getModelMinimumStake() external view returns (uint256);

    /// Whether the model is registered and was not removed.
    function getIsModelActive(bytes32 modelId) external view returns (bool);
}
