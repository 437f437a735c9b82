//! What the market does on its chain, and what goes wrong on it.

use alloy::consensus::{TxEip2930, TxEip7702, TxLegacy};
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy::eips::eip7702::Authorization;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, address, keccak256};
use alloy::signers::SignerSync;
use alloy::sol_types::{Eip712Domain, SolCall, SolConstructor, SolStruct, SolValue, eip712_domain};
use serde_json::{Value, json};

use super::client::{CHAIN_ID, Draft, GWEI, creation_code, key, sign};
use super::{Both, number};

alloy::sol! {
    contract Token {
        constructor(address owner, address holder, uint256 supply);
        function transfer(address to, uint256 amount) external returns (bool);
        function approve(address spender, uint256 amount) external returns (bool);
        function transferFrom(address from, address to, uint256 amount) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
        function burn(uint256 amount) external;
    }

    contract Registry {
        struct Parameters {
            address token;
            uint256 minPricePerSecond;
            uint256 maxPricePerSecond;
            uint256 providerMinStake;
            uint256 modelMinStake;
            uint256 bidFee;
            address owner;
        }
        constructor(Parameters parameters);
        function providerRegister(address provider, uint256 amount, string endpoint) external;
        function providerDeregister(address provider) external;
        function modelRegister(address modelOwner, bytes32 baseModelId, bytes32 ipfsCID, uint256 fee, uint256 amount, string name, string[] tags) external;
        function getModelId(address account, bytes32 baseModelId) external view returns (bytes32);
        function postModelBid(address provider, bytes32 modelId, uint256 pricePerSecond) external returns (bytes32);
        function getActiveProviders(uint256 offset, uint256 limit) external view returns (address[] memory, uint256);
    }

    struct ChannelConfig {
        address payer;
        address payerAuthorizer;
        address receiver;
        address receiverAuthorizer;
        address token;
        uint40 withdrawDelay;
        bytes32 salt;
    }

    struct Voucher {
        ChannelConfig channel;
        uint128 maxClaimableAmount;
    }

    struct VoucherClaim {
        Voucher voucher;
        bytes signature;
        uint128 totalClaimed;
    }

    contract Settlement {
        function deposit(ChannelConfig config, uint128 amount, address collector, bytes collectorData) external;
        function claim(VoucherClaim[] voucherClaims) external;
        function settle(address receiver, address token) external;
        function initiateWithdraw(ChannelConfig config, uint128 amount) external;
        function finalizeWithdraw(ChannelConfig config) external;
        function refund(ChannelConfig config, uint128 amount) external;
        function getChannelId(ChannelConfig config) external view returns (bytes32);
        function channels(bytes32 channelId) external view returns (uint128 balance, uint128 totalClaimed);
    }

    struct ReceiveWithAuthorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    struct AllowanceDeposit {
        bytes32 channelId;
        address token;
        uint128 amount;
        uint256 nonce;
        uint256 deadline;
    }
}

/// The EIP-712 struct has the name of the contract's tuple, with other fields.
mod typed {
    alloy::sol! {
        struct Voucher {
            bytes32 channelId;
            uint128 maxClaimableAmount;
        }
    }
}

const SETTLEMENT: Address = address!("4020074e9dF2ce1deE5A9C1b5c3f541D02a10003");
const EIP3009_COLLECTOR: Address = address!("4020806089470a89826cB9fB1f4059150b550004");
/// Ours, at an address of its own.
const ALLOWANCE_COLLECTOR: Address = address!("4020111111111111111111111111111111110006");
const SUPPLY: u64 = 1_000_000_000;
const FAR: u64 = 4_000_000_000;
const DELAY: u64 = 900;

/// Both chains and what has been done on them.
struct Market {
    both: Both,
    nonces: [u64; 4],
}

impl Market {
    fn draft(&mut self, sender: usize, to: Option<Address>, data: Vec<u8>) -> Draft {
        let nonce = self.nonces[sender];
        self.nonces[sender] += 1;
        Draft {
            nonce,
            to,
            data: data.into(),
            gas: 5_000_000,
            ..Draft::default()
        }
    }

