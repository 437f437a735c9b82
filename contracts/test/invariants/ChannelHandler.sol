// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";

/// Two receivers, two tokens, five channels, and everybody's moves in any order. Every move is one that the contract has
/// to accept; what came of it is written down by the handler, independently of the contract's books.
contract ChannelHandler is SettlementScene {
    struct Seen {
        uint128 claimed;
        uint256 refundNonce;
    }

    uint256 public constant CHANNELS = 5;
    uint128 private constant MOVE_MAX = 1e24;

    IBatchSettlement.ChannelConfig[] private _configs;
    Signer private _secondReceiver = signer("second receiver");

    // The handler's own books, per token and per channel.
    mapping(address token => uint256) public depositedIn;
    mapping(address token => uint256) public returnedFrom;
    mapping(address token => mapping(address receiver => uint256)) public settledTo;
    mapping(bytes32 channelId => uint128) public highestCeiling;
    mapping(bytes32 channelId => Seen) private _seen;
    mapping(address receiver => mapping(address token => uint128)) private _seenSettled;

    /// Moves that changed something, by name: an invariant over a handler that does nothing holds nothing.
    mapping(string move => uint256) public moves;

    function setUp() public override {
        super.setUp();
        mor.mint(payer.addr, type(uint120).max);
        usd.mint(payer.addr, type(uint120).max);
        for (uint256 i = 0; i < CHANNELS; ++i) {
            _configs.push(channelConfig(i));
        }
        _configs[1].payerAuthorizer = address(0);
        _configs[2].receiver = _secondReceiver.addr;
        _configs[3].token = address(usd);
        _configs[3].withdrawDelay = 15 minutes;
        _configs[4].receiverAuthorizer = _configs[4].receiver; // no second key; see `authorizerOf`
        _configs[4].token = address(usd);
    }

    // ---- moves ----

    function pay(uint256 which, uint128 amount) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        amount = within128(amount, 1, MOVE_MAX);
        deposit(config, amount);
        depositedIn[config.token] += amount;
        ++moves["pay"];
    }

    function claimSome(uint256 which, uint128 total, uint128 room, bool bySignature) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        total = within128(total, 0, balanceIn(config));
        uint128 ceiling = total + within128(room, 0, MOVE_MAX);
        _claim(config, ceiling, total, bySignature);
    }

    /// A row that is old, with a broken signature, beside one that is good.
    function claimWithOldRow(uint256 which, uint128 total) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        total = within128(total, claimedIn(config), balanceIn(config));
        IBatchSettlement.VoucherClaim memory old = claimOf(config, claimedIn(config));
        old.signature = hex"00";
        IBatchSettlement.VoucherClaim[] memory rows = batch(old, claimOf(config, total));
        _noteCeiling(config, total);
        VM.prank(config.receiver);
        SETTLEMENT.claim(rows);
        ++moves["claim"];
    }

    function settleOne(uint256 which, address caller) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(config.receiver, config.token);
        uint256 before = IERC20(config.token).balanceOf(config.receiver);

        VM.prank(caller);
        SETTLEMENT.settle(config.receiver, config.token);

        uint256 paid = IERC20(config.token).balanceOf(config.receiver) - before;
        VM.assertEq(paid, claimed - settled, "invariant 4: settle pays exactly what is claimed and not settled");
        settledTo[config.token][config.receiver] += paid;
        if (paid != 0) ++moves["settle"];
    }

    function startWithdrawal(uint256 which, uint128 amount) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        uint128 unclaimed = balanceIn(config) - claimedIn(config);
        (, uint40 since) = pendingIn(config);
        if (unclaimed == 0 || since != 0) return;
        VM.prank(config.payer);
        SETTLEMENT.initiateWithdraw(config, within128(amount, 1, unclaimed));
        ++moves["startWithdrawal"];
    }

    function endWithdrawal(uint256 which) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        (uint128 asked, uint40 since) = pendingIn(config);
        if (since == 0) return;
        uint256 due = uint256(since) + config.withdrawDelay;
        if (VM.getBlockTimestamp() < due) VM.warp(due);
        uint128 unclaimed = balanceIn(config) - claimedIn(config);

        VM.prank(config.payer);
        uint256 paid = _paidToPayer(config, abi.encodeCall(SETTLEMENT.finalizeWithdraw, (config)));

        VM.assertEq(paid, asked < unclaimed ? asked : unclaimed, "invariant 6: withdrawal is exact");
        ++moves["endWithdrawal"];
    }

    function giveBack(uint256 which, uint128 amount, bool bySignature) external watched(which) {
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        amount = within128(amount, 1, MOVE_MAX);
        uint128 unclaimed = balanceIn(config) - claimedIn(config);
        bytes memory call =
            bySignature ? _signedRefund(config, amount) : abi.encodeCall(SETTLEMENT.refund, (config, amount));

        VM.prank(bySignature ? stranger.addr : config.receiver);
        uint256 paid = _paidToPayer(config, call);

        VM.assertEq(paid, amount < unclaimed ? amount : unclaimed, "invariant 5: refund is exact");
        ++moves["giveBack"];
    }

    function wait(uint256 time) external {
        VM.warp(VM.getBlockTimestamp() + within(time, 1, 2 days));
    }

    // ---- for the invariants ----

    function configOf(uint256 which) public view returns (IBatchSettlement.ChannelConfig memory) {
        return _configs[which % CHANNELS];
    }

    function tokens() external view returns (address[2] memory) {
        return [address(mor), address(usd)];
    }

    function receiversOfAll() external view returns (address[2] memory) {
        return [receiver.addr, _secondReceiver.addr];
    }

    // ---- steps ----

    /// Invariant 3, after every move on a channel: nothing that counts upwards has gone down.
    modifier watched(uint256 which) {
        _;
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        bytes32 id = SETTLEMENT.getChannelId(config);
        Seen storage seen = _seen[id];
        VM.assertGe(claimedIn(config), seen.claimed, "invariant 3: totalClaimed only grows");
        VM.assertGe(SETTLEMENT.refundNonce(id), seen.refundNonce, "invariant 3: refundNonce only grows");
        (, uint128 settled) = SETTLEMENT.receivers(config.receiver, config.token);
        VM.assertGe(settled, _seenSettled[config.receiver][config.token], "invariant 3: totalSettled only grows");
        (seen.claimed, seen.refundNonce) = (claimedIn(config), SETTLEMENT.refundNonce(id));
        _seenSettled[config.receiver][config.token] = settled;
    }

    function _claim(
        IBatchSettlement.ChannelConfig memory config,
        uint128 ceiling,
        uint128 total,
        bool bySignature
    ) private {
        _noteCeiling(config, ceiling);
        IBatchSettlement.VoucherClaim[] memory rows = batch(claimOf(config, ceiling, total));
        if (bySignature) {
            bytes memory signature = sign(authorizerOf(config), SETTLEMENT.getClaimBatchDigest(rows));
            VM.prank(stranger.addr);
            SETTLEMENT.claimWithSignature(rows, signature);
        } else {
            VM.prank(config.receiver);
            SETTLEMENT.claim(rows);
        }
        ++moves["claim"];
    }

    function _signedRefund(
        IBatchSettlement.ChannelConfig memory config,
        uint128 amount
    ) private view returns (bytes memory) {
        bytes32 id = SETTLEMENT.getChannelId(config);
        uint256 nonce = SETTLEMENT.refundNonce(id);
        bytes memory signature = sign(authorizerOf(config), SETTLEMENT.getRefundDigest(id, nonce, amount));
        return abi.encodeCall(SETTLEMENT.refundWithSignature, (config, amount, nonce, signature));
    }

    /// Makes the call that was pranked and notes what the payer got out of it.
    function _paidToPayer(
        IBatchSettlement.ChannelConfig memory config,
        bytes memory call
    ) private returns (uint256 paid) {
        (bool accepted,) = address(SETTLEMENT).call(call);
        VM.assertTrue(accepted, "an honest move was refused");
        uint256 deposited = depositedIn[config.token] - returnedFrom[config.token];
        uint256 spent = _supplyOfPayer(config.token) - IERC20(config.token).balanceOf(config.payer);
        paid = deposited - spent;
        returnedFrom[config.token] += paid;
    }

    function _supplyOfPayer(address token) private view returns (uint256) {
        return IERC20(token).totalSupply(); // all of it was minted to the payer
    }

    function _noteCeiling(IBatchSettlement.ChannelConfig memory config, uint128 ceiling) private {
        bytes32 id = SETTLEMENT.getChannelId(config);
        if (ceiling > highestCeiling[id]) highestCeiling[id] = ceiling;
    }

    function authorizerOf(IBatchSettlement.ChannelConfig memory config) private view returns (Signer memory) {
        return config.receiverAuthorizer == receiver.addr ? receiver : receiverAuthorizer;
    }
}
