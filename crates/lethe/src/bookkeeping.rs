//! The node's own books, one for each token: every movement is posted from one account to
//! another in [`market::Books`], and what the chain says of an account is
//! compared with what the books hold there. Whatever does not agree is said,
//! with account and amount; nothing is summed up beside the books.
//!
//! Of a whole market (`lethe up`) the movements are all that the chain has
//! logged. Of one data folder they are those of its own accounts, as the
//! chain's totals tell them: what came into a channel and what left it.

use std::collections::{BTreeMap, BTreeSet};

use chain::{EvmLedger, Moved, Movements};
use market::{
    Account, Address, Amount, Books, BooksError, ChannelId, ChannelState, Ledger, LedgerError,
    Posting, Receiver,
};

use crate::places::Place;
use crate::tokens::TokenView;

/// Differences that are named one by one.
const NAMED_MAX: usize = 20;

/// The movements of a token, all of them, read as far as was looked.
pub(crate) struct Bookkeeping {
    token: TokenView,
    movements: Movements,
    books: Books,
}

impl Bookkeeping {
    /// Of a chain that is read from its first block.
    pub(crate) fn new(token: TokenView) -> Self {
        Self {
            movements: Movements::new(token.address, 0),
            token,
            books: Books::default(),
        }
    }

    /// Posts what is new. A movement that cannot be posted is told; all are
    /// then read again the next time.
    pub(crate) async fn catch_up(
        &mut self,
        ledger: &EvmLedger,
    ) -> Result<Result<&Books, String>, LedgerError> {
        loop {
            let moved = ledger.moved(&mut self.movements).await?;
            let at_head = moved.at_head;
            if let Err(error) = self.post(moved) {
                let told = unposted(&error, &self.token);
                *self = Self::new(self.token.clone());
                return Ok(Err(told));
            }
            if at_head {
                return Ok(Ok(&self.books));
            }
        }
    }

    fn post(&mut self, moved: Moved) -> Result<(), BooksError> {
        if moved.anew {
            self.books = Books::default();
        }
        for posting in moved.postings {
            self.books.post(posting)?;
        }
        self.books.audit()
    }
}

/// What the chain says that accounts hold of one token, each asked once.
#[derive(Debug)]
pub(crate) struct Findings {
    token: TokenView,
    found: BTreeMap<Account, Amount>,
}

impl Findings {
    /// Nothing asked yet.
    pub(crate) fn new(token: TokenView) -> Self {
        let found = BTreeMap::new();
        Self { token, found }
    }

    /// Of which token.
    pub(crate) fn token(&self) -> &TokenView {
        &self.token
    }

    /// The balance of an account of the chain.
    pub(crate) async fn wallet(
        &mut self,
        ledger: &EvmLedger,
        owner: Address,
    ) -> Result<Amount, LedgerError> {
        let account = Account::Wallet(owner);
        if let Some(found) = self.found.get(&account) {
            return Ok(*found);
        }
        let found = ledger.balance(self.token.address, owner).await?;
        self.found.insert(account, found);
        Ok(found)
    }

    /// What was claimed for a receiver and not paid out.
    pub(crate) async fn earned(
        &mut self,
        ledger: &EvmLedger,
        owner: Address,
    ) -> Result<Amount, LedgerError> {
        let account = Account::Earned(owner);
        if let Some(found) = self.found.get(&account) {
            return Ok(*found);
        }
        let Receiver {
            total_claimed,
            total_settled,
        } = ledger.receiver(owner, self.token.address).await?;
        let found = total_claimed.less(total_settled);
        self.found.insert(account, found);
        Ok(found)
    }

    /// Whether it was asked.
    pub(crate) fn has(&self, account: Account) -> bool {
        self.found.contains_key(&account)
    }

    /// What was found elsewhere.
    pub(crate) fn found(&mut self, account: Account, amount: Amount) {
        self.found.insert(account, amount);
    }

    /// Where the chain and the books do not agree. `settlement`: the contract,
    /// which holds what is in channels and what is claimed.
    pub(crate) fn differences(&self, books: &Books, settlement: Address) -> Vec<String> {
        let own_token = self.token.address;
        let own = Account::Wallet(settlement);
        let mut with_contract = books.holds(own_token, own);
        for (token, account, amount) in books.accounts() {
            if token == own_token && matches!(account, Account::Escrow(_) | Account::Earned(_)) {
                with_contract = with_contract.plus(amount).unwrap_or(with_contract);
            }
        }
        let mut differences = Vec::new();
        for (account, found) in &self.found {
            let booked = match *account == own {
                true => with_contract,
                false => books.holds(own_token, *account),
            };
            if booked != *found {
                differences.push(format!(
                    "{} holds {} by the chain, {} by its movements",
                    named(*account),
                    self.token.shown(*found),
                    self.token.shown(booked)
                ));
            }
        }
        few(differences)
    }
}