    /// Estimates, then sends with exactly what was estimated.
    async fn run(&mut self, what: &str, sender: usize, to: Address, data: Vec<u8>) -> Value {
        let request =
            json!({"from": key(sender).address(), "to": to, "data": Bytes::from(data.clone())});
        let estimate = self.both.estimate(what, request).await;
        assert!(estimate.is_string(), "{what} reverts: {estimate}");
        let draft = self.draft(sender, Some(to), data);
        let draft = Draft {
            gas: number(&estimate).to(),
            ..draft
        };
        let receipt = self.both.send(what, &draft, &key(sender)).await;
        assert_eq!(receipt["status"], "0x1", "{what}");
        receipt
    }

    /// Sends what reverts, after asking with what data.
    async fn fails(&mut self, what: &str, sender: usize, to: Address, data: Vec<u8>) {
        let request =
            json!({"from": key(sender).address(), "to": to, "data": Bytes::from(data.clone())});
        let call = self.both.call(what, request.clone()).await;
        assert_eq!(call["reverted"], 3, "{what}");
        self.both.estimate(what, request).await;
        let draft = self.draft(sender, Some(to), data);
        let receipt = self.both.send(what, &draft, &key(sender)).await;
        assert_eq!(receipt["status"], "0x0", "{what}");
    }

    async fn deploy(&mut self, contract: &str, arguments: Vec<u8>) -> Address {
        let code = [creation_code(contract), arguments].concat();
        let request = json!({"from": key(0).address(), "data": Bytes::from(code.clone())});
        let estimate = self.both.estimate(contract, request.clone()).await;
        self.both.call(contract, request).await;
        let draft = self.draft(0, None, code);
        let draft = Draft {
            gas: number(&estimate).to(),
            ..draft
        };
        let receipt = self.both.send(contract, &draft, &key(0)).await;
        assert_eq!(receipt["status"], "0x1", "{contract}");
        serde_json::from_value(receipt["contractAddress"].clone()).unwrap()
    }

    async fn view(&self, what: &str, to: Address, data: Vec<u8>) -> Value {
        self.both
            .call(what, json!({"to": to, "data": Bytes::from(data)}))
            .await
    }
}

fn token_arguments() -> Vec<u8> {
    let owner = key(0).address();
    Token::constructorCall {
        owner,
        holder: owner,
        supply: U256::from(SUPPLY),
    }
    .abi_encode()
}

fn transfer(to: Address, amount: u64) -> Vec<u8> {
    Token::transferCall {
        to,
        amount: U256::from(amount),
    }
    .abi_encode()
}

fn settlement_domain() -> Eip712Domain {
    eip712_domain! {
        name: "x402 Batch Settlement",
        version: "1",
        chain_id: CHAIN_ID,
        verifying_contract: SETTLEMENT,
    }
}

fn signature(hash: B256, signer: usize) -> Bytes {
    key(signer).sign_hash_sync(&hash).unwrap().as_bytes().into()
}

#[tokio::test]
async fn the_market_runs_alike_on_both() {
    let mut market = Market {
        both: Both::start().await,
        nonces: [0; 4],
    };
    market.both.place("BatchSettlement", SETTLEMENT).await;
    market
        .both
        .place("Eip3009Collector", EIP3009_COLLECTOR)
        .await;
    market
        .both
        .place("AllowanceCollector", ALLOWANCE_COLLECTOR)
        .await;
    let mor = market.deploy("MorToken", token_arguments()).await;
    let usd = market.deploy("UsdToken", token_arguments()).await;

    tokens(&mut market, mor).await;
    registry(&mut market, mor).await;
    channel_by_allowance(&mut market, mor).await;
    channel_by_authorization(&mut market, usd).await;
    market.both.books("after all").await;
}

async fn tokens(market: &mut Market, mor: Address) {
    for receiver in 1..4 {
        market
            .run(
                "transfer",
                0,
                mor,
                transfer(key(receiver).address(), 50_000_000),
            )
            .await;
    }
    market
        .run(
            "transfer to a holder",
            0,
            mor,
            transfer(key(1).address(), 1),
        )
        .await;
    let spender = key(2).address();
    let approve = Token::approveCall {
        spender,
        amount: U256::from(10),
    };
    market.run("approve", 1, mor, approve.abi_encode()).await;
    let from = key(1).address();
    let pull = |amount| Token::transferFromCall {
        from,
        to: spender,
        amount: U256::from(amount),
    };
    market
        .run(
            "transferFrom that clears the allowance",
            2,
            mor,
            pull(10).abi_encode(),
        )
        .await;
    market
        .fails(
            "transferFrom without allowance",
            2,
            mor,
            pull(1).abi_encode(),
        )
        .await;
    market
        .fails("transfer of too much", 3, mor, transfer(from, 2 * SUPPLY))
        .await;
    let all = Token::burnCall {
        amount: U256::from(50_000_000),
    };
    market
        .run("burning a whole balance", 3, mor, all.abi_encode())
        .await;
    let balance = Token::balanceOfCall { account: from };
    market.view("balanceOf", mor, balance.abi_encode()).await;
    market.both.books("after the tokens").await;
}

