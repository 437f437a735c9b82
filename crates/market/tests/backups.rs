//! Backups that are 1, 7 and 30 days old, put back on either side after a
//! month of answers: what is lost is printed, and it is no more than what the
//! other side had been signed since.

#![expect(clippy::unwrap_used, reason = "what cannot be in a test fails it")]

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use market::{
    Address, Amount, B256, ChannelConfig, Claim, Domain, Durable, InputBound, Ledger, MemoryLedger,
    ModelId, NodeKey, Outcome, Purse, PurseError, PurseEvent, Rates, Receipt, RequestId,
    SignedReceipt, SignedVoucher, Sold, Till, TillError, TillEvent, Timestamp, Upstream, Voucher,
    WalletKey,
};

const DAY_S: u64 = 86_400;
const DAYS: usize = 31;
const ANSWERS_A_DAY: usize = 8;
const AGES_DAYS: [usize; 3] = [1, 7, 30];
const DOMAIN: Domain = Domain {
    chain_id: 1,
    settlement: Address::repeat_byte(9),
};
const MOR: Address = Address::repeat_byte(3);
const PAYER: Address = Address::repeat_byte(1);
const PROVIDER: Address = Address::repeat_byte(2);
const ESCROW: Amount = Amount::new(1_000_000);
/// One unit a token, both ways.
const SOLD: Sold = Sold {
    model: ModelId(B256::ZERO),
    rates: Rates {
        input_per_million: Amount::new(1_000_000),
        output_per_million: Amount::new(1_000_000),
    },
    upstream: Upstream::OwnEngine,
};
const BOUND: InputBound = InputBound {
    estimate: 20,
    ceiling: 100,
};

/// The ledger in memory never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the ledger in memory waits for something"),
    }
}

/// Two sides, their journals, and the chain.
struct Month {
    book: MemoryLedger,
    config: ChannelConfig,
    hot: WalletKey,
    node: NodeKey,
    now: Timestamp,
    asked: u32,
    purse: Purse,
    purse_journal: Vec<PurseEvent>,
    till: Till,
    till_journal: Vec<TillEvent>,
    receipts: Vec<Receipt>,
    /// How long both journals were at the end of each day.
    backups: Vec<(usize, usize)>,
}

impl Month {
    /// A month of answers, the provider's claim at each day's end, and on the
    /// last day an answer that breaks off in the middle, with both nodes.
    fn lived() -> Self {
        let mut month = Self::new();
        for day in 0..DAYS {
            for answer in 0..ANSWERS_A_DAY {
                let tokens = u32::try_from((day * 37 + answer * 11) % 90 + 1).unwrap();
                month.answer(tokens);
            }
            if day + 1 < DAYS {
                month.claim();
                month.now = Timestamp(month.now.0 + DAY_S);
                month.book.advance(DAY_S);
            }
            let lengths = (month.purse_journal.len(), month.till_journal.len());
            month.backups.push(lengths);
        }
        month.break_off(75);
        month
    }

    fn new() -> Self {
        let hot = WalletKey::from_bytes(&[1; 32]).unwrap();
        let config = ChannelConfig {
            payer: PAYER,
            payer_authorizer: hot.address(),
            receiver: PROVIDER,
            receiver_authorizer: PROVIDER,
            token: MOR,
            withdraw_delay_s: 900,
            salt: B256::ZERO,
        };
        let now = Timestamp(1_800_000_000);
        let book = MemoryLedger::new(DOMAIN, MOR, now);
        book.mint(MOR, PAYER, ESCROW).unwrap();
        ready(book.of(PAYER).deposit(config, ESCROW)).unwrap();
        let mut month = Self {
            book,
            config,
            hot,
            node: NodeKey::from_bytes(&[2; 32]),
            now,
            asked: 0,
            purse: Purse::default(),
            purse_journal: Vec::new(),
            till: Till::new(config.id(&DOMAIN)),
            till_journal: Vec::new(),
            receipts: Vec::new(),
            backups: Vec::new(),
        };
        month.look();
        month
    }

