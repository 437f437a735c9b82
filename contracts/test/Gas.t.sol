// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Registry} from "../src/Registry.sol";
import {IBatchSettlement} from "../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "./base/SettlementScene.sol";

/// What each transaction costs, calldata and the 21,000 included (each call is a transaction of its own here). The
/// numbers are checked in as snapshots/*.json; `npm test` fails when they change.
/// forge-config: default.isolate = true
contract GasTest is SettlementScene {
    function test_gas_of_a_channels_life() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        bytes memory data = allowanceData(payer, config, 1000);
        SETTLEMENT.deposit(config, 1000, address(ALLOWANCES), data);
        snapshot("deposit by allowance, first");
        data = allowanceData(payer, config, 1000);
        SETTLEMENT.deposit(config, 1000, address(ALLOWANCES), data);
        snapshot("deposit by allowance, top-up");

        claimRow(config, 100);
        snapshot("claim of one channel, first");
        claimRow(config, 200);
        snapshot("claim of one channel, later");
        SETTLEMENT.settle(receiver.addr, address(mor));
        snapshot("settle, first");
        claimRow(config, 300);
        SETTLEMENT.settle(receiver.addr, address(mor));
        snapshot("settle, later");

        VM.prank(receiver.addr);
        SETTLEMENT.refund(config, 100);
        snapshot("refund");
        VM.prank(payer.addr);
        SETTLEMENT.initiateWithdraw(config, 100);
        snapshot("initiateWithdraw");
        VM.warp(START + DELAY);
        VM.prank(payer.addr);
        SETTLEMENT.finalizeWithdraw(config);
        snapshot("finalizeWithdraw");
    }

    function test_gas_of_a_deposit_by_authorisation() public {
        IBatchSettlement.ChannelConfig memory config = channelConfig();
        config.token = address(usd);
        bytes memory data = authorizationData(payer, config, 1000, 0, START + 1, 1);
        SETTLEMENT.deposit(config, 1000, address(AUTHORIZATIONS), data);
        snapshot("deposit by EIP-3009, first");
    }

    function test_gas_of_claiming_many_channels() public {
        IBatchSettlement.VoucherClaim[] memory rows = new IBatchSettlement.VoucherClaim[](25);
        for (uint256 i = 0; i < rows.length; ++i) {
            deposit(channelConfig(i), 1000);
            rows[i] = claimOf(channelConfig(i), 100);
        }
        VM.prank(receiver.addr);
        SETTLEMENT.claim(rows);
        snapshot("claim of 25 channels, first");

        for (uint256 i = 0; i < rows.length; ++i) {
            rows[i] = claimOf(channelConfig(i), 200);
        }
        bytes memory signature = sign(receiverAuthorizer, SETTLEMENT.getClaimBatchDigest(rows));
        SETTLEMENT.claimWithSignature(rows, signature);
        snapshot("claimWithSignature of 25 channels, later");
    }

    function test_gas_of_the_registry() public {
        Registry registry =
            new Registry(Registry.Parameters(address(mor), 1e13, 1e16, 0.2 ether, 0.1 ether, 0.3 ether, address(this)));
        VM.prank(payer.addr);
        mor.approve(address(registry), type(uint256).max);
        string[] memory tags = new string[](1);
        tags[0] = "llm";
        bytes32 modelId = registry.getModelId(payer.addr, bytes32(0));

        VM.prank(payer.addr);
        registry.modelRegister(payer.addr, bytes32(0), bytes32(0), 0, 1 ether, "a model", tags);
        snapshot("modelRegister, one tag");
        VM.prank(payer.addr);
        registry.providerRegister(payer.addr, 1 ether, "provider.example:3333");
        snapshot("providerRegister");
        VM.prank(payer.addr);
        bytes32 bidId = registry.postModelBid(payer.addr, modelId, 1e13);
        snapshot("postModelBid, first");
        VM.prank(payer.addr);
        bidId = registry.postModelBid(payer.addr, modelId, 1e13);
        snapshot("postModelBid, replacing");
        VM.prank(payer.addr);
        registry.deleteModelBid(bidId);
        snapshot("deleteModelBid");
        VM.prank(payer.addr);
        registry.providerDeregister(payer.addr);
        snapshot("providerDeregister");
    }

    function claimRow(IBatchSettlement.ChannelConfig memory config, uint128 total) private {
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, total));
        VM.prank(receiver.addr);
        SETTLEMENT.claim(rows);
    }

    function snapshot(string memory name) private {
        VM.snapshotGasLastCall("gas", name);
    }
}
