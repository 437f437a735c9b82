// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AllowanceCollector} from "../../src/AllowanceCollector.sol";
import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {Eip3009Collector} from "../../src/Eip3009Collector.sol";
import {SettlementScene} from "../base/SettlementScene.sol";

/// Invariant 11: the contracts are the same whether they were created or placed by their runtime code.
contract GenesisTest is SettlementScene {
    function test_creation_leaves_nothing_but_the_runtime_code() public {
        address[3] memory created =
            [address(new BatchSettlement()), address(new AllowanceCollector()), address(new Eip3009Collector())];
        bytes[3] memory runtime = [
            type(BatchSettlement).runtimeCode, type(AllowanceCollector).runtimeCode, type(Eip3009Collector).runtimeCode
        ];
        for (uint256 i = 0; i < created.length; ++i) {
            VM.assertEq(created[i].code, runtime[i]);
        }
    }

    function test_creation_writes_no_storage() public {
        VM.record();
        address[3] memory created =
            [address(new BatchSettlement()), address(new AllowanceCollector()), address(new Eip3009Collector())];
        for (uint256 i = 0; i < created.length; ++i) {
            (, bytes32[] memory writes) = VM.accesses(created[i]);
            VM.assertEq(writes.length, 0);
        }
    }

    function test_the_domain_follows_chain_and_address() public {
        BatchSettlement elsewhere = new BatchSettlement();
        bytes32 here = SETTLEMENT.getChannelId(channelConfig());
        VM.assertTrue(here != elsewhere.getChannelId(channelConfig()));
        VM.chainId(42_161);
        VM.assertTrue(here != SETTLEMENT.getChannelId(channelConfig()));
    }

    function test_the_domain_can_be_asked_for() public {
        VM.chainId(42_161);
        (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        ) = SETTLEMENT.eip712Domain();
        VM.assertEq(bytes32(fields), bytes32(bytes1(0x0f)));
        VM.assertEq(name, "x402 Batch Settlement");
        VM.assertEq(version, "1");
        VM.assertEq(chainId, 42_161);
        VM.assertEq(verifyingContract, address(SETTLEMENT));
        VM.assertEq(salt, bytes32(0));
        VM.assertEq(extensions.length, 0);
    }

    function test_the_collectors_serve_the_settlement_contract() public view {
        VM.assertEq(ALLOWANCES.x402BatchSettlement(), address(SETTLEMENT));
        VM.assertEq(AUTHORIZATIONS.x402BatchSettlement(), address(SETTLEMENT));
    }
}
