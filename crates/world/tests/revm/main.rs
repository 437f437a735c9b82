//! The same random deeds on the ledger in memory and on the contracts in
//! revm: the same outcome (errors by name), the same events, the same balances
//! after each.

mod evm;

use chain::{Call, DEVELOPMENT_ACCOUNTS, ModelEntry, Network};
use evm::{Evm, events};
use futures_util::FutureExt;
use market::{
    Address, Amount, B256, ChannelConfig, Claim, Domain, Durable, Ledger, LedgerError, LedgerEvent,
    MemoryLedger, ModelId, Timestamp, U256, Voucher, WalletKey,
};
use world::Random;

/// What a run has where nothing else is asked for.
const SEEDS: u64 = 300;
/// Deeds a seed.
const DEEDS: usize = 40;
/// What everybody has of both tokens.
const GRANT: Amount = Amount::new(10_000);
const START: Timestamp = Timestamp(1_000_000);

const PAYER: usize = 0;
const HOT_KEY: usize = 1;
const PROVIDER: usize = 2;
const CLAIMER: usize = 3;
const STRANGER: usize = 4;
const PEOPLE: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Row {
    channel: usize,
    ceiling: u128,
    signer: usize,
    total: u128,
}

#[derive(Debug, Clone)]
enum Deed {
    Wait(u64),
    RegisterProvider { stake: u128 },
    RegisterModel { base: u8, stake: u128 },
    PostBid { base: u8, price: u128 },
    Transfer { to: usize, amount: u128 },
    Deposit { channel: usize, amount: u128 },
    Claim(Vec<Row>),
    Settle { receiver: usize, token: usize },
    InitiateWithdraw { channel: usize, amount: u128 },
    FinalizeWithdraw { channel: usize },
    Refund { channel: usize, amount: u128 },
}

/// What came of a deed.
type Outcome = Result<Vec<LedgerEvent>, String>;

fn key(who: usize) -> WalletKey {
    DEVELOPMENT_ACCOUNTS[who].wallet()
}

fn address(who: usize) -> Address {
    DEVELOPMENT_ACCOUNTS[who].address
}

/// Both forms of the ledger.
struct Twins {
    evm: Evm,
    memory: MemoryLedger,
    told: usize,
    network: Network,
    domain: Domain,
    tokens: [Address; 2],
    channels: Vec<ChannelConfig>,
}

impl Twins {
    fn new(evm: &Evm) -> Self {
        let evm = evm.clone();
        let (network, tokens) = (evm.network.clone(), evm.tokens);
        let domain = network.domain();
        let memory = MemoryLedger::new(domain, tokens[0], START);
        for who in 0..PEOPLE {
            for token in tokens {
                memory.mint(token, address(who), GRANT).expect("minted");
            }
        }
        let with_hot_key = ChannelConfig {
            payer: address(PAYER),
            payer_authorizer: address(HOT_KEY),
            receiver: address(PROVIDER),
            receiver_authorizer: address(CLAIMER),
            token: tokens[0],
            withdraw_delay_s: 900,
            salt: B256::ZERO,
        };
        let without = ChannelConfig {
            payer_authorizer: Address::ZERO,
            token: tokens[1],
            ..with_hot_key
        };
        let second = ChannelConfig {
            salt: B256::repeat_byte(1),
            ..with_hot_key
        };
        let too_quick = ChannelConfig {
            withdraw_delay_s: 899,
            ..with_hot_key
        };
        let nobodys = ChannelConfig {
            receiver_authorizer: Address::ZERO,
            ..with_hot_key
        };
        Self {
            evm,
            memory,
            told: 0,
            network,
            domain,
            tokens,
            channels: vec![with_hot_key, without, second, too_quick, nobodys],
        }
    }

    fn claims(&self, rows: &[Row]) -> Vec<Claim> {
        let claim = |row: &Row| {
            let config = self.channels[row.channel];
            let voucher = Durable::read_back(Voucher {
                channel: config.id(&self.domain),
                ceiling: Amount::new(row.ceiling),
            });
            Claim {
                config,
                voucher: voucher.sign(&self.domain, &key(row.signer)),
                total: Amount::new(row.total),
            }
        };
        rows.iter().map(claim).collect()
    }

