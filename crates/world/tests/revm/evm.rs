//! The committed contracts in revm, without a node around them: a deed is one
//! call, and what came of it is told as the ledger in memory tells it.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, Log, TxKind, U256};
use alloy::sol;
use alloy::sol_types::{SolCall, SolEvent, SolStruct, SolValue, eip712_domain};
use chain::{ALLOWANCE_COLLECTOR, Call, Network, genesis_code};
use market::{
    Amount, ChannelConfig, ChannelId, ChannelState, LedgerEvent, Receiver, Stakes, Timestamp,
    WalletKey, Withdrawal,
};
use revm::bytecode::Bytecode;
use revm::context::result::{ExecutionResult, Output};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::state::AccountInfo;
use revm::{ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext};

sol! {
    struct AllowanceDeposit {
        bytes32 channelId;
        address token;
        uint128 amount;
        uint256 nonce;
        uint256 deadline;
    }

    struct Config {
        address payer;
        address payerAuthorizer;
        address receiver;
        address receiverAuthorizer;
        address token;
        uint40 withdrawDelay;
        bytes32 salt;
    }

    struct Parameters {
        address token;
        uint256 minPricePerSecond;
        uint256 maxPricePerSecond;
        uint256 providerMinStake;
        uint256 modelMinStake;
        uint256 bidFee;
        address owner;
    }

    event ChannelCreated(bytes32 indexed channelId, Config config);
    event ChannelClosed(bytes32 indexed channelId, Config config);
    event Deposited(bytes32 indexed channelId, address indexed sender, uint128 amount, uint128 newBalance);
    event Claimed(bytes32 indexed channelId, address indexed sender, uint128 claimAmount, uint128 newTotalClaimed);
    event Settled(address indexed receiver, address indexed token, address indexed sender, uint128 amount);
    event Refunded(bytes32 indexed channelId, address indexed sender, uint128 amount);
    event WithdrawInitiated(bytes32 indexed channelId, uint128 amount, uint40 finalizeAfter);
    event WithdrawFinalized(bytes32 indexed channelId, address indexed sender, uint128 amount);

    function channels(bytes32 channelId) returns (uint128 balance, uint128 totalClaimed);
    function pendingWithdrawals(bytes32 channelId) returns (uint128 amount, uint40 initiatedAt);
    function receivers(address receiver, address token) returns (uint128 totalClaimed, uint128 totalSettled);
    function balanceOf(address owner) returns (uint256);
}

const DEPLOYER: Address = Address::repeat_byte(0xde);
const GAS: u64 = 10_000_000;

/// The names of all errors, by selector.
type Names = BTreeMap<[u8; 4], String>;

/// A chain with the contracts on it. Clones are chains of their own.
#[derive(Clone)]
pub(crate) struct Evm {
    state: CacheDB<EmptyDB>,
    rules: CfgEnv,
    block: BlockEnv,
    pub(crate) network: Network,
    pub(crate) tokens: [Address; 2],
    names: Names,
    nonce: u64,
}

fn artifact(name: &str) -> serde_json::Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/");
    let text = std::fs::read_to_string(format!("{folder}{name}.json")).expect("an artifact");
    serde_json::from_str(&text).expect("an artifact is JSON")
}

fn names() -> Names {
    let mut names = Names::new();
    for name in [
        "BatchSettlement",
        "AllowanceCollector",
        "Registry",
        "MorToken",
    ] {
        let abi: alloy::json_abi::JsonAbi =
            serde_json::from_value(artifact(name)["abi"].clone()).expect("an ABI");
        for error in abi.errors() {
            names.insert(error.selector().0, error.name.clone());
        }
    }
    names
}

