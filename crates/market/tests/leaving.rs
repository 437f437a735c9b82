//! From any state that can be reached, every party gets all of its money back
//! with its own key and the chain, whatever the others do or do not do; and it
//! may be interrupted after any step.

#![expect(clippy::unwrap_used, reason = "what cannot be in a test fails it")]

use core::future::Future;
use core::task::{Context, Poll, Waker};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::OnceLock;

use market::{
    Address, Amount, B256, Belongings, ChannelConfig, Claim, Domain, Durable, Exit, ExitStep,
    Holdings, Ledger, MemoryLedger, ModelId, Timestamp, Voucher, WalletKey, exit,
};
use proptest::prelude::*;

const MOR: Address = Address::repeat_byte(0xaa);
const USD: Address = Address::repeat_byte(0xbb);
const TOKENS: [Address; 2] = [MOR, USD];
const DOMAIN: Domain = Domain {
    chain_id: 1,
    settlement: Address::repeat_byte(9),
};
const GRANT: u128 = 10_000;
const DELAY: u64 = 900;
const HOME: Address = Address::repeat_byte(0xcc);
/// Two payers, two providers.
const PARTIES: usize = 4;

/// The ledger in memory answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("the ledger in memory waits for something"),
    }
}

/// Made once: deriving them is most of the work otherwise.
fn key(party: usize) -> &'static WalletKey {
    static KEYS: OnceLock<Vec<WalletKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let bytes = (1..).take(PARTIES);
        bytes
            .map(|byte| WalletKey::from_bytes(&[byte; 32]).unwrap())
            .collect()
    });
    &keys[party]
}

#[derive(Debug, Clone)]
enum Act {
    Deposit {
        channel: usize,
        amount: u128,
    },
    Sign {
        channel: usize,
        more: u128,
    },
    Claim {
        channel: usize,
    },
    Settle {
        provider: usize,
        token: usize,
    },
    Initiate {
        channel: usize,
        amount: u128,
    },
    Finalise {
        channel: usize,
    },
    Refund {
        channel: usize,
        amount: u128,
    },
    Register {
        party: usize,
    },
    RegisterModel {
        party: usize,
        base: u8,
    },
    Bid {
        party: usize,
        owner: usize,
        base: u8,
    },
    DeleteBid {
        party: usize,
    },
    DeregisterModel {
        party: usize,
        base: u8,
    },
    Deregister {
        party: usize,
    },
    Time {
        seconds: u64,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (channel, party) = (0..8usize, 0..PARTIES);
    let act = prop_oneof![
        3 => (channel.clone(), 1..2_000u128).prop_map(|(channel, amount)| Act::Deposit { channel, amount }),
        4 => (channel.clone(), 0..900u128).prop_map(|(channel, more)| Act::Sign { channel, more }),
        2 => channel.clone().prop_map(|channel| Act::Claim { channel }),
        1 => (0..2usize, 0..2usize).prop_map(|(provider, token)| Act::Settle { provider, token }),
        2 => (channel.clone(), 1..2_000u128).prop_map(|(channel, amount)| Act::Initiate { channel, amount }),
        1 => channel.clone().prop_map(|channel| Act::Finalise { channel }),
        1 => (channel, 1..300u128).prop_map(|(channel, amount)| Act::Refund { channel, amount }),
        2 => party.clone().prop_map(|party| Act::Register { party }),
        2 => (party.clone(), 0..2u8).prop_map(|(party, base)| Act::RegisterModel { party, base }),
        3 => (party.clone(), 0..PARTIES, 0..2u8)
            .prop_map(|(party, owner, base)| Act::Bid { party, owner, base }),
        1 => party.clone().prop_map(|party| Act::DeleteBid { party }),
        1 => (party.clone(), 0..2u8).prop_map(|(party, base)| Act::DeregisterModel { party, base }),
        1 => party.prop_map(|party| Act::Deregister { party }),
        1 => (1..1_200u64).prop_map(|seconds| Act::Time { seconds }),
    ];
    prop::collection::vec(act, 0..60)
}

struct Town {
    book: MemoryLedger,
    channels: Vec<ChannelConfig>,
    /// What the payer signed, per channel.
    ceilings: Vec<u128>,
    /// The vouchers for it.
    vouchers: RefCell<BTreeMap<(usize, u128), Claim>>,
}

impl Town {
    fn new() -> Self {
        let book = MemoryLedger::new(DOMAIN, MOR, Timestamp(1_000));
        for party in 0..PARTIES {
            for token in TOKENS {
                book.mint(token, key(party).address(), Amount::new(GRANT))
                    .unwrap();
            }
        }
        let mut channels = Vec::new();
        for (payer, receiver) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
            for token in TOKENS {
                channels.push(ChannelConfig {
                    payer: key(payer).address(),
                    payer_authorizer: Address::ZERO,
                    receiver: key(receiver).address(),
                    receiver_authorizer: key(receiver).address(),
                    token,
                    withdraw_delay_s: DELAY,
                    salt: B256::ZERO,
                });
            }
        }
        let ceilings = vec![0; channels.len()];
        Self {
            book,
            channels,
            ceilings,
            vouchers: RefCell::default(),
        }
    }

