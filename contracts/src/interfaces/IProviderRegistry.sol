// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// Providers and their stakes, with the ABI of the Morpheus-Lumerin provider registry.
interface IProviderRegistry {
    struct Provider {
        string endpoint;
        uint256 stake;
        uint128 createdAt;
        /// End of the first year; kept for clients, nothing here is limited by it.
        uint128 limitPeriodEnd;
        /// Always zero: no session pays a provider out of emissions here.
        uint256 limitPeriodEarned;
        bool isDeleted;
    }

    event ProviderRegistered(address indexed provider);
    event ProviderDeregistered(address indexed provider);
    event ProviderMinimumStakeUpdated(uint256 providerMinimumStake);
    /// Never emitted; part of the ABI that clients know.
    event ProviderWithdrawn(address indexed provider, uint256 amount);

    error ProviderStakeTooLow(uint256 amount, uint256 minAmount);
    error ProviderHasActiveBids();
    error ProviderNotFound();
    error ProviderHasAlreadyDeregistered();
    // The next three are never thrown; they are part of the ABI that clients know.
    error ProviderNotDeregistered();
    error ProviderNoStake();
    error ProviderNothingToWithdraw();
    error ProviderEndpointTooLong(uint256 length, uint256 limit);

    /// Sets what a provider has to stake from now on. Those already registered stay as they are. By the owner.
    function providerSetMinStake(uint256 providerMinimumStake) external;

    /// Registers, tops up the stake, changes the endpoint, or comes back after leaving. By the provider.
    function providerRegister(address provider, uint256 amount, string calldata endpoint) external;

    /// Leaves and takes the whole stake back; all bids must have been deleted. By the provider.
    function providerDeregister(address provider) external;

    /// The provider as stored; all zero when unknown.
    function getProvider(address provider) external view returns (Provider memory);

    /// The stake that `providerRegister` asks for.
    function getProviderMinimumStake() external view returns (uint256);

    /// A page of the active providers, and how many there are.
    function getActiveProviders(uint256 offset, uint256 limit) external view returns (address[] memory, uint256);

    /// Whether the provider is registered and has not left.
    function getIsProviderActive(address provider) external view returns (bool);
}