impl Evm {
    /// The contracts as they are deployed on a local chain, with these terms,
    /// and so much of both tokens for everybody.
    pub(crate) fn new(stakes: &Stakes, people: &[Address], grant: Amount, now: Timestamp) -> Self {
        let mut network = Network::local();
        let mut rules = CfgEnv::new_with_spec(SpecId::OSAKA).with_chain_id(network.chain_id);
        rules.tx_gas_limit_cap = Some(u64::MAX);
        rules.disable_nonce_check = true;
        rules.disable_base_fee = true;
        rules.disable_balance_check = true;
        let mut state = CacheDB::new(EmptyDB::new());
        for (address, code) in genesis_code() {
            let code = Bytecode::new_raw(code);
            let info = AccountInfo {
                nonce: 1,
                code_hash: code.hash_slow(),
                code: Some(code),
                ..AccountInfo::default()
            };
            state.insert_account_info(address, info);
        }
        let block = BlockEnv {
            number: U256::from(1),
            timestamp: U256::from(now.0),
            ..BlockEnv::default()
        };
        let mut evm = Self {
            state,
            rules,
            block,
            tokens: [Address::ZERO; 2],
            network: network.clone(),
            names: names(),
            nonce: 0,
        };
        let units = |amount: Amount| U256::from(amount.base_units());
        let all = units(grant) * U256::from(people.len());
        let token = (DEPLOYER, DEPLOYER, all).abi_encode_params();
        evm.tokens = [
            evm.create("MorToken", &token),
            evm.create("MorToken", &token),
        ];
        network.mor = evm.tokens[0];
        let parameters = Parameters {
            token: network.mor,
            minPricePerSecond: units(stakes.price_per_second_min),
            maxPricePerSecond: units(stakes.price_per_second_max),
            providerMinStake: units(stakes.provider_min),
            modelMinStake: units(stakes.model_min),
            bidFee: units(stakes.bid_fee),
            owner: DEPLOYER,
        };
        network.registry = evm.create("Registry", &parameters.abi_encode());
        for token in evm.tokens {
            for person in people {
                evm.done(DEPLOYER, Call::transfer(token, *person, grant));
                for spender in [ALLOWANCE_COLLECTOR, network.registry] {
                    evm.done(*person, Call::approve(token, spender, U256::MAX));
                }
            }
        }
        evm.network = network;
        evm
    }

    fn done(&mut self, from: Address, call: Call) {
        self.transact(from, &call).expect("part of the beginning");
    }

    fn create(&mut self, name: &str, arguments: &[u8]) -> Address {
        let code: Bytes = serde_json::from_value(artifact(name)["bytecode"].clone()).expect("code");
        let data = Bytes::from([code.as_ref(), arguments].concat());
        let result = self.execute(DEPLOYER, TxKind::Create, data);
        match result {
            ExecutionResult::Success {
                output: Output::Create(_, Some(address)),
                ..
            } => address,
            other => panic!("{name} was not created: {other:?}"),
        }
    }

    fn environment(&self, from: Address, kind: TxKind, data: Bytes) -> TxEnv {
        TxEnv {
            caller: from,
            gas_limit: GAS,
            gas_price: 0,
            kind,
            data,
            chain_id: Some(self.rules.chain_id),
            ..TxEnv::default()
        }
    }

    fn execute(&mut self, from: Address, kind: TxKind, data: Bytes) -> ExecutionResult {
        let tx = self.environment(from, kind, data);
        let mut evm = Context::mainnet()
            .with_db(&mut self.state)
            .with_cfg(self.rules.clone())
            .with_block(self.block.clone())
            .build_mainnet();
        evm.transact_commit(tx).expect("the EVM itself is well")
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, seconds: u64) {
        self.block.timestamp += U256::from(seconds);
    }

    /// What happened, or the name of the error.
    pub(crate) fn transact(&mut self, from: Address, call: &Call) -> Result<Vec<Log>, String> {
        match self.execute(from, call.to.into(), call.data.clone()) {
            ExecutionResult::Success { logs, .. } => Ok(logs),
            ExecutionResult::Revert { output, .. } => {
                let selector = output.first_chunk::<4>().copied().unwrap_or_default();
                let name = self.names.get(&selector).cloned();
                Err(name.unwrap_or_else(|| format!("unknown {output}")))
            }
            ExecutionResult::Halt { reason, .. } => Err(format!("{reason:?}")),
        }
    }

    /// A deposit that `key` agrees to.
    pub(crate) fn deposit(
        &mut self,
        key: &WalletKey,
        config: &ChannelConfig,
        amount: Amount,
    ) -> Result<Vec<Log>, String> {
        self.nonce += 1;
        let (nonce, deadline) = (U256::from(self.nonce), U256::MAX);
        let domain = eip712_domain! {
            name: "Lethe Allowance Collector",
            version: "1",
            chain_id: self.network.chain_id,
            verifying_contract: ALLOWANCE_COLLECTOR,
        };
        let agreed = AllowanceDeposit {
            channelId: config.id(&self.network.domain()).0,
            token: config.token,
            amount: amount.base_units(),
            nonce,
            deadline,
        };
        let signature = key.sign(&agreed.eip712_signing_hash(&domain));
        let signature = Bytes::from(signature.as_bytes().to_vec());
        let data = (nonce, deadline, signature).abi_encode_params();
        let network = self.network.clone();
        let call = Call::deposit(&network, config, amount, ALLOWANCE_COLLECTOR, data.into());
        self.transact(key.address(), &call)
    }