    fn on_memory(&mut self, who: usize, deed: &Deed) -> Outcome {
        let ledger = self.memory.of(address(who));
        let amount = Amount::new;
        let config = |channel: &usize| self.channels[*channel];
        let done = match deed {
            Deed::Wait(seconds) => {
                self.memory.advance(*seconds);
                return Ok(vec![]);
            }
            Deed::RegisterProvider { stake } => {
                now(ledger.register_provider(amount(*stake), "node.example:1".to_owned())).map(drop)
            }
            Deed::RegisterModel { base, stake } => now(ledger.register_model(
                B256::repeat_byte(*base),
                "model".to_owned(),
                vec!["llm".to_owned()],
                amount(*stake),
            ))
            .map(drop),
            Deed::PostBid { base, price } => {
                let model = ModelId::derive(address(PROVIDER), B256::repeat_byte(*base));
                now(ledger.post_bid(model, amount(*price))).map(drop)
            }
            Deed::Transfer { to, amount: units } => {
                now(ledger.transfer(self.tokens[0], address(*to), amount(*units))).map(drop)
            }
            Deed::Deposit {
                channel,
                amount: units,
            } => now(ledger.deposit(config(channel), amount(*units))).map(drop),
            Deed::Claim(rows) => now(ledger.claim(self.claims(rows))).map(drop),
            Deed::Settle { receiver, token } => {
                now(ledger.settle(address(*receiver), self.tokens[*token])).map(drop)
            }
            Deed::InitiateWithdraw {
                channel,
                amount: units,
            } => now(ledger.initiate_withdraw(config(channel), amount(*units))).map(drop),
            Deed::FinalizeWithdraw { channel } => {
                now(ledger.finalize_withdraw(config(channel))).map(drop)
            }
            Deed::Refund {
                channel,
                amount: units,
            } => now(ledger.refund(config(channel), amount(*units))).map(drop),
        };
        let told = self.memory.events(self.told);
        self.told += told.len();
        match done {
            Ok(()) => Ok(told),
            Err(LedgerError::Refused { reason }) => Err(reason),
            Err(LedgerError::Insufficient { .. }) => Err("ERC20InsufficientBalance".to_owned()),
            Err(other) => panic!("the ledger in memory broke: {other}"),
        }
    }

    fn on_evm(&mut self, who: usize, deed: &Deed) -> Outcome {
        let amount = Amount::new;
        let network = &self.network;
        let config = |channel: &usize| &self.channels[*channel];
        let call = match deed {
            Deed::Wait(seconds) => {
                self.evm.advance(*seconds);
                return Ok(vec![]);
            }
            Deed::Deposit {
                channel,
                amount: units,
            } => {
                let config = self.channels[*channel];
                let logs = self.evm.deposit(&key(who), &config, amount(*units));
                return logs.map(|logs| events(&logs));
            }
            Deed::RegisterProvider { stake } => {
                let endpoint = "node.example:1".to_owned();
                Call::register_provider(network, address(who), amount(*stake), endpoint)
            }
            Deed::RegisterModel { base, stake } => {
                let model = ModelEntry {
                    owner: address(who),
                    base: B256::repeat_byte(*base),
                    ipfs_cid: B256::ZERO,
                    fee: U256::ZERO,
                    stake: amount(*stake),
                    name: "model".to_owned(),
                    tags: vec!["llm".to_owned()],
                };
                Call::register_model(network, model)
            }
            Deed::PostBid { base, price } => {
                let model = ModelId::derive(address(PROVIDER), B256::repeat_byte(*base));
                Call::post_bid(network, address(who), model, amount(*price))
            }
            Deed::Transfer { to, amount: units } => {
                Call::transfer(self.tokens[0], address(*to), amount(*units))
            }
            Deed::Claim(rows) => Call::claim(network, &self.claims(rows)),
            Deed::Settle { receiver, token } => {
                Call::settle(network, address(*receiver), self.tokens[*token])
            }
            Deed::InitiateWithdraw {
                channel,
                amount: units,
            } => Call::initiate_withdraw(network, config(channel), amount(*units)),
            Deed::FinalizeWithdraw { channel } => Call::finalize_withdraw(network, config(channel)),
            Deed::Refund {
                channel,
                amount: units,
            } => Call::refund(network, config(channel), amount(*units)),
        };
        let logs = self.evm.transact(address(who), &call)?;
        Ok(events(&logs))
    }