/// The books of one data folder in one token. Who is not of the folder is the world: what
/// comes from there is issued, what goes there is taken back.
#[derive(Debug)]
pub(crate) struct Statement {
    token: TokenView,
    books: Books,
    /// Channels of which the folder has the payer.
    paid: BTreeSet<ChannelId>,
    problems: Vec<String>,
}

impl Statement {
    /// Nothing posted. `paid`: the channels that the folder pays by.
    pub(crate) fn new(token: TokenView, paid: impl IntoIterator<Item = ChannelId>) -> Self {
        Self {
            token,
            books: Books::default(),
            paid: paid.into_iter().collect(),
            problems: Vec::new(),
        }
    }

    /// Of which token.
    pub(crate) fn token(&self) -> &TokenView {
        &self.token
    }

    /// A balance.
    pub(crate) fn wallet(&mut self, owner: Address, held: Amount) {
        self.post(Account::Issue, Account::Wallet(owner), held);
    }

    /// A channel that the folder pays by: what came in, what was claimed.
    pub(crate) fn channel(&mut self, id: ChannelId, state: &ChannelState) {
        let account = Account::Escrow(id);
        self.post(Account::Issue, account, state.balance);
        self.post(account, Account::Issue, state.total_claimed);
    }

    /// What a seller's account was claimed and paid.
    pub(crate) fn receiver(&mut self, owner: Address, receiver: &Receiver) {
        let account = Account::Earned(owner);
        self.post(Account::Issue, account, receiver.total_claimed);
        self.post(account, Account::Issue, receiver.total_settled);
    }

    /// Earned and not claimed, in somebody else's channel. False: the channel is
    /// the folder's own, and what is owed there is told with it.
    pub(crate) fn earned_in(&mut self, id: ChannelId, amount: Amount) -> bool {
        if self.paid.contains(&id) {
            return false;
        }
        self.post(Account::Issue, Account::Escrow(id), amount);
        true
    }

    /// A stake.
    pub(crate) fn stake(&mut self, owner: Address, amount: Amount) {
        self.post(Account::Issue, Account::Stake(owner), amount);
    }

    /// What the folder holds by these books, and what does not agree with the places.
    pub(crate) fn end(mut self, places: &[Place]) -> (Amount, Vec<String>) {
        let held = self.books.issued(self.token.address);
        if let Err(error) = self.books.audit() {
            self.problems.push(unposted(&error, &self.token));
        }
        self.problems.extend(uneven(places, held, &self.token));
        (held, few(self.problems))
    }

    fn post(&mut self, from: Account, to: Account, amount: Amount) {
        let posting = Posting {
            token: self.token.address,
            from,
            to,
            amount,
        };
        if let Err(error) = self.books.post(posting) {
            self.problems.push(unposted(&error, &self.token));
        }
    }
}

/// The places together are not what the books hold.
pub(crate) fn uneven(places: &[Place], held: Amount, token: &TokenView) -> Option<String> {
    let amounts = places.iter().map(|place| place.amount);
    match Amount::sum(amounts) {
        Ok(sum) if sum == held => None,
        Ok(sum) => Some(format!(
            "the places hold {}, their accounts {}",
            token.shown(sum),
            token.shown(held)
        )),
        Err(_) => {
            let symbol = &token.symbol;
            Some(format!("the places hold more {symbol} than there can be"))
        }
    }
}

fn few(mut differences: Vec<String>) -> Vec<String> {
    if differences.len() > NAMED_MAX {
        let more = differences.len() - NAMED_MAX;
        differences.truncate(NAMED_MAX);
        differences.push(format!("and {more} more"));
    }
    differences
}

fn unposted(error: &BooksError, token: &TokenView) -> String {
    let shown = |amount| token.shown(amount);
    match *error {
        BooksError::Short {
            account,
            has,
            needs,
            ..
        } => format!(
            "{} holds {} by its movements, the next takes {}",
            named(account),
            shown(has),
            shown(needs)
        ),
        BooksError::Overflow { account, .. } => {
            let symbol = &token.symbol;
            format!(
                "{} would hold more {symbol} than there can be",
                named(account)
            )
        }
        BooksError::Unbalanced { held, issued, .. } => format!(
            "all accounts hold {}, {} were issued",
            shown(held),
            shown(issued)
        ),
    }
}