    /// Both read the chain.
    fn look(&mut self) {
        let state = ready(self.book.of(PAYER).channel(self.config.id(&DOMAIN))).unwrap();
        self.purse.funded(state.covered());
        self.purse.claimed_to(state.total_claimed);
        self.till.funded(state);
    }

    fn voucher(&self, ceiling: Amount) -> SignedVoucher {
        let channel = self.config.id(&DOMAIN);
        Durable::read_back(Voucher { channel, ceiling }).sign(&DOMAIN, &self.hot)
    }

    /// What the consumer signed reaches the provider.
    fn pay(&mut self, request: RequestId, read: u32) {
        if self.purse.ceiling() > self.till.ceiling() {
            let voucher = self.voucher(self.purse.ceiling());
            self.till_journal.extend(self.till.take(&voucher).unwrap());
            self.till.count(&voucher);
        }
        // Before it is admitted there is nothing to be read of it.
        let _ = self.till.read(request, read);
    }

    /// An answer up to so many tokens, paid step by step.
    fn run(&mut self, tokens: u32) -> RequestId {
        self.asked += 1;
        let mut id = [0; 16];
        id[..4].copy_from_slice(&self.asked.to_be_bytes());
        let request = RequestId(id.into());
        let asked = self.purse.ask(request, SOLD.rates, BOUND).unwrap();
        self.purse_journal.push(asked);
        self.pay(request, 0);
        let admitted = self.till.admit(request, SOLD, 10).unwrap();
        self.till_journal.push(admitted);
        for token in 1..=tokens {
            assert!(self.till.may_deliver(request, token).unwrap());
            self.till.delivered(request, 10, token).unwrap();
            let due = self.purse.delivered(request, token, 1000).unwrap();
            self.purse_journal.extend(due);
            self.pay(request, token);
        }
        request
    }

    fn receipt(&mut self, request: RequestId, tokens: u32, outcome: Outcome) -> SignedReceipt {
        let receipt = self.till.close(request, 10, tokens, outcome, self.now);
        let receipt = receipt.unwrap();
        self.till_journal.push(TillEvent::receipted(&receipt));
        self.receipts.push(receipt.clone());
        Durable::read_back(receipt).sign(&self.node)
    }

    fn answer(&mut self, tokens: u32) {
        let request = self.run(tokens);
        let receipt = self.receipt(request, tokens, Outcome::Complete);
        let booked = self.purse.receipted(&receipt).unwrap();
        self.purse_journal.extend(booked);
        self.pay(request, tokens);
    }

    /// The consumer is gone in the middle; the provider closes the answer.
    fn break_off(&mut self, tokens: u32) {
        let request = self.run(tokens);
        self.receipt(request, tokens, Outcome::Cancelled);
    }

    fn claim(&mut self) {
        self.look();
        let total = self.till.claimable_total();
        let claim = Claim {
            config: self.config,
            voucher: *self.till.best().unwrap(),
            total,
        };
        ready(self.book.of(PROVIDER).claim(vec![claim])).unwrap();
        self.till_journal.extend(self.till.claimed_to(total));
        self.look();
    }

    /// What the provider sends to who asks for receipts above `after`.
    fn receipts_above(&self, after: u64) -> Vec<SignedReceipt> {
        let above = self
            .receipts
            .iter()
            .filter(|receipt| receipt.sequence > after);
        above
            .map(|receipt| Durable::read_back(receipt.clone()).sign(&self.node))
            .collect()
    }

    fn claimed(&self) -> Amount {
        self.till.state().total_claimed
    }
}