    /// All that both know must be the same.
    fn compare(&mut self) {
        for config in &self.channels {
            let id = config.id(&self.domain);
            let known = now(self.memory.channel(id)).expect("a channel");
            assert_eq!(self.evm.channel(id), known);
        }
        for token in self.tokens {
            for who in 0..PEOPLE {
                let has = now(self.memory.balance(token, address(who))).expect("a balance");
                assert_eq!(self.evm.balance(token, address(who)), has, "of {who}");
            }
            let owed = now(self.memory.receiver(address(PROVIDER), token)).expect("earnings");
            assert_eq!(self.evm.receiver(address(PROVIDER), token), owed);
        }
    }
}

/// The ledger in memory answers at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("it never waits")
}

fn row(random: &mut Random) -> Row {
    let channel = random.place(3);
    let total = u128::from(random.within(1..900));
    let signer = match random.chance(9_000) {
        true => [HOT_KEY, PAYER, HOT_KEY][channel],
        false => random.place(PEOPLE),
    };
    Row {
        channel,
        ceiling: total + u128::from(random.within(0..50)) - u128::from(random.chance(500)),
        signer,
        total,
    }
}

/// Deeds at random, most of them possible.
fn deed(random: &mut Random) -> (usize, Deed) {
    let channel = match random.chance(9_700) {
        true => random.place(3),
        false => random.place(5),
    };
    let amount = match random.chance(9_800) {
        true => u128::from(random.within(0..400)),
        false => u128::MAX - u128::from(random.within(0..2)),
    };
    let small = u128::from(random.within(0..300));
    let base = u8::try_from(random.within(1..3)).expect("small");
    let token = random.place(2);
    let (usual, deed) = match random.within(0..24) {
        0..6 => (PAYER, Deed::Deposit { channel, amount }),
        6..12 => {
            let rows = random.within(0..10);
            let rows = (0..rows.min(3)).map(|_| row(random)).collect();
            (CLAIMER, Deed::Claim(rows))
        }
        12..14 => {
            let receiver = match random.chance(9_000) {
                true => PROVIDER,
                false => random.place(PEOPLE),
            };
            (STRANGER, Deed::Settle { receiver, token })
        }
        14..16 => (PAYER, Deed::InitiateWithdraw { channel, amount }),
        16..18 => (PAYER, Deed::FinalizeWithdraw { channel }),
        18..20 => (PROVIDER, Deed::Refund { channel, amount }),
        20 => (PROVIDER, Deed::RegisterProvider { stake: small }),
        21 => (PROVIDER, Deed::RegisterModel { base, stake: small }),
        22 => {
            let price = u128::from(random.within(0..3)) * 600_000;
            (PROVIDER, Deed::PostBid { base, price })
        }
        _ => {
            let to = random.place(PEOPLE);
            (
                random.place(PEOPLE),
                Deed::Transfer {
                    to,
                    amount: amount.min(20_000),
                },
            )
        }
    };
    let who = match random.chance(9_000) {
        true => usual,
        false => random.place(PEOPLE),
    };
    (who, deed)
}

#[test]
fn random_deeds_come_out_alike_in_memory_and_on_the_contracts() {
    let people: Vec<_> = (0..PEOPLE).map(address).collect();
    let evm = Evm::new(&MemoryLedger::STAKES, &people, GRANT, START);
    let (mut done, mut refused) = (0u64, std::collections::BTreeMap::<String, u32>::new());
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut twins = Twins::new(&evm);
        for at in 0..DEEDS {
            let (who, deed) = match random.chance(800) {
                true => (STRANGER, Deed::Wait(random.within(1..1_200))),
                false => deed(&mut random),
            };
            let expected = twins.on_memory(who, &deed);
            let outcome = twins.on_evm(who, &deed);
            assert_eq!(
                outcome, expected,
                "seed {seed}, deed {at} by {who}: {deed:?}"
            );
            twins.compare();
            match outcome {
                Ok(_) => done += 1,
                Err(name) => *refused.entry(name).or_default() += 1,
            }
        }
        twins.memory.audit().expect("balanced");
    }
    println!("{SEEDS} seeds, {done} deeds done, refused: {refused:?}");
    assert!(done * 3 > SEEDS * 40, "only {done} deeds were possible");
    assert!(refused.len() >= 10, "few refusals were tried: {refused:?}");
}
