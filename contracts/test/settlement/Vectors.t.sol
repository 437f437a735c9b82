// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {UsdToken} from "../../src/UsdToken.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";

/// The contract against `oracle/vectors.json`, which the public JavaScript client computed: first the hashes, then the
/// whole life of each channel with nothing but the client's signatures.
contract VectorsTest is SettlementScene {
    string private _json;
    /// Vectors looked at, so that a renamed key cannot make a test pass by finding none.
    uint256 private _seen;

    function setUp() public override {
        super.setUp();
        _json = VM.readFile("oracle/vectors.json");
        VM.warp(integer(".signedAt"));
    }

    function test_addresses_are_those_of_the_public_client() public view {
        VM.assertEq(VM.parseJsonAddress(_json, ".settlement"), address(SETTLEMENT));
        VM.assertEq(VM.parseJsonAddress(_json, ".eip3009Collector"), address(AUTHORIZATIONS));
        VM.assertEq(VM.parseJsonAddress(_json, ".allowanceCollector"), address(ALLOWANCES));
    }

    function test_channel_ids() public {
        eachChannel(this.checkChannelId);
        VM.assertEq(_seen, 6);
    }

    function checkChannelId(string memory channel) external {
        VM.assertEq(SETTLEMENT.getChannelId(configAt(channel)), word(channel, ".channelId"));
        ++_seen;
    }

    function test_voucher_digests() public {
        eachChannel(this.checkVouchers);
        VM.assertEq(_seen, 18);
    }

    function checkVouchers(string memory channel) external {
        for (uint256 i = 0; exists(item(channel, ".vouchers", i)); ++i) {
            string memory voucher = item(channel, ".vouchers", i);
            bytes32 digest =
                SETTLEMENT.getVoucherDigest(word(channel, ".channelId"), money(voucher, ".maxClaimableAmount"));
            VM.assertEq(digest, word(voucher, ".digest"));
            ++_seen;
        }
    }

    function test_refund_digests() public {
        eachChannel(this.checkRefunds);
        VM.assertEq(_seen, 12);
    }

    function checkRefunds(string memory channel) external {
        for (uint256 i = 0; exists(item(channel, ".refunds", i)); ++i) {
            string memory refund = item(channel, ".refunds", i);
            bytes32 digest = SETTLEMENT.getRefundDigest(
                word(channel, ".channelId"), integer(path(refund, ".nonce")), money(refund, ".amount")
            );
            VM.assertEq(digest, word(refund, ".digest"));
            ++_seen;
        }
    }

    function test_allowance_digests_and_collector_data() public {
        eachChannel(this.checkAllowances);
        VM.assertEq(_seen, 12);
    }

    function checkAllowances(string memory channel) external {
        for (uint256 i = 0; exists(item(channel, ".allowanceDeposits", i)); ++i) {
            string memory deposited = item(channel, ".allowanceDeposits", i);
            uint256 nonce = integer(path(deposited, ".nonce"));
            uint256 deadline = integer(path(deposited, ".deadline"));
            address token = VM.parseJsonAddress(_json, path(channel, ".config.token"));
            bytes32 digest = ALLOWANCES.getAllowanceDepositDigest(
                word(channel, ".channelId"), token, money(deposited, ".amount"), nonce, deadline
            );
            VM.assertEq(digest, word(deposited, ".digest"));
            VM.assertEq(data(deposited, ".collectorData"), abi.encode(nonce, deadline, data(deposited, ".signature")));
            ++_seen;
        }
    }

    function test_claim_batch_digests() public {
        for (uint256 c = 0; exists(item("", ".chains", c)); ++c) {
            string memory chain = item("", ".chains", c);
            VM.chainId(integer(path(chain, ".chainId")));
            for (uint256 b = 0; exists(item(chain, ".claimBatches", b)); ++b) {
                string memory rows = item(chain, ".claimBatches", b);
                VM.assertEq(SETTLEMENT.getClaimBatchDigest(rowsAt(chain, rows)), word(rows, ".digest"));
                ++_seen;
            }
        }
        VM.assertEq(_seen, 6);
    }

    /// Deposit by the client's EIP-3009 authorisation, claim by its batch signature, settle, refund by its signature.
    function test_a_channels_life_on_the_clients_signatures_alone() public {
        for (uint256 c = 0; exists(item("", ".chains", c)); ++c) {
            string memory chain = item("", ".chains", c);
            VM.chainId(integer(path(chain, ".chainId")));
            live(chain, item(chain, ".channels", 0));
        }
        VM.assertEq(_seen, 2);
    }

    /// Deposit by the payer's allowance signature, claim by its voucher, whoever has to sign it.
    function test_every_channel_opens_and_pays_on_the_signatures_alone() public {
        eachChannel(this.openAndPay);
        VM.assertEq(_seen, 6);
    }

    function openAndPay(string memory channel) external {
        IBatchSettlement.ChannelConfig memory config = configAt(channel);
        string memory deposited = item(channel, ".allowanceDeposits", 0);
        uint128 amount = money(deposited, ".amount");
        UsdToken token = dollarAt(config.token, config.payer, amount);
        VM.prank(config.payer);
        token.approve(address(ALLOWANCES), type(uint256).max);
        // All channels of a payer share its nonces, and each vector uses nonce 0: a fresh collector for each.
        VM.store(address(ALLOWANCES), nonceSlot(config.payer), bytes32(0));
        SETTLEMENT.deposit(config, amount, address(ALLOWANCES), data(deposited, ".collectorData"));

        string memory voucher = item(channel, ".vouchers", 1);
        IBatchSettlement.VoucherClaim[] memory rows = new IBatchSettlement.VoucherClaim[](1);
        rows[0].voucher = IBatchSettlement.Voucher(config, money(voucher, ".maxClaimableAmount"));
        rows[0].signature = data(voucher, ".signature");
        rows[0].totalClaimed = rows[0].voucher.maxClaimableAmount;
        VM.prank(config.receiver);
        SETTLEMENT.claim(rows);

        VM.assertEq(claimedIn(config), rows[0].totalClaimed);
        ++_seen;
    }

    /// Where the collector keeps a payer's first 256 nonces: its only mapping is in slot 0.
    function nonceSlot(address who) private pure returns (bytes32) {
        return keccak256(abi.encode(uint256(0), keccak256(abi.encode(who, uint256(0)))));
    }

    function live(string memory chain, string memory channel) private {
        IBatchSettlement.ChannelConfig memory config = configAt(channel);
        string memory deposited = item(channel, ".eip3009Deposits", 0);
        uint128 amount = money(deposited, ".amount");
        UsdToken token = dollarAt(config.token, config.payer, amount);

        SETTLEMENT.deposit(config, amount, address(AUTHORIZATIONS), data(deposited, ".collectorData"));
        VM.assertEq(token.authorizationState(config.payer, word(deposited, ".nonce")) ? 1 : 0, 1);

        string memory batchOfOne = item(chain, ".claimBatches", 1);
        IBatchSettlement.VoucherClaim[] memory rows = rowsAt(chain, batchOfOne);
        rows[0].signature = data(item(channel, ".vouchers", 1), ".signature");
        SETTLEMENT.claimWithSignature(rows, data(batchOfOne, ".signature"));
        uint256 before = token.balanceOf(config.receiver);
        SETTLEMENT.settle(config.receiver, config.token);
        VM.assertEq(token.balanceOf(config.receiver) - before, rows[0].totalClaimed);

        string memory refund = item(channel, ".refunds", 0);
        before = token.balanceOf(config.payer);
        SETTLEMENT.refundWithSignature(config, money(refund, ".amount"), 0, data(refund, ".signature"));
        VM.assertEq(token.balanceOf(config.payer) - before, money(refund, ".amount"));
        ++_seen;
    }

    /// A dollar token at a given address, with `amount` for `holder`.
    function dollarAt(address where, address holder, uint256 amount) private returns (UsdToken token) {
        VM.etch(where, address(usd).code);
        token = UsdToken(where);
        // The owner is in a storage slot of its own that etching leaves at zero.
        VM.prank(address(0));
        token.mint(holder, amount);
    }

    function eachChannel(function(string memory) external check) private {
        for (uint256 c = 0; exists(item("", ".chains", c)); ++c) {
            string memory chain = item("", ".chains", c);
            VM.chainId(integer(path(chain, ".chainId")));
            for (uint256 i = 0; exists(item(chain, ".channels", i)); ++i) {
                check(item(chain, ".channels", i));
            }
        }
    }

    /// The batch's rows, each with the configuration whose id it names.
    function rowsAt(
        string memory chain,
        string memory rowsPath
    ) private view returns (IBatchSettlement.VoucherClaim[] memory rows) {
        uint256 count;
        while (exists(item(rowsPath, ".claims", count))) ++count;
        rows = new IBatchSettlement.VoucherClaim[](count);
        for (uint256 i = 0; i < count; ++i) {
            string memory row = item(rowsPath, ".claims", i);
            rows[i].voucher.channel = configAt(item(chain, ".channels", i));
            rows[i].voucher.maxClaimableAmount = money(row, ".maxClaimableAmount");
            rows[i].totalClaimed = money(row, ".totalClaimed");
        }
    }

    function configAt(string memory channel) private view returns (IBatchSettlement.ChannelConfig memory) {
        string memory config = path(channel, ".config");
        return IBatchSettlement.ChannelConfig({
            payer: VM.parseJsonAddress(_json, path(config, ".payer")),
            payerAuthorizer: VM.parseJsonAddress(_json, path(config, ".payerAuthorizer")),
            receiver: VM.parseJsonAddress(_json, path(config, ".receiver")),
            receiverAuthorizer: VM.parseJsonAddress(_json, path(config, ".receiverAuthorizer")),
            token: VM.parseJsonAddress(_json, path(config, ".token")),
            withdrawDelay: uint40(integer(path(config, ".withdrawDelay"))),
            salt: word(config, ".salt")
        });
    }

    function exists(string memory where) private view returns (bool) {
        return VM.keyExistsJson(_json, where);
    }

    function integer(string memory where) private view returns (uint256) {
        return VM.parseJsonUint(_json, where);
    }

    function money(string memory where, string memory field) private view returns (uint128) {
        return uint128(integer(path(where, field)));
    }

    function word(string memory where, string memory field) private view returns (bytes32) {
        return VM.parseJsonBytes32(_json, path(where, field));
    }

    function data(string memory where, string memory field) private view returns (bytes memory) {
        return VM.parseJsonBytes(_json, path(where, field));
    }

    function item(string memory where, string memory list, uint256 index) private pure returns (string memory) {
        return string.concat(where, list, "[", VM.toString(index), "]");
    }

    function path(string memory where, string memory field) private pure returns (string memory) {
        return string.concat(where, field);
    }
}
