//! Every movement of one token, as the contracts' logs tell it, in postings of
//! double entry.
//!
//! A deposit is two logs of one transaction: the token says that the settlement
//! contract was given some, the contract says for which channel. Both together
//! are one posting; so are a payment out and its cause. A log that lacks its
//! fellow becomes a posting on the contract's own account, so that the books
//! show it: they then hold there what the chain does not, or cannot pay.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use market::{Account, Amount, ChannelId, Domain, LedgerError, Posting};

use crate::bindings::{Erc20, Settlement};
use crate::cursor::Cursor;
use crate::directory::amount;
use crate::ledger::{EvmLedger, created};
use crate::logs::Query;
use crate::watch::{WatchError, advance};

/// How far the movements of a token are read, and what is needed to
/// understand the next.
#[derive(Debug, Clone)]
pub struct Movements {
    token: Address,
    from_block: u64,
    cursor: Cursor,
    channels: BTreeMap<ChannelId, Parties>,
}

/// One reading of movements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// In the chain's order.
    pub postings: Vec<Posting>,
    /// All that was told before is void: the chain took some of it back, and
    /// these begin at the first block again.
    pub anew: bool,
    /// The head of the chain was reached; otherwise go on at once.
    pub at_head: bool,
}

/// Between whom a channel is, and in what.
#[derive(Debug, Clone, Copy)]
struct Parties {
    payer: Address,
    receiver: Address,
    token: Address,
}

/// A log, understood.
#[derive(Debug, Clone, Copy)]
enum Event {
    Transfer {
        from: Address,
        to: Address,
        amount: Amount,
    },
    Deposited {
        channel: ChannelId,
        amount: Amount,
    },
    Claimed {
        channel: ChannelId,
        amount: Amount,
    },
    Settled {
        receiver: Address,
        token: Address,
        amount: Amount,
    },
    /// Refunded, or withdrawn.
    Returned {
        channel: ChannelId,
        amount: Amount,
    },
}

/// What came into channels, and what left the contract.
type Told = (Vec<(ChannelId, Amount)>, Vec<Leaving>);

/// Money that a transaction's events say left the contract.
struct Leaving {
    from: Account,
    to: Address,
    amount: Amount,
}

impl Movements {
    /// Of a token, none read yet. No movement may be older than the block: its
    /// money would come from nowhere.
    pub fn new(token: Address, from_block: u64) -> Self {
        Self {
            token,
            from_block,
            cursor: Cursor::new(from_block),
            channels: BTreeMap::new(),
        }
    }

    /// Understands logs in the chain's order, whole transactions each.
    fn understand(&mut self, domain: &Domain, logs: &[Log]) -> Result<Vec<Posting>, LedgerError> {
        let mut postings = Vec::new();
        for of_one in logs.chunk_by(|a, b| a.transaction_hash == b.transaction_hash) {
            let mut events = Vec::new();
            for log in of_one {
                events.extend(self.event(domain, log)?);
            }
            postings.extend(self.transaction(domain.settlement, &events)?);
        }
        Ok(postings)
    }

    /// None: it moves nothing of this token.
    fn event(&mut self, domain: &Domain, log: &Log) -> Result<Option<Event>, LedgerError> {
        let topic = log.topic0().copied().unwrap_or_default();
        if log.address() == self.token && topic == Erc20::Transfer::SIGNATURE_HASH {
            let event = decoded::<Erc20::Transfer>(log)?;
            return Ok(Some(Event::Transfer {
                from: event.from,
                to: event.to,
                amount: amount(event.value)?,
            }));
        }
        if log.address() != domain.settlement {
            return Ok(None);
        }
        Ok(match topic {
            Settlement::ChannelCreated::SIGNATURE_HASH => {
                let (config, _) = created(log, domain)?;
                let parties = Parties {
                    payer: config.payer,
                    receiver: config.receiver,
                    token: config.token,
                };
                self.channels.insert(config.id(domain), parties);
                None
            }
            Settlement::Deposited::SIGNATURE_HASH => {
                let event = decoded::<Settlement::Deposited>(log)?;
                Some(Event::Deposited {
                    channel: ChannelId(event.channelId),
                    amount: Amount::new(event.amount),
                })
            }
            Settlement::Claimed::SIGNATURE_HASH => {
                let event = decoded::<Settlement::Claimed>(log)?;
                Some(Event::Claimed {
                    channel: ChannelId(event.channelId),
                    amount: Amount::new(event.claimAmount),
                })
            }
            Settlement::Settled::SIGNATURE_HASH => {
                let event = decoded::<Settlement::Settled>(log)?;
                Some(Event::Settled {
                    receiver: event.receiver,
                    token: event.token,
                    amount: Amount::new(event.amount),
                })
            }
            Settlement::Refunded::SIGNATURE_HASH => {
                let event = decoded::<Settlement::Refunded>(log)?;
                Some(Event::Returned {
                    channel: ChannelId(event.channelId),
                    amount: Amount::new(event.amount),
                })
            }
            Settlement::WithdrawFinalized::SIGNATURE_HASH => {
                let event = decoded::<Settlement::WithdrawFinalized>(log)?;
                Some(Event::Returned {
                    channel: ChannelId(event.channelId),
                    amount: Amount::new(event.amount),
                })
            }
            _ => None,
        })
    }

