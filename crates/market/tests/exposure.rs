//! The rule of exposure, both sides together: whatever the order of events
//! and whoever crashes when, nobody loses more than one step per running
//! answer, and the books agree again after a restart.

#![expect(clippy::unwrap_used, reason = "what cannot be in a test fails it")]

use std::collections::BTreeMap;

use market::{
    Address, Amount, B256, ChannelConfig, ChannelState, Domain, InputBound, ModelId, NodeKey,
    Outcome, Purse, PurseEvent, Rates, RequestId, STEP_TOKENS, SignedReceipt, SignedVoucher, Till,
    TillEvent, Timestamp, Voucher, WalletKey,
};
use proptest::prelude::*;

const RATES: Rates = Rates {
    input_per_million: Amount::new(300_000),
    output_per_million: Amount::new(1_700_000),
};
const BOUND: InputBound = InputBound {
    estimate: 20,
    ceiling: 100,
};
const ESCROW: Amount = Amount::new(1_000_000);
const DOMAIN: Domain = Domain {
    chain_id: 1,
    settlement: Address::ZERO,
};
const NOW: Timestamp = Timestamp(0);
/// Answers running at a time.
const RUNNING: usize = 4;

#[derive(Debug, Clone)]
enum Act {
    /// A request is opened.
    Ask,
    /// The provider delivers some tokens of one of the running answers, if it may.
    Deliver(usize, u32),
    /// The consumer reads what was delivered.
    Read(usize),
    /// The voucher that is due reaches the provider.
    Pay,
    /// The provider ends an answer; its receipt reaches the consumer.
    End(usize),
    ConsumerCrashes,
    ProviderCrashes,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => Just(Act::Ask),
        8 => (any::<usize>(), 1u32..20).prop_map(|(n, tokens)| Act::Deliver(n, tokens)),
        8 => any::<usize>().prop_map(Act::Read),
        8 => Just(Act::Pay),
        2 => any::<usize>().prop_map(Act::End),
        1 => Just(Act::ConsumerCrashes),
        1 => Just(Act::ProviderCrashes),
    ];
    prop::collection::vec(act, 0..120)
}

#[derive(Default, Clone, Copy)]
struct Progress {
    delivered: u32,
    read: u32,
}

/// Both sides, their journals, and what is really true.
struct Two {
    config: ChannelConfig,
    hot: WalletKey,
    node: NodeKey,
    purse: Purse,
    purse_journal: Vec<PurseEvent>,
    till: Till,
    till_journal: Vec<TillEvent>,
    receipts: Vec<SignedReceipt>,
    running: BTreeMap<RequestId, Progress>,
    asked: u8,
    provider_crashes: u128,
    /// Delivered, and lost to the provider by its own crashes.
    written_off: Amount,
}

fn cost(tokens: u32) -> Amount {
    RATES.cost(BOUND.estimate, tokens).unwrap()
}

fn funded() -> ChannelState {
    ChannelState {
        balance: ESCROW,
        ..ChannelState::default()
    }
}

/// One step, the token that crosses the line, and one unit of rounding.
fn step() -> Amount {
    RATES
        .cost(0, STEP_TOKENS + 1)
        .unwrap()
        .plus(Amount::new(1))
        .unwrap()
}

impl Two {
    fn new() -> Self {
        let hot = WalletKey::from_bytes(&[1; 32]).unwrap();
        let config = ChannelConfig {
            payer: Address::repeat_byte(1),
            payer_authorizer: hot.address(),
            receiver: Address::repeat_byte(2),
            receiver_authorizer: Address::repeat_byte(2),
            token: Address::repeat_byte(3),
            withdraw_delay_s: 900,
            salt: B256::ZERO,
        };
        let mut purse = Purse::default();
        purse.funded(ESCROW);
        let mut till = Till::new(config.id(&DOMAIN));
        till.funded(funded());
        Self {
            config,
            hot,
            node: NodeKey::from_bytes(&[2; 32]),
            purse,
            purse_journal: vec![],
            till,
            till_journal: vec![],
            receipts: vec![],
            running: BTreeMap::new(),
            asked: 0,
            provider_crashes: 0,
            written_off: Amount::ZERO,
        }
    }