async fn registry(market: &mut Market, mor: Address) {
    let (owner, provider) = (key(0).address(), key(1).address());
    let parameters = Registry::Parameters {
        token: mor,
        minPricePerSecond: U256::ONE,
        maxPricePerSecond: U256::from(1_000),
        providerMinStake: U256::from(10),
        modelMinStake: U256::from(10),
        bidFee: U256::from(3),
        owner,
    };
    let arguments = Registry::constructorCall { parameters }.abi_encode();
    let registry = market.deploy("Registry", arguments).await;
    let approve = Token::approveCall {
        spender: registry,
        amount: U256::MAX,
    };
    market
        .run("approve the registry", 1, mor, approve.abi_encode())
        .await;
    let register = |amount| Registry::providerRegisterCall {
        provider,
        amount: U256::from(amount),
        endpoint: "provider.example:3333".to_owned(),
    };
    market
        .fails("too low a stake", 1, registry, register(1).abi_encode())
        .await;
    market
        .run(
            "register a provider",
            1,
            registry,
            register(100).abi_encode(),
        )
        .await;
    let base = B256::repeat_byte(5);
    let model = Registry::modelRegisterCall {
        modelOwner: provider,
        baseModelId: base,
        ipfsCID: B256::repeat_byte(6),
        fee: U256::ZERO,
        amount: U256::from(20),
        name: "a model with a name longer than thirty-two bytes".to_owned(),
        tags: vec!["text".to_owned(), "small".to_owned()],
    };
    market
        .run("register a model", 1, registry, model.abi_encode())
        .await;
    let model_id = Registry::getModelIdCall {
        account: provider,
        baseModelId: base,
    };
    let model_id = market
        .view("getModelId", registry, model_id.abi_encode())
        .await;
    let model_id: B256 = serde_json::from_value(model_id).unwrap();
    let bid = |price| Registry::postModelBidCall {
        provider,
        modelId: model_id,
        pricePerSecond: U256::from(price),
    };
    market
        .run("post a bid", 1, registry, bid(7).abi_encode())
        .await;
    market
        .run("post a better bid", 1, registry, bid(6).abi_encode())
        .await;
    market
        .fails(
            "a bid above the limit",
            1,
            registry,
            bid(5_000).abi_encode(),
        )
        .await;
    let active = Registry::getActiveProvidersCall {
        offset: U256::ZERO,
        limit: U256::from(9),
    };
    market
        .view("getActiveProviders", registry, active.abi_encode())
        .await;
    let deregister = Registry::providerDeregisterCall { provider }.abi_encode();
    let request = json!({"from": provider, "to": registry, "data": Bytes::from(deregister)});
    market.both.call("deregister", request).await;
    market.both.books("after the registry").await;
}

fn channel(token: Address, salt: u8) -> ChannelConfig {
    ChannelConfig {
        payer: key(2).address(),
        payerAuthorizer: key(3).address(),
        receiver: key(1).address(),
        receiverAuthorizer: key(1).address(),
        token,
        withdrawDelay: alloy::primitives::aliases::U40::from(DELAY),
        salt: B256::repeat_byte(salt),
    }
}

async fn channel_id(market: &Market, config: &ChannelConfig) -> B256 {
    let call = Settlement::getChannelIdCall {
        config: config.clone(),
    };
    let id = market
        .view("getChannelId", SETTLEMENT, call.abi_encode())
        .await;
    let id: B256 = serde_json::from_value(id).unwrap();
    assert_eq!(id, config.eip712_signing_hash(&settlement_domain()));
    id
}