#[test]
fn a_consumer_s_old_backup_loses_no_more_than_it_had_signed_since() {
    for age in AGES_DAYS {
        let mut month = Month::lived();
        let signed = month.purse.ceiling();
        let (length, _) = month.backups[DAYS - 1 - age];
        let mut journal = month.purse_journal[..length].to_vec();
        let mut old = Purse::replay(&journal).unwrap();
        let since = signed.less(old.ceiling());

        // Found out by the first receipt that it does not know, before anything is signed.
        let unseen = month.receipts_above(old.sequence());
        let found = old.reconciled(&unseen[0]);
        assert!(
            matches!(found, Err(PurseError::OldJournal { .. })),
            "{found:?}"
        );
        journal.extend(old.restore());
        month.purse = old;
        month.look();
        for receipt in &unseen {
            journal.extend(month.purse.reconciled(receipt).unwrap());
        }
        // The last day's answers are not claimed yet: they are a claim, not a proof.
        let step = SOLD.rates.step().unwrap();
        let unproved = month.purse.charged().less(month.claimed());
        assert!(unproved > step);
        let refused = month.purse.resume(step);
        assert!(matches!(refused, Err(PurseError::Unproved { .. })));
        month.claim();
        journal.push(month.purse.resume(step).unwrap());

        let charged = month.purse.charged();
        assert_eq!(charged, month.till.charged(), "every receipt came back");
        let lost = signed.less(charged);
        println!(
            "consumer's backup of {age:2} days: {since} units signed since, {} receipts fetched, {unproved} units waited for a claim, {lost} units lost at most",
            unseen.len()
        );
        assert!(lost <= since, "{lost} lost, {since} signed");
        assert!(lost <= step.plus(Amount::new(BOUND.estimate.into())).unwrap());

        // Both go on, and after one more crash as well.
        month.purse_journal = journal;
        month.answer(50);
        month.purse = Purse::replay(&month.purse_journal).unwrap();
        month.look();
        month.answer(50);
        assert_eq!(month.purse.charged(), month.till.charged());
    }
}

/// Who hides its receipts and claims on the last voucher takes what was
/// signed, and not a unit more.
#[test]
fn a_liar_gets_no_more_than_it_had_been_signed() {
    for age in AGES_DAYS {
        let mut month = Month::lived();
        let signed = month.purse.ceiling();
        let (length, _) = month.backups[DAYS - 1 - age];
        let mut old = Purse::replay(&month.purse_journal[..length]).unwrap();
        let known = old.ceiling();
        old.restore().unwrap();
        let claim = Claim {
            config: month.config,
            voucher: month.voucher(signed),
            total: signed,
        };
        ready(month.book.of(PROVIDER).claim(vec![claim])).unwrap();
        month.purse = old;
        month.look();
        month.purse.resume(Amount::ZERO).unwrap();
        assert_eq!(month.purse.ceiling(), signed);
        println!(
            "consumer's backup of {age:2} days, and a liar: {} units taken, as many as were signed since",
            signed.less(known)
        );
    }
}

#[test]
fn a_provider_s_old_backup_loses_no_more_than_it_had_not_claimed() {
    for age in AGES_DAYS {
        let month = Month::lived();
        let earned = month.till.charged();
        let (_, length) = month.backups[DAYS - 1 - age];
        let mut old = Till::replay(month.config.id(&DOMAIN), &month.till_journal[..length]);
        old.funded(*month.till.state());
        let claimed = month.claimed();
        // On the day of the last claim the chain knows no more than the books; then the payer does.
        old.shown(month.purse.sequence());
        let refused = old.is_current().unwrap_err();
        assert!(matches!(
            refused,
            TillError::ClaimedMore { .. } | TillError::ReceiptedMore { .. }
        ));
        let lost = earned.less(claimed);
        println!(
            "provider's backup of {age:2} days: {earned} units earned, {claimed} of them claimed, {lost} units lost"
        );
        let last_day = month.receipts_above(month.backups_sequence(DAYS - 2));
        let of_last_day = last_day.iter().map(|signed| signed.receipt.amount);
        assert_eq!(
            Amount::sum(of_last_day),
            Ok(lost),
            "more than was not claimed"
        );
    }
}

impl Month {
    /// The last receipt at the end of a day.
    fn backups_sequence(&self, day: usize) -> u64 {
        let (_, length) = self.backups[day];
        Till::replay(self.config.id(&DOMAIN), &self.till_journal[..length]).sequence()
    }
}
