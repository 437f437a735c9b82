//! The rule of exposure, both sides together: whatever the order of events
//! and whoever crashes when, nobody loses more than one step per running
//! answer, and the books agree again after a restart.

#![expect(clippy::unwrap_used, reason = "what cannot be in a test fails it")]

use std::collections::BTreeMap;

use market::{
    Address, Amount, B256, ChannelConfig, ChannelState, Domain, Durable, InputBound, ModelId,
    NodeKey, Outcome, Purse, PurseEvent, Rates, RequestId, STEP_TOKENS, SignedReceipt,
    SignedVoucher, Sold, Till, TillEvent, Timestamp, Upstream, Voucher, WalletKey,
};
use proptest::prelude::*;

const RATES: Rates = Rates {
    input_per_million: Amount::new(300_000),
    output_per_million: Amount::new(1_700_000),
};
const SOLD: Sold = Sold {
    model: ModelId(B256::ZERO),
    rates: RATES,
    upstream: Upstream::OwnEngine,
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
    /// The provider delivers a chunk of so many tokens of one of the running answers, if it may.
    Deliver(usize, u32),
    /// The consumer reads what was delivered.
    Read(usize),
    /// The voucher that is due reaches the provider.
    Pay,
    /// The provider ends an answer with so much input; its receipt reaches the consumer.
    End(usize, u32),
    ConsumerCrashes(u32),
    ProviderCrashes,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => Just(Act::Ask),
        8 => (any::<usize>(), 1u32..20).prop_map(|(n, tokens)| Act::Deliver(n, tokens)),
        1 => (any::<usize>(), 1u32..5 * STEP_TOKENS).prop_map(|(n, tokens)| Act::Deliver(n, tokens)),
        8 => any::<usize>().prop_map(Act::Read),
        8 => Just(Act::Pay),
        2 => (any::<usize>(), 0..=BOUND.ceiling).prop_map(|(n, input)| Act::End(n, input)),
        1 => (0..=BOUND.ceiling).prop_map(Act::ConsumerCrashes),
        1 => Just(Act::ProviderCrashes),
    ];
    prop::collection::vec(act, 0..120)
}

#[derive(Default, Clone, Copy)]
struct Progress {
    delivered: u32,
    /// Of that, the last chunk.
    chunk: u32,
    read: u32,
    journaled: u32,
}

impl Progress {
    /// What may be unpaid: one step, or a chunk that is larger.
    fn at_stake(&self) -> Amount {
        RATES.cost(0, self.chunk.max(STEP_TOKENS)).unwrap()
    }
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
    /// Delivered, and lost to the provider by its own crashes.
    written_off: Amount,
    /// What it may have lost by them.
    crash_risk: Amount,
    /// Billed input of ended answers beyond the estimate, since a voucher came.
    input_beyond: Amount,
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

fn step() -> Amount {
    RATES.step().unwrap()
}

/// One unit of rounding for each answer.
fn rounded(amount: Amount) -> Amount {
    amount.plus(Amount::new(RUNNING as u128)).unwrap()
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
            written_off: Amount::ZERO,
            crash_risk: Amount::ZERO,
            input_beyond: Amount::ZERO,
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
        let voucher: SignedVoucher = Durable::read_back(voucher).sign(&DOMAIN, &self.hot);
        voucher.verify(&self.config, &DOMAIN).unwrap();
        if let Some(event) = self.till.take(&voucher).unwrap() {
            self.till_journal.push(event);
            self.till.count(&voucher);
        }
        self.input_beyond = Amount::ZERO;
        let requests: Vec<_> = self.running.keys().copied().collect();
        for request in requests {
            let read = self.running[&request].read;
            self.till.read(request, read).unwrap();
            self.journal_progress(request);
        }
    }

    fn journal_progress(&mut self, request: RequestId) {
        let event = self.till.progress(request).unwrap();
        if let TillEvent::Progress { output_tokens, .. } = event {
            self.running.get_mut(&request).unwrap().journaled = output_tokens;
        }
        self.till_journal.push(event);
    }

    fn ask(&mut self) {
        let request = RequestId([self.asked; 16].into());
        self.asked += 1;
        self.purse_journal
            .push(self.purse.ask(request, RATES, BOUND).unwrap());
        self.pay();
        let event = self.till.admit(request, SOLD, BOUND.estimate).unwrap();
        self.till_journal.push(event);
        self.running.insert(request, Progress::default());
    }

    fn deliver(&mut self, request: RequestId, tokens: u32) {
        let progress = self.running.get_mut(&request).unwrap();
        let then = progress.delivered + tokens;
        if !self.till.may_deliver(request, then).unwrap() {
            return;
        }
        (progress.delivered, progress.chunk) = (then, tokens);
        let journaled = progress.journaled;
        self.till.delivered(request, BOUND.estimate, then).unwrap();
        // As the provider does where no voucher did it for a step.
        if then >= journaled + STEP_TOKENS {
            self.journal_progress(request);
        }
    }