fn claim(config: &ChannelConfig, id: B256, ceiling: u128, total: u128) -> Vec<u8> {
    let voucher = typed::Voucher {
        channelId: id,
        maxClaimableAmount: ceiling,
    };
    let claim = VoucherClaim {
        voucher: Voucher {
            channel: config.clone(),
            maxClaimableAmount: ceiling,
        },
        signature: signature(voucher.eip712_signing_hash(&settlement_domain()), 3),
        totalClaimed: total,
    };
    Settlement::claimCall {
        voucherClaims: vec![claim],
    }
    .abi_encode()
}

async fn channel_by_allowance(market: &mut Market, mor: Address) {
    let config = channel(mor, 1);
    let id = channel_id(market, &config).await;
    let approve = Token::approveCall {
        spender: ALLOWANCE_COLLECTOR,
        amount: U256::MAX,
    };
    market
        .run("approve the collector", 2, mor, approve.abi_encode())
        .await;
    let domain = eip712_domain! {
        name: "Lethe Allowance Collector",
        version: "1",
        chain_id: CHAIN_ID,
        verifying_contract: ALLOWANCE_COLLECTOR,
    };
    let deposit = |nonce: u64, amount: u128, signer: usize| {
        let (nonce, deadline) = (U256::from(nonce), U256::from(FAR));
        let typed = AllowanceDeposit {
            channelId: id,
            token: mor,
            amount,
            nonce,
            deadline,
        };
        let by = signature(typed.eip712_signing_hash(&domain), signer);
        let data = (nonce, deadline, by).abi_encode_params().into();
        let config = config.clone();
        let call = Settlement::depositCall {
            config,
            amount,
            collector: ALLOWANCE_COLLECTOR,
            collectorData: data,
        };
        call.abi_encode()
    };
    market
        .fails(
            "a deposit that somebody else signed",
            2,
            SETTLEMENT,
            deposit(1, 5_000, 0),
        )
        .await;
    market
        .run("a deposit", 2, SETTLEMENT, deposit(1, 5_000, 2))
        .await;
    market
        .fails("a deposit replayed", 2, SETTLEMENT, deposit(1, 5_000, 2))
        .await;
    market
        .run("a second deposit", 2, SETTLEMENT, deposit(2, 1_000, 2))
        .await;
    market
        .run("a claim", 1, SETTLEMENT, claim(&config, id, 2_000, 1_500))
        .await;
    market
        .fails(
            "a claim above the voucher",
            1,
            SETTLEMENT,
            claim(&config, id, 2_000, 2_001),
        )
        .await;
    market
        .run(
            "a claim that is no news",
            1,
            SETTLEMENT,
            claim(&config, id, 2_000, 1_500),
        )
        .await;
    market
        .fails(
            "a stranger's claim",
            0,
            SETTLEMENT,
            claim(&config, id, 2_000, 1_600),
        )
        .await;
    let settle = Settlement::settleCall {
        receiver: config.receiver,
        token: mor,
    }
    .abi_encode();
    market.run("settle", 0, SETTLEMENT, settle.clone()).await;
    market.run("settle nothing", 0, SETTLEMENT, settle).await;
    let initiate = Settlement::initiateWithdrawCall {
        config: config.clone(),
        amount: 3_000,
    };
    market
        .run(
            "initiate a withdrawal",
            2,
            SETTLEMENT,
            initiate.abi_encode(),
        )
        .await;
    let finalize = Settlement::finalizeWithdrawCall {
        config: config.clone(),
    }
    .abi_encode();
    market
        .fails("withdraw too early", 2, SETTLEMENT, finalize.clone())
        .await;
    market.both.wait(DELAY);
    market
        .both
        .cheat("evm_increaseTime", json!([DELAY + 60]))
        .await;
    let draft = market.draft(2, Some(SETTLEMENT), finalize);
    let receipt = market.both.send("withdraw in time", &draft, &key(2)).await;
    assert_eq!(receipt["status"], "0x1");
    let refund = Settlement::refundCall {
        config: config.clone(),
        amount: 100,
    };
    market
        .run("refund", 1, SETTLEMENT, refund.abi_encode())
        .await;
    let left = Settlement::channelsCall { channelId: id };
    market.view("channels", SETTLEMENT, left.abi_encode()).await;
}