fn named(account: Account) -> String {
    match account {
        Account::Issue => "the supply".to_owned(),
        Account::Wallet(owner) => format!("account {owner}"),
        Account::Escrow(channel) => format!("channel {channel}"),
        Account::Earned(owner) => format!("what is claimed for {owner}"),
        Account::Stake(owner) => format!("the stake of {owner}"),
        Account::Fees => "the market's fees".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use market::B256;

    use super::*;

    const MOR: Address = Address::repeat_byte(8);
    const CONTRACT: Address = Address::repeat_byte(9);
    const ALICE: Address = Address::repeat_byte(1);
    const BOB: Address = Address::repeat_byte(2);
    const CHANNEL: ChannelId = ChannelId(B256::repeat_byte(3));

    fn mor() -> TokenView {
        TokenView {
            address: MOR,
            symbol: "MOR".into(),
            decimals: 18,
            usd: None,
        }
    }

    /// Alice has 40, a channel 50, 10 are claimed for Bob.
    fn movements() -> Vec<Posting> {
        let posting = |from, to, units| Posting {
            token: MOR,
            from,
            to,
            amount: Amount::new(units),
        };
        let escrow = Account::Escrow(CHANNEL);
        vec![
            posting(Account::Issue, Account::Wallet(ALICE), 100),
            posting(Account::Wallet(ALICE), escrow, 60),
            posting(escrow, Account::Earned(BOB), 10),
        ]
    }

    fn chain() -> Findings {
        let mut findings = Findings::new(mor());
        for (account, units) in [
            (Account::Issue, 100),
            (Account::Wallet(ALICE), 40),
            (Account::Wallet(CONTRACT), 60),
            (Account::Escrow(CHANNEL), 50),
            (Account::Earned(BOB), 10),
        ] {
            findings.found(account, Amount::new(units));
        }
        findings
    }

    fn kept(postings: Vec<Posting>) -> Result<Bookkeeping, BooksError> {
        let mut keeping = Bookkeeping::new(mor());
        let moved = Moved {
            postings,
            anew: true,
            at_head: true,
        };
        keeping.post(moved).map(|()| keeping)
    }

    fn said(postings: Vec<Posting>) -> Vec<String> {
        match kept(postings) {
            Ok(keeping) => chain().differences(&keeping.books, CONTRACT),
            Err(error) => vec![unposted(&error, &mor())],
        }
    }

    #[test]
    fn what_the_chain_has_is_what_moved() {
        assert_eq!(said(movements()), [""; 0]);
    }

    #[test]
    fn a_missing_or_forged_movement_is_noticed_with_account_and_amount() {
        for missing in 0..movements().len() {
            let mut postings = movements();
            postings.remove(missing);
            assert!(!said(postings).is_empty(), "{missing}");
        }
        let mut forged = movements();
        forged[2].amount = Amount::new(7);
        let told = said(forged);
        assert!(told[0].contains(&format!("channel {CHANNEL}")), "{told:?}");
        assert!(
            told[0].contains("0.00000000000000005 MOR by the chain"),
            "{told:?}"
        );
        assert!(told[1].contains(&format!("claimed for {BOB}")), "{told:?}");
        let mut too_much = movements();
        too_much[1].amount = Amount::new(101);
        let told = said(too_much);
        assert!(
            told[0].starts_with(&format!("account {ALICE} holds")),
            "{told:?}"
        );
    }

    #[test]
    fn a_folders_books_refuse_totals_that_cannot_be() {
        let mut state = ChannelState {
            balance: Amount::new(60),
            total_claimed: Amount::new(10),
            withdrawal: None,
        };
        let place = |units| Place::new("channel", "escrow", Amount::new(units), "");
        let mut statement = Statement::new(mor(), [CHANNEL]);
        statement.channel(CHANNEL, &state);
        assert!(!statement.earned_in(CHANNEL, Amount::new(5)), "told once");
        let fine = (Amount::new(50), Vec::<String>::new());
        assert_eq!(statement.end(&[place(50)]), fine);

        let mut statement = Statement::new(mor(), [CHANNEL]);
        statement.channel(CHANNEL, &state);
        assert_eq!(statement.end(&[place(49)]).1.len(), 1);

        state.total_claimed = Amount::new(61);
        let mut statement = Statement::new(mor(), [CHANNEL]);
        statement.channel(CHANNEL, &state);
        let (_, problems) = statement.end(&[place(60)]);
        assert!(problems[0].contains("the next takes"), "{problems:?}");
    }

    #[test]
    fn of_many_differences_some_are_named_and_all_counted() {
        let many = vec![String::from("x"); NAMED_MAX + 3];
        let few = few(many);
        assert_eq!(few.len(), NAMED_MAX + 1);
        assert_eq!(few[NAMED_MAX], "and 3 more");
    }
}
