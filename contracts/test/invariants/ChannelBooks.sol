// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {BatchSettlement} from "../../src/BatchSettlement.sol";
import {IBatchSettlement} from "../../src/interfaces/IBatchSettlement.sol";
import {SettlementScene} from "../base/SettlementScene.sol";
import {KnockingToken} from "../doubles/Tokens.sol";
import {Wallet} from "../doubles/Wallet.sol";

/// Six channels between two payers and two receivers in three tokens, and books of them that are kept by the rules of the
/// specification, in plain sums, without a look at the contract's. One payer is a contract wallet; one token calls
/// back into the settlement contract whenever it moves.
abstract contract ChannelBooks is SettlementScene {
    struct Channel {
        uint128 balance;
        uint128 claimed;
        uint128 pending;
        uint40 since;
        uint256 refunds;
        /// The highest sum that the payer's side ever signed.
        uint128 ceiling;
    }

    struct Earnings {
        uint128 claimed;
        uint128 settled;
    }

    uint256 public constant CHANNELS = 6;
    uint128 internal constant MOVE_MAX = 1e24;
    uint256 private constant FORTUNE = type(uint120).max;

    KnockingToken public knocking;
    Wallet internal _wallet;
    Signer internal _secondReceiver = signer("second receiver");

    IBatchSettlement.ChannelConfig[] private _configs;
    bytes32[] private _ids;

    Channel[CHANNELS] private _channels;
    mapping(address receiver => mapping(address token => Earnings)) private _earnings;
    /// What an account has to hold of a token by now.
    mapping(address token => mapping(address holder => uint256)) public wealth;

    /// Moves that changed something, by name: an invariant over a handler that does nothing holds nothing.
    mapping(string move => uint256) public moves;

    function setUp() public virtual override {
        super.setUp();
        _wallet = new Wallet(payer.addr);
        knocking = new KnockingToken();
        for (uint256 i = 0; i < CHANNELS; ++i) {
            _configs.push(channelConfig(i));
        }
        _configs[1].payer = address(_wallet);
        _configs[1].payerAuthorizer = address(0); // the wallet itself signs
        _configs[2].receiver = _secondReceiver.addr;
        _configs[3].token = address(usd);
        _configs[3].withdrawDelay = 15 minutes;
        _configs[4].token = address(usd);
        _configs[4].payerAuthorizer = address(0);
        _configs[4].receiverAuthorizer = receiver.addr; // no second key
        _configs[5].token = address(knocking);
        _configs[5].withdrawDelay = 30 days;
        for (uint256 i = 0; i < CHANNELS; ++i) {
            _ids.push(SETTLEMENT.getChannelId(_configs[i]));
        }

        mor.mint(payer.addr, FORTUNE);
        mor.mint(address(_wallet), FORTUNE);
        usd.mint(payer.addr, FORTUNE);
        knocking.mint(payer.addr, FORTUNE);
        _wallet.approve(mor, address(ALLOWANCES), type(uint256).max);
        VM.prank(payer.addr);
        knocking.approve(address(ALLOWANCES), type(uint256).max);
        knocking.arm(address(SETTLEMENT), waysIn(_configs[5]));
        wealth[address(mor)][payer.addr] = mor.balanceOf(payer.addr);
        wealth[address(mor)][address(_wallet)] = FORTUNE;
        wealth[address(usd)][payer.addr] = usd.balanceOf(payer.addr);
        wealth[address(knocking)][payer.addr] = FORTUNE;
    }

    // ---- what is known of the scene ----

    function configOf(uint256 which) public view returns (IBatchSettlement.ChannelConfig memory) {
        return _configs[which % CHANNELS];
    }

    function idOf(uint256 which) public view returns (bytes32) {
        return _ids[which % CHANNELS];
    }

    function tokens() public view returns (address[3] memory) {
        return [address(mor), address(usd), address(knocking)];
    }

    function receiversOfAll() public view returns (address[2] memory) {
        return [receiver.addr, _secondReceiver.addr];
    }

    /// Everybody who may ever hold tokens.
    function holders() external view returns (address[5] memory) {
        return [payer.addr, address(_wallet), receiver.addr, _secondReceiver.addr, address(SETTLEMENT)];
    }

    function authorizerOf(IBatchSettlement.ChannelConfig memory config) internal view returns (Signer memory) {
        return config.receiverAuthorizer == receiver.addr ? receiver : receiverAuthorizer;
    }

    // ---- the books ----

    function channelOf(uint256 which) public view returns (Channel memory) {
        return _channels[which % CHANNELS];
    }

    function earningsOf(address who, address token) public view returns (Earnings memory) {
        return _earnings[who][token];
    }

    function unclaimedOf(uint256 which) internal view returns (uint128) {
        return channelOf(which).balance - channelOf(which).claimed;
    }

    function bookDeposit(uint256 which, uint128 amount) internal {
        _channels[which % CHANNELS].balance += amount;
        _move(which, configOf(which).payer, address(SETTLEMENT), amount);
        ++moves["deposit"];
    }

    function bookSignature(uint256 which, uint128 ceiling) internal {
        Channel storage channel = _channels[which % CHANNELS];
        if (ceiling > channel.ceiling) channel.ceiling = ceiling;
    }

    function bookClaim(uint256 which, uint128 total) internal {
        Channel storage channel = _channels[which % CHANNELS];
        if (total <= channel.claimed) return;
        IBatchSettlement.ChannelConfig memory config = configOf(which);
        _earnings[config.receiver][config.token].claimed += total - channel.claimed;
        channel.claimed = total;
        ++moves["claim"];
        if (channel.since != 0) ++moves["claim in the face of a withdrawal"];
    }

    function bookSettlement(address who, address token, uint256 which) internal {
        Earnings storage earnings = _earnings[who][token];
        uint128 due = earnings.claimed - earnings.settled;
        earnings.settled = earnings.claimed;
        _move(which, address(SETTLEMENT), who, due);
        if (due != 0) ++moves["settle"];
    }

    function bookStart(uint256 which, uint128 amount) internal {
        Channel storage channel = _channels[which % CHANNELS];
        (channel.pending, channel.since) = (amount, uint40(VM.getBlockTimestamp()));
        ++moves["withdrawal started"];
    }

    function bookEnd(uint256 which) internal {
        Channel storage channel = _channels[which % CHANNELS];
        uint128 paid = _lesser(channel.pending, channel.balance - channel.claimed);
        (channel.pending, channel.since) = (0, 0);
        channel.balance -= paid;
        _move(which, address(SETTLEMENT), configOf(which).payer, paid);
        ++moves["withdrawal ended"];
    }

    function bookRefund(uint256 which, uint128 asked) internal {
        Channel storage channel = _channels[which % CHANNELS];
        uint128 paid = _lesser(asked, channel.balance - channel.claimed);
        ++channel.refunds;
        channel.balance -= paid;
        channel.pending -= _lesser(paid, channel.pending);
        if (channel.pending == 0) channel.since = 0;
        _move(which, address(SETTLEMENT), configOf(which).payer, paid);
        ++moves["refund"];
    }

    function _move(uint256 which, address from, address to, uint256 amount) private {
        address token = configOf(which).token;
        wealth[token][from] -= amount;
        wealth[token][to] += amount;
    }

    function _lesser(uint128 a, uint128 b) private pure returns (uint128) {
        return a < b ? a : b;
    }

    // ---- the contract's own state, all of it that these channels reach ----

    function fingerprint() internal view returns (bytes32 print) {
        for (uint256 i = 0; i < CHANNELS; ++i) {
            (uint128 balance, uint128 claimed) = SETTLEMENT.channels(_ids[i]);
            (uint128 pending, uint40 since) = SETTLEMENT.pendingWithdrawals(_ids[i]);
            print = keccak256(abi.encode(print, balance, claimed, pending, since, SETTLEMENT.refundNonce(_ids[i])));
        }
        address[3] memory all = tokens();
        address[2] memory earners = receiversOfAll();
        for (uint256 t = 0; t < all.length; ++t) {
            for (uint256 r = 0; r < earners.length; ++r) {
                (uint128 claimed, uint128 settled) = SETTLEMENT.receivers(earners[r], all[t]);
                print = keccak256(abi.encode(print, claimed, settled));
            }
            print = keccak256(abi.encode(print, IERC20(all[t]).balanceOf(address(SETTLEMENT))));
        }
    }

    /// Calls the settlement contract as `caller`; directly, or as the only call of a multicall.
    function carry(address caller, bytes memory call, bool inMulticall) internal {
        (bool accepted, bytes memory answer) = attempt(caller, inMulticall ? multicallOf(call) : call);
        VM.assertTrue(accepted, string.concat("an honest move was refused: ", VM.toString(answer)));
    }

    function attempt(address caller, bytes memory call) internal returns (bool accepted, bytes memory answer) {
        VM.prank(caller);
        return address(SETTLEMENT).call(call);
    }

    function multicallOf(bytes memory call) internal pure returns (bytes memory) {
        bytes[] memory calls = new bytes[](1);
        calls[0] = call;
        return abi.encodeCall(BatchSettlement(address(0)).multicall, (calls));
    }

    function multicallOf(bytes memory first, bytes memory second) internal pure returns (bytes memory) {
        bytes[] memory calls = new bytes[](2);
        calls[0] = first;
        calls[1] = second;
        return abi.encodeCall(BatchSettlement(address(0)).multicall, (calls));
    }
}