async fn channel_by_authorization(market: &mut Market, usd: Address) {
    market
        .run("transfer usd", 0, usd, transfer(key(2).address(), 9_000))
        .await;
    let config = channel(usd, 2);
    let id = channel_id(market, &config).await;
    let salt = U256::from(77);
    let domain = market
        .view(
            "eip712Domain",
            usd,
            keccak256("eip712Domain()")[..4].to_vec(),
        )
        .await;
    let domain: Bytes = serde_json::from_value(domain).unwrap();
    type Domain = (
        alloy::primitives::FixedBytes<1>,
        String,
        String,
        U256,
        Address,
        B256,
        Vec<U256>,
    );
    let (_, name, version, ..) = Domain::abi_decode_params(&domain).unwrap();
    let domain = Eip712Domain::new(
        Some(name.into()),
        Some(version.into()),
        Some(U256::from(CHAIN_ID)),
        Some(usd),
        None,
    );
    let typed = ReceiveWithAuthorization {
        from: key(2).address(),
        to: EIP3009_COLLECTOR,
        value: U256::from(4_000),
        validAfter: U256::ZERO,
        validBefore: U256::from(FAR),
        nonce: keccak256((id, salt).abi_encode()),
    };
    let by = signature(typed.eip712_signing_hash(&domain), 2);
    let data = (typed.validAfter, typed.validBefore, salt, by).abi_encode_params();
    let deposit = Settlement::depositCall {
        config: config.clone(),
        amount: 4_000,
        collector: EIP3009_COLLECTOR,
        collectorData: data.into(),
    };
    // Anyone may send it: the signature is the permission.
    market
        .run(
            "a deposit by authorization",
            0,
            SETTLEMENT,
            deposit.abi_encode(),
        )
        .await;
    market
        .run(
            "a claim of all",
            1,
            SETTLEMENT,
            claim(&config, id, 4_000, 4_000),
        )
        .await;
    let settle = Settlement::settleCall {
        receiver: config.receiver,
        token: usd,
    };
    market
        .run("settle usd", 3, SETTLEMENT, settle.abi_encode())
        .await;
}

/// Code of a few instructions that the contracts don't use, and what it shows.
const CURIOSITIES: &[(&str, &str)] = &[
    (
        "block number, chain id, base fee, gas limit",
        "43600052466020524860405245606052608060 00f3",
    ),
    ("transient storage", "602a60015d60015c60005260206000f3"),
    (
        "memory copy",
        "7f112233445566778899aabbccddeeff00112233445566778899aabbccddeeff006000526010600860 305e60606000f3",
    ),
    ("push zero and blob base fee", "5f4a60205260406000f3"),
    ("count leading zeros (Osaka)", "60ff1e60005260206000f3"),
    ("blob hash", "5f4960005260206000f3"),
    (
        "a precompile: sha-256 of nothing",
        "602060006000600060025afa5060206000f3",
    ),
    (
        "a precompile: p256verify of nothing (Osaka)",
        "60206000600060006101005afa60005260206000f3",
    ),
    (
        "the hash of a block that is too old",
        "60ff4060005260206000f3",
    ),
    (
        "the difficulty's place is not zero",
        "441515600052602060 00f3",
    ),
    ("an empty revert", "60006000fd"),
    ("a revert with data", "63deadbeef60e01b60005260046000fd"),
    ("self-destruction in the creating transaction", "33ff"),
    ("code that begins with 0xef", "60ef60005360016000f3"),
    ("code that is too large", "6160016000f3"),
    ("storage set and cleared", "600160005560006000556001600055"),
];

#[tokio::test]
async fn instructions_and_errors_are_alike_on_both() {
    let mut market = Market {
        both: Both::start().await,
        nonces: [0; 4],
    };
    for (what, code) in CURIOSITIES {
        let code: Vec<u8> = alloy::hex::decode(code.replace(' ', "")).unwrap();
        let from = key(0).address();
        let request = json!({"from": from, "data": Bytes::from(code.clone()), "gas": "0x2dc6c0"});
        let halted = market
            .both
            .ours
            .ask("eth_call", json!([request.clone(), "pending"]))
            .await;
        if halted.as_ref().is_ok_and(Value::is_string)
            || halted.is_err_and(|error| error["code"] == 3)
        {
            market.both.call(what, request).await;
        }
        let draft = market.draft(0, None, code);
        market.both.send(what, &draft, &key(0)).await;
    }
    refusals(&mut market).await;
    other_kinds(&mut market).await;
    base_fee(&mut market).await;
    market.both.books("after the curiosities").await;
}