    fn as_party(&self, party: usize) -> MemoryLedger {
        self.book.of(key(party).address())
    }

    fn party_of(&self, account: Address) -> usize {
        (0..PARTIES)
            .find(|party| key(*party).address() == account)
            .unwrap()
    }

    fn voucher(&self, channel: usize) -> Claim {
        let mut vouchers = self.vouchers.borrow_mut();
        let place = vouchers.entry((channel, self.ceilings[channel]));
        *place.or_insert_with(|| self.signed(channel))
    }

    fn signed(&self, channel: usize) -> Claim {
        let config = self.channels[channel];
        let ceiling = Amount::new(self.ceilings[channel]);
        let voucher = Voucher {
            channel: config.id(&DOMAIN),
            ceiling,
        };
        Claim {
            config,
            voucher: Durable::read_back(voucher).sign(&DOMAIN, key(self.party_of(config.payer))),
            total: ceiling,
        }
    }

    /// What is refused changes nothing; that is part of what can happen.
    fn act(&mut self, act: &Act) {
        match act {
            Act::Deposit { channel, amount } => {
                let config = self.channels[*channel];
                let payer = self.book.of(config.payer);
                let _ = now(payer.deposit(config, Amount::new(*amount)));
            }
            Act::Sign { channel, more } => {
                let state = self.state(*channel);
                let ceiling = self.ceilings[*channel] + more;
                self.ceilings[*channel] = ceiling
                    .min(state.balance.base_units())
                    .max(self.ceilings[*channel]);
            }
            Act::Claim { channel } => {
                let claim = self.voucher(*channel);
                let _ = now(self.book.of(claim.config.receiver).claim(vec![claim]));
            }
            Act::Settle { provider, token } => {
                let receiver = key(2 + provider).address();
                now(self.book.settle(receiver, TOKENS[*token])).unwrap();
            }
            Act::Initiate { channel, amount } => {
                let config = self.channels[*channel];
                let payer = self.book.of(config.payer);
                let _ = now(payer.initiate_withdraw(config, Amount::new(*amount)));
            }
            Act::Finalise { channel } => {
                let config = self.channels[*channel];
                let _ = now(self.book.of(config.payer).finalize_withdraw(config));
            }
            Act::Refund { channel, amount } => {
                let config = self.channels[*channel];
                let _ = now(self
                    .book
                    .of(config.receiver)
                    .refund(config, Amount::new(*amount)));
            }
            Act::Time { seconds } => self.book.advance(*seconds),
            registry => self.in_registry(registry),
        }
    }

