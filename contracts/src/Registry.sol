// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Marketplace} from "./registry/Marketplace.sol";
import {ModelRegistry} from "./registry/ModelRegistry.sol";
import {ProviderRegistry} from "./registry/ProviderRegistry.sol";
import {RegistryBase} from "./registry/RegistryBase.sol";

/// The market's register: providers, models and bids in one plain contract.
///
/// A client of the Morpheus-Lumerin diamond finds the same functions, structs, events, errors and ids here. What differs:
/// the constructor takes the place of the initialisers, only an account itself acts for it (no delegation), ownership
/// passes in two steps, texts are bounded, and stakes come back whole, as no session earns against them.
contract Registry is Marketplace {
    struct Parameters {
        address token;
        uint256 minPricePerSecond;
        uint256 maxPricePerSecond;
        uint256 providerMinStake;
        uint256 modelMinStake;
        uint256 bidFee;
        address owner;
    }

    constructor(Parameters memory parameters)
        RegistryBase(parameters.token, parameters.owner)
        ProviderRegistry(parameters.providerMinStake)
        ModelRegistry(parameters.modelMinStake)
        Marketplace(parameters.minPricePerSecond, parameters.maxPricePerSecond, parameters.bidFee)
    {}
}
