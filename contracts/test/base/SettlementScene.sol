// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {AllowanceCollector} from "../../src/AllowanceCollector.sol";
import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {Eip3009Collector} from "../../src/Eip3009Collector.sol";
import {MorToken} from "../../src/MorToken.sol";
import {UsdToken} from "../../src/UsdToken.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {Scene} from "./Scene.sol";

/// The contracts where a genesis block puts them, two sides of a channel, and the one place that signs for them.
abstract contract SettlementScene is Scene {
    BatchSettlement internal constant SETTLEMENT = BatchSettlement(0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003);
    Eip3009Collector internal constant AUTHORIZATIONS = Eip3009Collector(0x4020806089470a89826cB9fB1f4059150b550004);
    AllowanceCollector internal constant ALLOWANCES = AllowanceCollector(0x4c45544845000000000000000000000000000001);

    uint40 internal constant DELAY = 1 days;
    uint256 internal constant WEALTH = 1_000_000 ether;

    MorToken internal mor;
    UsdToken internal usd;

    Signer internal payer = signer("payer");
    Signer internal payerAuthorizer = signer("payer authorizer");
    Signer internal receiver = signer("receiver");
    Signer internal receiverAuthorizer = signer("receiver authorizer");
    Signer internal stranger = signer("stranger");

    uint256 private _nextNonce;

    function setUp() public virtual {
        VM.warp(START);
        // `runtimeCode` exists only for contracts without immutables: this line is itself a test.
        VM.etch(address(SETTLEMENT), type(BatchSettlement).runtimeCode);
        VM.etch(address(AUTHORIZATIONS), type(Eip3009Collector).runtimeCode);
        VM.etch(address(ALLOWANCES), type(AllowanceCollector).runtimeCode);
        mor = new MorToken(address(this), payer.addr, WEALTH);
        usd = new UsdToken(address(this), payer.addr, WEALTH);
        VM.prank(payer.addr);
        mor.approve(address(ALLOWANCES), type(uint256).max);
        VM.prank(payer.addr);
        usd.approve(address(ALLOWANCES), type(uint256).max);
    }

    /// A channel in MOR whose four roles are four keys.
    function channelConfig() internal view returns (IBatchSettlement.ChannelConfig memory) {
        return IBatchSettlement.ChannelConfig({
            payer: payer.addr,
            payerAuthorizer: payerAuthorizer.addr,
            receiver: receiver.addr,
            receiverAuthorizer: receiverAuthorizer.addr,
            token: address(mor),
            withdrawDelay: DELAY,
            salt: bytes32(0)
        });
    }

    function channelConfig(uint256 salt) internal view returns (IBatchSettlement.ChannelConfig memory config) {
        config = channelConfig();
        config.salt = bytes32(salt);
    }

    /// The default channel with `amount` in it.
    function openChannel(uint128 amount) internal returns (IBatchSettlement.ChannelConfig memory config) {
        config = channelConfig();
        deposit(config, amount);
    }

    /// Brings in `amount` by the payer's allowance and signature.
    function deposit(IBatchSettlement.ChannelConfig memory config, uint128 amount) internal {
        SETTLEMENT.deposit(config, amount, address(ALLOWANCES), allowanceData(payer, config, amount));
    }

    /// Collector data with a fresh nonce, signed by `who`, good for an hour.
    function allowanceData(
        Signer memory who,
        IBatchSettlement.ChannelConfig memory config,
        uint128 amount
    ) internal returns (bytes memory) {
        return allowanceData(who, config, amount, _nextNonce++, VM.getBlockTimestamp() + 1 hours);
    }

    function allowanceData(
        Signer memory who,
        IBatchSettlement.ChannelConfig memory config,
        uint128 amount,
        uint256 nonce,
        uint256 deadline
    ) internal view returns (bytes memory) {
        bytes32 digest = ALLOWANCES.getAllowanceDepositDigest(
            SETTLEMENT.getChannelId(config), config.token, amount, nonce, deadline
        );
        return abi.encode(nonce, deadline, sign(who, digest));
    }

    /// A row that claims `total` against a voucher over just that.
    function claimOf(
        IBatchSettlement.ChannelConfig memory config,
        uint128 total
    ) internal view returns (IBatchSettlement.VoucherClaim memory) {
        return claimOf(config, total, total);
    }

    /// A row that claims `total` against a voucher over `ceiling`, signed by who has to sign.
    function claimOf(
        IBatchSettlement.ChannelConfig memory config,
        uint128 ceiling,
        uint128 total
    ) internal view returns (IBatchSettlement.VoucherClaim memory) {
        return claimBy(config.payerAuthorizer == address(0) ? payer : payerAuthorizer, config, ceiling, total);
    }

    /// A row whose voucher `who` has signed.
    function claimBy(
        Signer memory who,
        IBatchSettlement.ChannelConfig memory config,
        uint128 ceiling,
        uint128 total
    ) internal view returns (IBatchSettlement.VoucherClaim memory row) {
        row.voucher = IBatchSettlement.Voucher(config, ceiling);
        row.signature = sign(who, SETTLEMENT.getVoucherDigest(SETTLEMENT.getChannelId(config), ceiling));
        row.totalClaimed = total;
    }

    function batch(
        IBatchSettlement.VoucherClaim memory row
    ) internal pure returns (IBatchSettlement.VoucherClaim[] memory rows) {
        rows = new IBatchSettlement.VoucherClaim[](1);
        rows[0] = row;
    }

    function batch(
        IBatchSettlement.VoucherClaim memory first,
        IBatchSettlement.VoucherClaim memory second
    ) internal pure returns (IBatchSettlement.VoucherClaim[] memory rows) {
        rows = new IBatchSettlement.VoucherClaim[](2);
        rows[0] = first;
        rows[1] = second;
    }

    /// The receiver claims `total` on the channel.
    function claim(IBatchSettlement.ChannelConfig memory config, uint128 total) internal {
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, total));
        VM.prank(config.receiver);
        SETTLEMENT.claim(rows);
    }

    /// A call to each function that changes something.
    function waysIn(IBatchSettlement.ChannelConfig memory config) internal pure returns (bytes[] memory ways) {
        IBatchSettlement.VoucherClaim[] memory none = new IBatchSettlement.VoucherClaim[](0);
        bytes[] memory nested = new bytes[](1);
        nested[0] = abi.encodeCall(BatchSettlement.settle, (config.receiver, config.token));
        ways = new bytes[](9);
        ways[0] = abi.encodeCall(BatchSettlement.deposit, (config, 1, address(1), ""));
        ways[1] = abi.encodeCall(BatchSettlement.claim, (none));
        ways[2] = abi.encodeCall(BatchSettlement.claimWithSignature, (none, ""));
        ways[3] = nested[0];
        ways[4] = abi.encodeCall(BatchSettlement.initiateWithdraw, (config, 1));
        ways[5] = abi.encodeCall(BatchSettlement.finalizeWithdraw, (config));
        ways[6] = abi.encodeCall(BatchSettlement.refund, (config, 1));
        ways[7] = abi.encodeCall(BatchSettlement.refundWithSignature, (config, 1, 0, ""));
        ways[8] = abi.encodeWithSignature("multicall(bytes[])", nested);
    }

    /// Collector data of the EIP-3009 collector with a fresh salt, signed by `who`, good for an hour.
    function authorizationData(
        Signer memory who,
        IBatchSettlement.ChannelConfig memory config,
        uint256 amount
    ) internal returns (bytes memory) {
        return authorizationData(who, config, amount, 0, VM.getBlockTimestamp() + 1 hours, _nextNonce++);
    }

    function authorizationData(
        Signer memory who,
        IBatchSettlement.ChannelConfig memory config,
        uint256 amount,
        uint256 validAfter,
        uint256 validBefore,
        uint256 salt
    ) internal view returns (bytes memory) {
        bytes32 structHash = keccak256(
            abi.encode(
                usd.RECEIVE_WITH_AUTHORIZATION_TYPEHASH(),
                config.payer,
                address(AUTHORIZATIONS),
                amount,
                validAfter,
                validBefore,
                keccak256(abi.encode(SETTLEMENT.getChannelId(config), salt))
            )
        );
        bytes memory signature = sign(who, MessageHashUtils.toTypedDataHash(dollarDomain(), structHash));
        return abi.encode(validAfter, validBefore, salt, signature);
    }

    function dollarDomain() private view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Development Dollar"),
                keccak256("1"),
                block.chainid,
                address(usd)
            )
        );
    }

    function balanceIn(IBatchSettlement.ChannelConfig memory config) internal view returns (uint128 balance) {
        (balance,) = SETTLEMENT.channels(SETTLEMENT.getChannelId(config));
    }

    function claimedIn(IBatchSettlement.ChannelConfig memory config) internal view returns (uint128 totalClaimed) {
        (, totalClaimed) = SETTLEMENT.channels(SETTLEMENT.getChannelId(config));
    }

    function pendingIn(
        IBatchSettlement.ChannelConfig memory config
    ) internal view returns (uint128 amount, uint40 initiatedAt) {
        return SETTLEMENT.pendingWithdrawals(SETTLEMENT.getChannelId(config));
    }

    /// What the contract holds of MOR.
    function held() internal view returns (uint256) {
        return IERC20(address(mor)).balanceOf(address(SETTLEMENT));
    }
}