    fn nth(&self, n: usize) -> Option<RequestId> {
        self.running
            .keys()
            .nth(n.checked_rem(self.running.len())?)
            .copied()
    }

    /// The provider takes the voucher, and with it writes how far it has come.
    fn pay(&mut self) {
        let voucher = Voucher {
            channel: self.config.id(&DOMAIN),
            ceiling: self.purse.ceiling(),
        };
        let voucher: SignedVoucher = voucher.sign(&DOMAIN, &self.hot);
        voucher.verify(&self.config, &DOMAIN).unwrap();
        if let Some(event) = self.till.take(&voucher).unwrap() {
            self.till_journal.push(event);
            self.till.count(&voucher);
            for (request, progress) in &self.running {
                self.till.read(*request, progress.read).unwrap();
                self.till_journal
                    .push(self.till.progress(*request).unwrap());
            }
        }
    }

    fn ask(&mut self) {
        let request = RequestId([self.asked; 16].into());
        self.asked += 1;
        self.purse_journal
            .push(self.purse.ask(request, RATES, BOUND).unwrap());
        self.pay();
        let event = self
            .till
            .admit(request, ModelId(B256::ZERO), RATES, BOUND.estimate)
            .unwrap();
        self.till_journal.push(event);
        self.running.insert(request, Progress::default());
    }

    fn deliver(&mut self, request: RequestId, tokens: u32) {
        for _ in 0..tokens {
            if !self.till.may_go_on(request).unwrap() {
                return;
            }
            let progress = self.running.get_mut(&request).unwrap();
            progress.delivered += 1;
            self.till
                .delivered(request, BOUND.estimate, progress.delivered)
                .unwrap();
        }
    }

    fn read(&mut self, request: RequestId) {
        let progress = self.running.get_mut(&request).unwrap();
        progress.read = progress.delivered;
        let (tokens, bytes) = (progress.read, u64::from(progress.read) * 3);
        self.purse_journal
            .extend(self.purse.delivered(request, tokens, bytes).unwrap());
    }

    fn close(&mut self, request: RequestId, output: u32, outcome: Outcome) -> SignedReceipt {
        let receipt = self
            .till
            .close(request, BOUND.estimate, output, outcome, NOW)
            .unwrap();
        self.till_journal.push(TillEvent::receipted(&receipt));
        let signed = receipt.sign(&self.node);
        self.receipts.push(signed.clone());
        signed
    }

    fn end(&mut self, request: RequestId) {
        self.read(request);
        let delivered = self.running.remove(&request).unwrap().delivered;
        let signed = self.close(request, delivered, Outcome::Complete);
        self.purse_journal
            .extend(self.purse.receipted(&signed).unwrap());
    }

    fn reconcile(&mut self) {
        let after = self.purse.sequence();
        let missing: Vec<_> = self
            .receipts
            .iter()
            .filter(|signed| signed.receipt.sequence > after)
            .cloned()
            .collect();
        for signed in missing {
            self.purse_journal
                .extend(self.purse.reconciled(&signed).unwrap());
        }
        self.purse.settled_up();
    }

    /// The consumer is gone: the provider closes what ran; after the restart
    /// it fetches the receipts.
    fn consumer_crashes(&mut self) {
        for (request, progress) in std::mem::take(&mut self.running) {
            self.close(request, progress.delivered, Outcome::Cancelled);
        }
        self.purse = Purse::replay(&self.purse_journal).unwrap();
        self.purse.funded(ESCROW);
        self.reconcile();
    }