    fn in_registry(&mut self, act: &Act) {
        let model =
            |party: usize, base: u8| ModelId::derive(key(party).address(), B256::repeat_byte(base));
        match act {
            Act::Register { party } => {
                let ledger = self.as_party(*party);
                let _ = now(ledger.register_provider(Amount::new(250), "a:1".into()));
            }
            Act::RegisterModel { party, base } => {
                let (ledger, base) = (self.as_party(*party), B256::repeat_byte(*base));
                let _ = now(ledger.register_model(base, "m".into(), vec![], Amount::new(120)));
            }
            Act::Bid { party, owner, base } => {
                let ledger = self.as_party(*party);
                let _ = now(ledger.post_bid(model(*owner, *base), Amount::new(5)));
            }
            Act::DeleteBid { party } => {
                let ledger = self.as_party(*party);
                if let Some(bid) = now(ledger.bids(ledger.account())).unwrap().first() {
                    now(ledger.delete_bid(bid.id)).unwrap();
                }
            }
            Act::DeregisterModel { party, base } => {
                let ledger = self.as_party(*party);
                let _ = now(ledger.deregister_model(model(*party, *base)));
            }
            Act::Deregister { party } => {
                let _ = now(self.as_party(*party).deregister_provider());
            }
            _ => unreachable!("not in the registry"),
        }
    }

    fn state(&self, channel: usize) -> market::ChannelState {
        now(self.book.channel(self.channels[channel].id(&DOMAIN))).unwrap()
    }

    fn belongings(&self, party: usize, home: Option<Address>) -> Belongings {
        let me = key(party).address();
        let of = |role: fn(&ChannelConfig) -> Address| {
            (0..self.channels.len()).filter(move |n| role(&self.channels[*n]) == me)
        };
        Belongings {
            pays: of(|config| config.payer)
                .map(|n| self.channels[n])
                .collect(),
            claims: of(|config| config.receiver)
                .map(|n| self.voucher(n))
                .collect(),
            earns_for: Default::default(),
            tokens: TOKENS.to_vec(),
            home,
        }
    }

    fn leave(&self, party: usize, home: Option<Address>) -> Exit {
        let belongings = self.belongings(party, home);
        now(exit(
            &self.as_party(party),
            &belongings,
            Timestamp(0),
            |_| {},
        ))
        .unwrap()
    }

    /// The next step only, as somebody who is killed after each.
    fn one_step(&self, party: usize, home: Option<Address>, skip: &[ExitStep]) -> Option<ExitStep> {
        let ledger = self.as_party(party);
        let holdings = now(Holdings::read(&ledger, &self.belongings(party, home))).unwrap();
        let (mut steps, _) = holdings.plan(now(ledger.now()).unwrap());
        steps.retain(|step| !skip.contains(step));
        if steps.is_empty() {
            steps = holdings.homeward();
        }
        steps.into_iter().next()
    }

    fn balance(&self, token: Address, owner: Address) -> u128 {
        now(self.book.balance(token, owner)).unwrap().base_units()
    }

    /// All that the parties and their home have of a token.
    fn out(&self, token: Address) -> u128 {
        let parties = (0..PARTIES).map(|party| key(party).address());
        parties
            .chain([HOME])
            .map(|owner| self.balance(token, owner))
            .sum()
    }