/// All but the floor of EIP-7623, which anvil only looks at when it mines.
async fn refusals(market: &mut Market) {
    let nonce = market.nonces[0];
    let next = Draft {
        nonce,
        ..Draft::default()
    };
    let rich = U256::from(10).pow(U256::from(30));
    for (what, draft) in [
        (
            "nonce too low",
            Draft {
                nonce: nonce - 1,
                ..next.clone()
            },
        ),
        (
            "another chain",
            Draft {
                chain_id: 1,
                ..next.clone()
            },
        ),
        (
            "insufficient funds",
            Draft {
                value: rich,
                ..next.clone()
            },
        ),
        (
            "intrinsic gas",
            Draft {
                gas: 20_999,
                ..next.clone()
            },
        ),
        (
            "block gas limit",
            Draft {
                gas: 30_000_001,
                ..next.clone()
            },
        ),
        (
            "fee below the base fee",
            Draft {
                max_fee: 1,
                tip: 1,
                ..next.clone()
            },
        ),
        (
            "tip above the fee",
            Draft {
                tip: 11 * GWEI,
                ..next.clone()
            },
        ),
        (
            "init code",
            Draft {
                to: None,
                gas: 9_000_000,
                data: vec![0; 49_153].into(),
                ..next.clone()
            },
        ),
    ] {
        market.both.refused(what, &draft, &key(0)).await;
    }
}

async fn other_kinds(market: &mut Market) {
    let from = key(3);
    let to = TxKind::Call(key(1).address());
    let legacy = TxLegacy {
        chain_id: Some(CHAIN_ID),
        nonce: 0,
        gas_price: 3 * GWEI,
        gas_limit: 30_000,
        to,
        value: U256::from(5),
        input: Bytes::from_static(&[1, 2, 3]),
    };
    let (raw, hash) = sign(legacy, &from);
    market
        .both
        .send_raw("a legacy transaction", &raw, hash)
        .await;
    let storage_keys = vec![B256::ZERO, B256::repeat_byte(1)];
    let listed = TxEip2930 {
        chain_id: CHAIN_ID,
        nonce: 1,
        gas_price: 3 * GWEI,
        gas_limit: 60_000,
        to,
        value: U256::from(5),
        access_list: AccessList(vec![AccessListItem {
            address: key(2).address(),
            storage_keys,
        }]),
        input: Bytes::new(),
    };
    let (raw, hash) = sign(listed, &from);
    market.both.send_raw("an access list", &raw, hash).await;
    let authorization = Authorization {
        chain_id: U256::from(CHAIN_ID),
        address: Address::repeat_byte(9),
        nonce: 0,
    };
    let by = key(1)
        .sign_hash_sync(&authorization.signature_hash())
        .unwrap();
    let delegating = TxEip7702 {
        chain_id: CHAIN_ID,
        nonce: 2,
        gas_limit: 200_000,
        max_fee_per_gas: 5 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: key(1).address(),
        value: U256::ZERO,
        access_list: AccessList::default(),
        authorization_list: vec![authorization.into_signed(by)],
        input: Bytes::new(),
    };
    let (raw, hash) = sign(delegating, &from);
    market.both.send_raw("a delegation", &raw, hash).await;
    let code = json!([key(1).address(), "latest"]);
    market
        .both
        .same("a delegation", "eth_getCode", code, &[])
        .await;
}

/// Full blocks raise the base fee, empty ones lower it.
async fn base_fee(market: &mut Market) {
    for _ in 0..6 {
        // Burns all its gas: an invalid instruction.
        let draft = market.draft(0, None, vec![0xfe]);
        let draft = Draft {
            gas: 29_000_000,
            max_fee: 100 * GWEI,
            ..draft
        };
        market.both.send("a full block", &draft, &key(0)).await;
    }
    market.both.cheat("anvil_mine", json!(["0x5"])).await;
    let draft = market.draft(0, Some(key(1).address()), Vec::new());
    market.both.wait(1_000);
    market
        .both
        .send(
            "after empty blocks",
            &Draft {
                gas: 50_000,
                ..draft
            },
            &key(0),
        )
        .await;
}