    /// The provider is gone: it comes back with its journal and closes what
    /// it knows of.
    fn provider_crashes(&mut self) {
        self.provider_crashes += 1;
        let truth = std::mem::take(&mut self.running);
        self.till = Till::replay(self.config.id(&DOMAIN), &self.till_journal);
        self.till.funded(funded());
        for receipt in self.till.interrupted(NOW).unwrap() {
            let full = cost(truth[&receipt.request].delivered);
            self.written_off = self
                .written_off
                .plus(full.minus(receipt.amount).unwrap())
                .unwrap();
            self.till_journal.push(TillEvent::receipted(&receipt));
            self.receipts.push(receipt.sign(&self.node));
        }
        for request in truth.into_keys() {
            self.purse.broken(request).unwrap();
        }
        self.reconcile();
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Ask if self.running.len() < RUNNING => self.ask(),
            Act::Ask => {}
            Act::Deliver(n, tokens) => {
                if let Some(request) = self.nth(*n) {
                    self.deliver(request, *tokens);
                }
            }
            Act::Read(n) => {
                if let Some(request) = self.nth(*n) {
                    self.read(request);
                }
            }
            Act::Pay => self.pay(),
            Act::End(n) => {
                if let Some(request) = self.nth(*n) {
                    self.end(request);
                }
            }
            Act::ConsumerCrashes => self.consumer_crashes(),
            Act::ProviderCrashes => self.provider_crashes(),
        }
    }

    fn check(&self) {
        let running = |tokens: fn(&Progress) -> u32| {
            Amount::sum(self.running.values().map(|progress| cost(tokens(progress)))).unwrap()
        };
        // Work beyond the best voucher: one step for each running answer, and
        // what answers that ended meanwhile had run ahead.
        let earned = self
            .till
            .charged()
            .plus(running(|progress| progress.delivered))
            .unwrap();
        let unpaid = earned.less(self.till.ceiling());
        let allowed = step().times(RUNNING as u128).unwrap();
        assert!(unpaid <= allowed, "{unpaid} unpaid, {allowed} allowed");

        // What its own crashes cost the provider: since the last voucher, one
        // step for each answer, and one more while that voucher was due.
        let allowed = step()
            .times(self.provider_crashes * 2 * RUNNING as u128)
            .unwrap();
        assert!(
            self.written_off <= allowed,
            "{} written off, {allowed} allowed",
            self.written_off
        );

        assert!(self.purse.charged() <= self.till.charged());
        assert!(self.till.ceiling() <= self.purse.ceiling());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nobody_loses_more_than_a_step_and_the_books_agree_in_the_end(acts in acts()) {
        let mut two = Two::new();
        for act in &acts {
            two.act(act);
            two.check();
        }
        while let Some(request) = two.nth(0) {
            two.end(request);
        }
        two.reconcile();
        prop_assert_eq!(two.purse.charged(), two.till.charged());

        let replayed = Purse::replay(&two.purse_journal).unwrap();
        prop_assert_eq!(replayed.charged(), two.purse.charged());
        prop_assert_eq!(replayed.ceiling(), two.purse.ceiling());
        let replayed = Till::replay(two.config.id(&DOMAIN), &two.till_journal);
        prop_assert_eq!(replayed.charged(), two.till.charged());
        prop_assert_eq!(replayed.ceiling(), two.till.ceiling());
    }
}

/// The sharp form, one answer alone: what each side is ahead of the other
/// stays within one step at every token.
#[test]
fn one_answer_alone_stays_within_one_step_on_both_sides() {
    let mut two = Two::new();
    two.ask();
    let request = two.nth(0).unwrap();
    for _ in 0..10 * STEP_TOKENS {
        two.deliver(request, 1);
        two.read(request);
        let got = cost(two.running[&request].read);
        assert!(two.purse.ceiling().less(got) <= step());
        assert!(got.less(two.till.ceiling()) <= step());
        two.pay();
    }
    assert_eq!(
        two.running[&request].delivered,
        10 * STEP_TOKENS,
        "payment kept up"
    );
}

/// A provider that gets no vouchers stops one step after what it was promised.
#[test]
fn without_vouchers_the_provider_stops_after_one_step() {
    let mut two = Two::new();
    two.ask();
    let request = two.nth(0).unwrap();
    two.deliver(request, 10_000);
    let delivered = two.running[&request].delivered;
    assert!(
        (2 * STEP_TOKENS..=2 * STEP_TOKENS + 1).contains(&delivered),
        "{delivered}"
    );
}