    fn view<C: SolCall>(&mut self, to: Address, call: &C) -> C::Return {
        let tx = self.environment(DEPLOYER, to.into(), call.abi_encode().into());
        let mut evm = Context::mainnet()
            .with_db(&mut self.state)
            .with_cfg(self.rules.clone())
            .with_block(self.block.clone())
            .build_mainnet();
        let result = evm.transact(tx).expect("the EVM itself is well").result;
        let output = result.into_output().expect("a view has an output");
        C::abi_decode_returns(&output).expect("a view says what its ABI says")
    }

    /// What the contract knows of a channel.
    pub(crate) fn channel(&mut self, id: ChannelId) -> ChannelState {
        let settlement = self.network.settlement;
        let held = self.view(settlement, &channelsCall { channelId: id.0 });
        let leaving = self.view(settlement, &pendingWithdrawalsCall { channelId: id.0 });
        let initiated_at = Timestamp(leaving.initiatedAt.to::<u64>());
        ChannelState {
            balance: Amount::new(held.balance),
            total_claimed: Amount::new(held.totalClaimed),
            withdrawal: (initiated_at.0 != 0).then(|| Withdrawal {
                amount: Amount::new(leaving.amount),
                initiated_at,
            }),
        }
    }

    /// What the contract owes a receiver.
    pub(crate) fn receiver(&mut self, receiver: Address, token: Address) -> Receiver {
        let owed = self.view(self.network.settlement, &receiversCall { receiver, token });
        Receiver {
            total_claimed: Amount::new(owed.totalClaimed),
            total_settled: Amount::new(owed.totalSettled),
        }
    }

    /// What somebody has.
    pub(crate) fn balance(&mut self, token: Address, owner: Address) -> Amount {
        let balance = self.view(token, &balanceOfCall { owner });
        Amount::new(balance.to::<u128>())
    }
}

fn config(told: &Config) -> ChannelConfig {
    ChannelConfig {
        payer: told.payer,
        payer_authorizer: told.payerAuthorizer,
        receiver: told.receiver,
        receiver_authorizer: told.receiverAuthorizer,
        token: told.token,
        withdraw_delay_s: told.withdrawDelay.to::<u64>(),
        salt: told.salt,
    }
}

/// The settlement contract's events among the logs.
pub(crate) fn events(logs: &[Log]) -> Vec<LedgerEvent> {
    logs.iter().filter_map(event).collect()
}

fn event(log: &Log) -> Option<LedgerEvent> {
    let topic: B256 = *log.topics().first()?;
    let amount = Amount::new;
    Some(match topic {
        ChannelCreated::SIGNATURE_HASH => {
            let told = ChannelCreated::decode_log_data(&log.data).ok()?;
            LedgerEvent::ChannelCreated {
                channel: ChannelId(told.channelId),
                config: config(&told.config),
            }
        }
        ChannelClosed::SIGNATURE_HASH => {
            let told = ChannelClosed::decode_log_data(&log.data).ok()?;
            LedgerEvent::ChannelClosed {
                channel: ChannelId(told.channelId),
                config: config(&told.config),
            }
        }
        Deposited::SIGNATURE_HASH => {
            let told = Deposited::decode_log_data(&log.data).ok()?;
            LedgerEvent::Deposited {
                channel: ChannelId(told.channelId),
                sender: told.sender,
                amount: amount(told.amount),
                new_balance: amount(told.newBalance),
            }
        }
        Claimed::SIGNATURE_HASH => {
            let told = Claimed::decode_log_data(&log.data).ok()?;
            LedgerEvent::Claimed {
                channel: ChannelId(told.channelId),
                sender: told.sender,
                amount: amount(told.claimAmount),
                new_total: amount(told.newTotalClaimed),
            }
        }
        Settled::SIGNATURE_HASH => {
            let told = Settled::decode_log_data(&log.data).ok()?;
            LedgerEvent::Settled {
                receiver: told.receiver,
                token: told.token,
                sender: told.sender,
                amount: amount(told.amount),
            }
        }
        Refunded::SIGNATURE_HASH => {
            let told = Refunded::decode_log_data(&log.data).ok()?;
            LedgerEvent::Refunded {
                channel: ChannelId(told.channelId),
                sender: told.sender,
                amount: amount(told.amount),
            }
        }
        WithdrawInitiated::SIGNATURE_HASH => {
            let told = WithdrawInitiated::decode_log_data(&log.data).ok()?;
            LedgerEvent::WithdrawInitiated {
                channel: ChannelId(told.channelId),
                amount: amount(told.amount),
                finalize_after: Timestamp(told.finalizeAfter.to::<u64>()),
            }
        }
        WithdrawFinalized::SIGNATURE_HASH => {
            let told = WithdrawFinalized::decode_log_data(&log.data).ok()?;
            LedgerEvent::WithdrawFinalized {
                channel: ChannelId(told.channelId),
                sender: told.sender,
                amount: amount(told.amount),
            }
        }
        _ => return None,
    })
}