    /// What events other than the token's own say of its movements: into
    /// channels, and out of the contract.
    fn told(&self, events: &[Event]) -> Result<Told, LedgerError> {
        let (mut coming, mut leaving) = (Vec::new(), Vec::new());
        for event in events {
            match *event {
                Event::Deposited { channel, amount } => {
                    if self.parties(channel)?.token == self.token {
                        coming.push((channel, amount));
                    }
                }
                Event::Settled {
                    receiver,
                    token,
                    amount,
                } if token == self.token => leaving.push(Leaving {
                    from: Account::Earned(receiver),
                    to: receiver,
                    amount,
                }),
                Event::Returned { channel, amount } => {
                    let parties = self.parties(channel)?;
                    if parties.token == self.token && !amount.is_zero() {
                        leaving.push(Leaving {
                            from: Account::Escrow(channel),
                            to: parties.payer,
                            amount,
                        });
                    }
                }
                Event::Settled { .. } | Event::Claimed { .. } | Event::Transfer { .. } => {}
            }
        }
        Ok((coming, leaving))
    }

    /// What one transaction moved.
    fn transaction(
        &self,
        settlement: Address,
        events: &[Event],
    ) -> Result<Vec<Posting>, LedgerError> {
        let (mut coming, mut leaving) = self.told(events)?;
        let mut postings = Vec::new();
        let mut post = |from, to, amount| {
            postings.push(Posting {
                token: self.token,
                from,
                to,
                amount,
            });
        };
        for event in events {
            match *event {
                Event::Transfer { from, to, amount } => {
                    let told = coming
                        .iter()
                        .position(|(_, told)| to == settlement && *told == amount);
                    let credit = match told {
                        Some(told) => Account::Escrow(coming.swap_remove(told).0),
                        None => holder(to),
                    };
                    let cause = leaving.iter().position(|cause| {
                        from == settlement && (cause.to, cause.amount) == (to, amount)
                    });
                    let debit = match cause {
                        Some(cause) => leaving.swap_remove(cause).from,
                        None => holder(from),
                    };
                    post(debit, credit, amount);
                }
                Event::Claimed { channel, amount } => {
                    let parties = self.parties(channel)?;
                    if parties.token == self.token {
                        let earned = Account::Earned(parties.receiver);
                        post(Account::Escrow(channel), earned, amount);
                    }
                }
                Event::Deposited { .. } | Event::Settled { .. } | Event::Returned { .. } => {}
            }
        }
        let contract = Account::Wallet(settlement);
        for (channel, amount) in coming {
            post(contract, Account::Escrow(channel), amount);
        }
        for Leaving { from, amount, .. } in leaving {
            post(from, contract, amount);
        }
        Ok(postings)
    }

    fn parties(&self, channel: ChannelId) -> Result<Parties, LedgerError> {
        let known = self.channels.get(&channel).copied();
        known.ok_or_else(|| LedgerError::Nonsense {
            problem: format!("the logs speak of channel {channel}, but not of its beginning"),
        })
    }
}

impl EvmLedger {
    /// What moved since the last reading; bounded, see [`Moved::at_head`].
    pub async fn moved(&self, movements: &mut Movements) -> Result<Moved, LedgerError> {
        let domain = self.network().domain();
        let query = Query {
            addresses: &[movements.token, domain.settlement],
            topics: &[
                Erc20::Transfer::SIGNATURE_HASH,
                Settlement::ChannelCreated::SIGNATURE_HASH,
                Settlement::Deposited::SIGNATURE_HASH,
                Settlement::Claimed::SIGNATURE_HASH,
                Settlement::Settled::SIGNATURE_HASH,
                Settlement::Refunded::SIGNATURE_HASH,
                Settlement::WithdrawFinalized::SIGNATURE_HASH,
            ],
        };
        // It moves only once all of it could be read.
        let mut next = movements.clone();
        let read = advance(self.rpc(), query, &mut next.cursor).await;
        let (anew, news) = match read {
            Ok(news) if news.retracted.is_empty() => (false, news),
            Ok(_) | Err(WatchError::TooDeep(_)) => {
                next = Movements::new(movements.token, movements.from_block);
                (true, advance(self.rpc(), query, &mut next.cursor).await?)
            }
            Err(WatchError::Ledger(error)) => return Err(error),
        };
        let postings = next.understand(&domain, &news.fresh)?;
        *movements = next;
        Ok(Moved {
            postings,
            anew,
            at_head: news.at_head,
        })
    }
}