    fn read(&mut self, request: RequestId) {
        let progress = self.running.get_mut(&request).unwrap();
        progress.read = progress.delivered;
        let (tokens, bytes) = (progress.read, u64::from(progress.read) * 3);
        self.purse_journal
            .extend(self.purse.delivered(request, tokens, bytes).unwrap());
    }

    fn close(
        &mut self,
        request: RequestId,
        (input, output): (u32, u32),
        outcome: Outcome,
    ) -> SignedReceipt {
        let receipt = self.till.close(request, input, output, outcome, NOW);
        let receipt = receipt.unwrap();
        let beyond = RATES.cost(input.saturating_sub(BOUND.estimate), 0).unwrap();
        self.input_beyond = self.input_beyond.plus(beyond).unwrap();
        self.till_journal.push(TillEvent::receipted(&receipt));
        let signed = Durable::read_back(receipt).sign(&self.node);
        self.receipts.push(signed.clone());
        signed
    }

    fn end(&mut self, request: RequestId, input: u32) {
        self.read(request);
        if !self.till.is_billable(request).unwrap() {
            // A chunk was larger than a step: its voucher is waited for.
            self.pay();
            assert!(self.till.is_billable(request).unwrap(), "read and paid");
        }
        let delivered = self.running.remove(&request).unwrap().delivered;
        let signed = self.close(request, (input, delivered), Outcome::Complete);
        assert_eq!(signed.receipt.output_tokens, delivered);
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

    /// The consumer is gone: the provider closes what ran, with the input that
    /// its backend counted; after the restart the consumer fetches the receipts.
    fn consumer_crashes(&mut self, input: u32) {
        for (request, progress) in std::mem::take(&mut self.running) {
            let tokens = (input, progress.delivered);
            self.close(request, tokens, Outcome::Cancelled);
        }
        self.purse = Purse::replay(&self.purse_journal).unwrap();
        self.purse.funded(ESCROW);
        self.reconcile();
    }

    /// The provider is gone: it comes back with its journal and closes what
    /// it knows of.
    fn provider_crashes(&mut self) {
        let truth = std::mem::take(&mut self.running);
        let risks = truth.values().map(Progress::at_stake);
        let risk = Amount::sum(risks.chain([self.crash_risk])).unwrap();
        self.crash_risk = rounded(risk);
        self.till = Till::replay(self.config.id(&DOMAIN), &self.till_journal);
        self.till.funded(funded());
        for receipt in self.till.interrupted(NOW).unwrap() {
            let full = cost(truth[&receipt.request].delivered);
            self.written_off = self
                .written_off
                .plus(full.minus(receipt.amount).unwrap())
                .unwrap();
            self.till_journal.push(TillEvent::receipted(&receipt));
            self.receipts
                .push(Durable::read_back(receipt).sign(&self.node));
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
            Act::End(n, input) => {
                if let Some(request) = self.nth(*n) {
                    self.end(request, *input);
                }
            }
            Act::ConsumerCrashes(input) => self.consumer_crashes(*input),
            Act::ProviderCrashes => self.provider_crashes(),
        }
    }

    fn check(&self) {
        let running = |tokens: fn(&Progress) -> u32| {
            Amount::sum(self.running.values().map(|progress| cost(tokens(progress)))).unwrap()
        };
        // Work beyond the best voucher: one step for each running answer (or a
        // chunk that is larger), the same for those that ended since it came,
        // and the input of these beyond its estimate.
        let earned = self
            .till
            .charged()
            .plus(running(|progress| progress.delivered))
            .unwrap();
        let unpaid = earned.less(self.till.ceiling());
        let at_stake = self.running.values().map(Progress::at_stake);
        let ended = step().times((RUNNING - self.running.len()) as u128);
        let allowed = at_stake.chain([ended.unwrap(), self.input_beyond]);
        let allowed = rounded(Amount::sum(allowed).unwrap());
        assert!(unpaid <= allowed, "{unpaid} unpaid, {allowed} allowed");

        // What its own crashes cost the provider: the same once more.
        let (lost, allowed) = (self.written_off, self.crash_risk);
        assert!(lost <= allowed, "{lost} written off, {allowed} allowed");

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
        // Whoever has read and paid is waited for by nobody.
        for request in two.running.keys().copied().collect::<Vec<_>>() {
            two.read(request);
        }
        two.pay();
        for (request, progress) in &two.running {
            prop_assert!(two.till.may_deliver(*request, progress.delivered + 1).unwrap());
        }
        while let Some(request) = two.nth(0) {
            two.end(request, 0);
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
        assert!(two.purse.ceiling().less(got) <= rounded(step()));
        assert!(got.less(two.till.ceiling()) <= rounded(step()));
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
    for _ in 0..10_000 {
        two.deliver(request, 1);
    }
    let delivered = two.running[&request].delivered;
    assert_eq!(delivered, 2 * STEP_TOKENS);
}
