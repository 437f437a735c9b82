//! Double entry: every movement of money takes from one account what it gives
//! to another, in integer base units, and nothing else moves money.
//!
//! The check is made after every posting, in release builds too: what all
//! accounts of a token hold together is what was ever issued of it. A posting
//! that would break that, or that its account cannot pay, changes nothing and
//! is an error, so the action behind it stops.

use std::collections::BTreeMap;

use alloy_primitives::Address;

use crate::{Amount, ChannelId};

/// Whose money, or what it is set aside for. All but [`Account::Issue`] hold
/// zero or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Where money comes from; it holds what was issued, as a debt.
    Issue,
    /// Free money of an account of the chain.
    Wallet(Address),
    /// In a channel, not claimed: its payer's, as far as no voucher says otherwise.
    Escrow(ChannelId),
    /// Claimed for a receiver, not paid out.
    Earned(Address),
    /// Left in the registry by its owner.
    Stake(Address),
    /// Paid to the market.
    Fees,
}

/// One movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// Of which token.
    pub token: Address,
    /// Where it is taken.
    pub from: Account,
    /// Where it goes.
    pub to: Account,
    /// How much.
    pub amount: Amount,
}

/// Why nothing was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    /// The account does not hold as much.
    #[error("{account:?} holds {has} base units of {token}, the movement takes {needs}")]
    Short {
        /// Of which token.
        token: Address,
        /// The account.
        account: Account,
        /// What it holds.
        has: Amount,
        /// What was to be taken.
        needs: Amount,
    },
    /// A sum left its range.
    #[error("{account:?} would hold more base units of {token} than there can be")]
    Overflow {
        /// Of which token.
        token: Address,
        /// The account.
        account: Account,
    },
    /// Accounts and issue do not agree: a bug, or damage.
    #[error("accounts hold {held} base units of {token}, {issued} were issued")]
    Unbalanced {
        /// Of which token.
        token: Address,
        /// What all accounts hold.
        held: Amount,
        /// What was issued.
        issued: Amount,
    },
}

/// The sums of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sums {
    issued: Amount,
    /// Kept from what accounts hold before and after each posting, not from
    /// what was to be posted.
    held: Amount,
}

/// All accounts in all tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    accounts: BTreeMap<(Address, Account), Amount>,
    sums: BTreeMap<Address, Sums>,
}

impl Books {
    /// What an account holds.
    pub fn holds(&self, token: Address, account: Account) -> Amount {
        match account {
            Account::Issue => self.sums.get(&token).copied().unwrap_or_default().issued,
            _ => self
                .accounts
                .get(&(token, account))
                .copied()
                .unwrap_or_default(),
        }
    }

    /// All that was ever issued of a token, less what was taken back.
    pub fn issued(&self, token: Address) -> Amount {
        self.holds(token, Account::Issue)
    }

    /// Moves money, or changes nothing.
    pub fn post(&mut self, posting: Posting) -> Result<(), BooksError> {
        let Posting {
            token,
            from,
            to,
            amount,
        } = posting;
        if from == to || amount.is_zero() {
            // It must still be there.
            return self.left(token, from, amount).map(drop);
        }
        let left = self.left(token, from, amount)?;
        let grown = self.grown(token, to, amount)?;
        let sums = self.sums.get(&token).copied().unwrap_or_default();
        let before = Amount::sum([self.own(token, from), self.own(token, to)]);
        let mut after = sums;
        let mut own = [(from, left), (to, grown)];
        for (account, holds) in &mut own {
            if *account == Account::Issue {
                after.issued = *holds;
                *holds = Amount::ZERO;
            }
        }
        let overflow = BooksError::Overflow { token, account: to };
        let now = Amount::sum(own.map(|(_, holds)| holds)).map_err(|_| overflow)?;
        let rest = sums.held.less(before.map_err(|_| overflow)?);
        after.held = rest.plus(now).map_err(|_| overflow)?;
        balanced(token, after)?;
        self.sums.insert(token, after);
        for (account, holds) in own {
            match (account, holds.is_zero()) {
                (Account::Issue, _) => {}
                (_, true) => drop(self.accounts.remove(&(token, account))),
                (_, false) => drop(self.accounts.insert((token, account), holds)),
            }
        }
        Ok(())
    }