    /// What a channel's receiver has earned on it by voucher and has not claimed.
    fn earned(&self, channel: usize) -> u128 {
        let state = self.state(channel);
        let best = self.ceilings[channel].min(state.balance.base_units());
        best - best.min(state.total_claimed.base_units())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn everybody_gets_all_of_it_back_from_any_state(acts in acts(), home in any::<bool>()) {
        let home = home.then_some(HOME);
        let mut town = Town::new();
        for act in &acts {
            town.act(act);
        }
        let bid_fees = {
            let staked: u128 = (0..PARTIES).map(|party| {
                let me = key(party).address();
                let providers = now(town.book.providers()).unwrap();
                let stake = providers.iter().find(|p| p.address == me).map_or(0, |p| p.stake.base_units());
                let models = now(town.book.models()).unwrap();
                let own = models.iter().filter(|model| model.owner == me);
                stake + own.map(|m| now(town.book.model_stake(m.id)).unwrap().base_units()).sum::<u128>()
            }).sum();
            let channels: u128 = (0..town.channels.len()).filter(|n| town.channels[*n].token == MOR)
                .map(|n| { let s = town.state(n); s.balance.base_units() - s.total_claimed.base_units() }).sum();
            let owed: u128 = (2..PARTIES).map(|party| {
                let r = now(town.book.receiver(key(party).address(), MOR)).unwrap();
                r.total_claimed.base_units() - r.total_settled.base_units()
            }).sum();
            GRANT * PARTIES as u128 - town.out(MOR) - staked - channels - owed
        };
        // Everybody leaves; those whose model others bid for come again when they are gone.
        for _ in 0..2 {
            for party in 0..PARTIES {
                let left = town.leave(party, home);
                // What waits, and what can only be asked for then, is all that there is.
                for wait in left.waits {
                    let channel = town.channels.iter().position(|known| *known == wait.config).unwrap();
                    let state = town.state(channel);
                    let there = state.balance.less(state.total_claimed);
                    prop_assert_eq!(wait.amount.plus(wait.more), Ok(there));
                }
            }
        }
        // Withdrawals that were under way for less than all take a second delay.
        for _ in 0..2 {
            town.book.advance(DELAY);
            for party in 0..PARTIES {
                town.leave(party, home);
            }
        }
        for party in 0..PARTIES {
            let left = town.leave(party, home);
            prop_assert!(left.is_complete(), "party {party}: {left:?}");
        }
        prop_assert_eq!(town.out(MOR), GRANT * PARTIES as u128 - bid_fees);
        prop_assert_eq!(town.out(USD), GRANT * PARTIES as u128);
        if home.is_some() {
            for party in 0..PARTIES {
                for token in TOKENS {
                    prop_assert_eq!(town.balance(token, key(party).address()), 0);
                }
            }
        }
    }

    /// Who leaves gets what is its own also when nobody else ever moves again.
    #[test]
    fn one_party_alone_gets_what_is_its_own(acts in acts(), party in 0..PARTIES) {
        let mut town = Town::new();
        for act in &acts {
            town.act(act);
        }
        let me = key(party).address();
        let mut expected = [0u128; 2];
        for (token, expected) in TOKENS.iter().zip(&mut expected) {
            *expected = town.balance(*token, me);
            for n in (0..town.channels.len()).filter(|n| town.channels[*n].token == *token) {
                let state = town.state(n);
                if town.channels[n].payer == me {
                    *expected += state.balance.base_units() - state.total_claimed.base_units();
                }
                if town.channels[n].receiver == me {
                    *expected += town.earned(n);
                }
            }
            let owed = now(town.book.receiver(me, *token)).unwrap();
            *expected += owed.total_claimed.base_units() - owed.total_settled.base_units();
        }
        for _ in 0..3 {
            town.leave(party, None);
            town.book.advance(DELAY);
        }
        let left = town.leave(party, None);
        prop_assert!(left.waits.is_empty());
        // Only somebody else's bid can hold back the stake of a model.
        let held = left.blocked.iter().all(|blocked| {
            blocked.reason == "ModelHasActiveBids" && matches!(blocked.step, ExitStep::DeregisterModel(_))
        });
        prop_assert!(held, "{:?}", left.blocked);
        prop_assert!(town.balance(MOR, me) >= expected[0]);
        prop_assert_eq!(town.balance(USD, me), expected[1]);
    }

    /// Killed after every step, it comes to the same end.
    #[test]
    fn an_exit_that_is_killed_after_each_step_goes_on(acts in acts(), party in 0..PARTIES) {
        let (mut whole, mut cut) = (Town::new(), Town::new());
        for act in &acts {
            whole.act(act);
            cut.act(act);
        }
        for _ in 0..3 {
            whole.leave(party, Some(HOME));
            let mut blocked = Vec::new();
            while let Some(step) = cut.one_step(party, Some(HOME), &blocked) {
                let ledger = cut.as_party(party);
                if now(step.perform(&ledger)).is_err() {
                    blocked.push(step);
                }
            }
            for token in TOKENS {
                prop_assert_eq!(whole.balance(token, HOME), cut.balance(token, HOME));
            }
            whole.book.advance(DELAY);
            cut.book.advance(DELAY);
        }
    }
}