fn holder(address: Address) -> Account {
    match address.is_zero() {
        true => Account::Issue,
        false => Account::Wallet(address),
    }
}

fn decoded<E: SolEvent>(log: &Log) -> Result<E, LedgerError> {
    let event = E::decode_log(&log.inner).map_err(|error| LedgerError::Nonsense {
        problem: format!("a log of {} cannot be read: {error}", E::SIGNATURE),
    })?;
    Ok(event.data)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use market::Books;

    use super::*;

    const SETTLEMENT: Address = Address::repeat_byte(9);
    const MOR: Address = Address::repeat_byte(8);
    const PAYER: Address = Address::repeat_byte(1);
    const SELLER: Address = Address::repeat_byte(2);
    const CHANNEL: ChannelId = ChannelId(B256::repeat_byte(3));

    fn read() -> Movements {
        let mut movements = Movements::new(MOR, 0);
        let parties = Parties {
            payer: PAYER,
            receiver: SELLER,
            token: MOR,
        };
        movements.channels.insert(CHANNEL, parties);
        movements
    }

    fn transfer(from: Address, to: Address, units: u128) -> Event {
        let amount = Amount::new(units);
        Event::Transfer { from, to, amount }
    }

    fn deposited(units: u128) -> Event {
        let (channel, amount) = (CHANNEL, Amount::new(units));
        Event::Deposited { channel, amount }
    }

    /// A channel's life, one transaction a line.
    fn life() -> Vec<Vec<Event>> {
        let (channel, token, receiver) = (CHANNEL, MOR, SELLER);
        let units = Amount::new;
        vec![
            vec![transfer(Address::ZERO, PAYER, 100)],
            vec![transfer(PAYER, SETTLEMENT, 60), deposited(60)],
            vec![Event::Claimed {
                channel,
                amount: units(25),
            }],
            // The contract tells the cause of a payment before it pays.
            vec![
                Event::Settled {
                    receiver,
                    token,
                    amount: units(25),
                },
                transfer(SETTLEMENT, SELLER, 25),
            ],
            vec![
                Event::Returned {
                    channel,
                    amount: units(35),
                },
                transfer(SETTLEMENT, PAYER, 35),
            ],
        ]
    }

    fn posted(life: &[Vec<Event>]) -> Result<Books, market::BooksError> {
        let (movements, mut books) = (read(), Books::default());
        for events in life {
            for posting in movements.transaction(SETTLEMENT, events).unwrap() {
                books.post(posting)?;
            }
        }
        books.audit()?;
        Ok(books)
    }

    #[test]
    fn a_channels_life_leaves_nothing_with_the_contract() {
        let books = posted(&life()).unwrap();
        let left: Vec<_> = books
            .accounts()
            .map(|(_, who, units)| (who, units))
            .collect();
        let expected = [
            (Account::Wallet(PAYER), Amount::new(75)),
            (Account::Wallet(SELLER), Amount::new(25)),
        ];
        assert_eq!(left, expected);
        assert_eq!(books.issued(MOR), Amount::new(100));
    }

    /// Whichever single log is left out, the books cannot be made or hold
    /// something else in the end.
    #[test]
    fn a_log_that_is_missing_is_noticed() {
        let whole = posted(&life()).unwrap();
        for transaction in 0..life().len() {
            for event in 0..life()[transaction].len() {
                let mut life = life();
                life[transaction].remove(event);
                let noticed = posted(&life).map_or(true, |books| books != whole);
                assert!(noticed, "log {event} of transaction {transaction}");
            }
        }
    }

    #[test]
    fn money_in_another_token_and_gifts_are_told_apart() {
        let mut movements = read();
        let parties = Parties {
            payer: PAYER,
            receiver: SELLER,
            token: Address::repeat_byte(7),
        };
        let other = ChannelId(B256::repeat_byte(4));
        movements.channels.insert(other, parties);
        let amount = Amount::new(5);
        let channel = other;
        let foreign = [
            Event::Deposited { channel, amount },
            Event::Claimed { channel, amount },
            Event::Returned { channel, amount },
        ];
        assert!(
            movements
                .transaction(SETTLEMENT, &foreign)
                .unwrap()
                .is_empty()
        );
        let gift = [transfer(PAYER, SETTLEMENT, 5)];
        let postings = movements.transaction(SETTLEMENT, &gift).unwrap();
        assert_eq!(postings[0].to, Account::Wallet(SETTLEMENT));
    }

    #[test]
    fn a_channel_without_a_beginning_is_an_error() {
        let movements = Movements::new(MOR, 0);
        let outcome = movements.transaction(SETTLEMENT, &[deposited(1)]);
        assert!(matches!(outcome, Err(LedgerError::Nonsense { .. })));
    }
}