    /// Adds all accounts up anew and compares with what was issued.
    pub fn audit(&self) -> Result<(), BooksError> {
        for (&token, &sums) in &self.sums {
            let of_token = (token, Account::Issue)..;
            let accounts = self.accounts.range(of_token);
            let holds = accounts
                .take_while(|((of, _), _)| *of == token)
                .map(|(_, holds)| *holds);
            let held = Amount::sum(holds).map_err(|_| BooksError::Overflow {
                token,
                account: Account::Issue,
            })?;
            balanced(token, Sums { held, ..sums })?;
        }
        Ok(())
    }

    /// Every account that holds something.
    pub fn accounts(&self) -> impl Iterator<Item = (Address, Account, Amount)> {
        self.accounts
            .iter()
            .map(|((token, account), holds)| (*token, *account, *holds))
    }

    /// What counts as held there: the issue is no holding.
    fn own(&self, token: Address, account: Account) -> Amount {
        match account {
            Account::Issue => Amount::ZERO,
            _ => self.holds(token, account),
        }
    }

    fn left(&self, token: Address, from: Account, amount: Amount) -> Result<Amount, BooksError> {
        let has = self.holds(token, from);
        if from == Account::Issue {
            return has.plus(amount).map_err(|_| BooksError::Overflow {
                token,
                account: from,
            });
        }
        has.minus(amount).map_err(|_| BooksError::Short {
            token,
            account: from,
            has,
            needs: amount,
        })
    }

    fn grown(&self, token: Address, to: Account, amount: Amount) -> Result<Amount, BooksError> {
        let has = self.holds(token, to);
        if to == Account::Issue {
            return has.minus(amount).map_err(|_| BooksError::Short {
                token,
                account: to,
                has,
                needs: amount,
            });
        }
        has.plus(amount)
            .map_err(|_| BooksError::Overflow { token, account: to })
    }
}

fn balanced(token: Address, sums: Sums) -> Result<(), BooksError> {
    let Sums { issued, held } = sums;
    match held == issued {
        true => Ok(()),
        false => Err(BooksError::Unbalanced {
            token,
            held,
            issued,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOR: Address = Address::repeat_byte(1);
    const ALICE: Account = Account::Wallet(Address::repeat_byte(2));
    const BOB: Account = Account::Wallet(Address::repeat_byte(3));

    fn posting(from: Account, to: Account, amount: u128) -> Posting {
        Posting {
            token: MOR,
            from,
            to,
            amount: Amount::new(amount),
        }
    }

    #[test]
    fn what_is_not_there_is_not_moved() {
        let mut books = Books::default();
        books.post(posting(Account::Issue, ALICE, 10)).unwrap();
        let before = books.clone();
        assert_eq!(
            books.post(posting(ALICE, BOB, 11)),
            Err(BooksError::Short {
                token: MOR,
                account: ALICE,
                has: Amount::new(10),
                needs: Amount::new(11),
            })
        );
        assert!(books.post(posting(ALICE, ALICE, 11)).is_err());
        assert!(books.post(posting(Account::Issue, BOB, u128::MAX)).is_err());
        assert_eq!(books, before);
        books.post(posting(ALICE, Account::Issue, 10)).unwrap();
        assert_eq!(books.issued(MOR), Amount::ZERO);
    }

    #[test]
    fn an_audit_finds_money_from_nowhere() {
        let mut books = Books::default();
        books.post(posting(Account::Issue, ALICE, 10)).unwrap();
        assert_eq!(books.audit(), Ok(()));
        books.accounts.insert((MOR, BOB), Amount::new(1));
        assert!(matches!(books.audit(), Err(BooksError::Unbalanced { .. })));
    }

    proptest! {
        #[test]
        fn whatever_is_posted_nothing_is_lost(
            postings in prop::collection::vec((0usize..6, 0usize..6, 0u128..100), 0..60),
        ) {
            let accounts = [
                Account::Issue,
                ALICE,
                BOB,
                Account::Fees,
                Account::Earned(Address::repeat_byte(2)),
                Account::Stake(Address::repeat_byte(2)),
            ];
            let mut books = Books::default();
            for (from, to, amount) in postings {
                let before = books.clone();
                let posted = books.post(posting(accounts[from], accounts[to], amount));
                if posted.is_err() {
                    prop_assert_eq!(&books, &before);
                }
                prop_assert_eq!(books.audit(), Ok(()));
            }
        }
    }
}
