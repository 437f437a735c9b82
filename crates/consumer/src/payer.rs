//! Who pays: the wallet, or an account for one provider alone that the wallet
//! puts money into. Every account has a number; which one pays over a channel
//! is in the journal before money moves, so none is ever forgotten.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use market::{Address, Amount, BoxFuture, ChannelConfig, Ledger, LedgerError, Payer, WalletKey};
use serde::{Deserialize, Serialize};

/// What an account signs with.
#[derive(Clone)]
pub struct PayerKeys {
    /// Its address.
    pub account: Address,
    /// Signs the vouchers of its channels; not the account's own key.
    pub hot_key: Arc<WalletKey>,
}

/// The accounts beside the wallet, by number, from 1 on.
///
/// The same number always is the same account: its keys are made, durably, when
/// they are asked for the first time.
pub trait Pseudonyms: Send + Sync + 'static {
    /// The account of this number.
    fn keys(&self, number: u32) -> Result<PayerKeys, Box<dyn Error + Send + Sync>>;

    /// The chain as that account sees it.
    fn ledger(&self, number: u32) -> BoxFuture<'_, Result<Arc<dyn Ledger>, LedgerError>>;
}

/// The number of an account that pays; the wallet has 0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub(crate) struct PayerNumber(pub(crate) u32);

impl PayerNumber {
    pub(crate) const WALLET: Self = Self(0);

    /// What it is called on an answer.
    pub(crate) fn label(self) -> Payer {
        match self {
            Self::WALLET => Payer::Wallet,
            Self(_) => Payer::Pseudonym,
        }
    }
}

/// Why the keys of an account do not sign.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// They cannot be had.
    #[error("the keys of account number {number} cannot be had; restore them from a backup")]
    Missing {
        /// Its number.
        number: u32,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// They are new, and there is no room to keep them: they are made before they pay.
    #[error("the keys of account number {number} cannot be kept: free some space on the disk")]
    NoRoom {
        /// Its number.
        number: u32,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The keys here are not those of a channel in the journal.
    #[error(
        "channels of account {payer} (signer {signer}) are in the journal, and keys number {number} \
         are others; restore the keys that belong to this data folder from a backup"
    )]
    Others {
        /// The account that opened the channel.
        payer: Address,
        /// The signer of its vouchers.
        signer: Address,
        /// The number of the keys.
        number: u32,
    },
}

/// Whether a full disk, or a quota, is at the bottom of it.
fn is_for_room(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref().map(io::Error::kind);
        if let Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) = kind {
            return true;
        }
        cause = error.source();
    }
    false
}

/// All accounts of this consumer.
pub(crate) struct Payers {
    pub(crate) wallet: Arc<dyn Ledger>,
    pub(crate) hot_key: Arc<WalletKey>,
    pub(crate) pseudonyms: Arc<dyn Pseudonyms>,
}

impl Payers {
    /// The keys of an account.
    pub(crate) fn keys(&self, number: PayerNumber) -> Result<PayerKeys, KeysError> {
        match number {
            PayerNumber::WALLET => Ok(PayerKeys {
                account: self.wallet.account(),
                hot_key: Arc::clone(&self.hot_key),
            }),
            PayerNumber(number) => {
                let keys = self.pseudonyms.keys(number);
                keys.map_err(|source| match is_for_room(&*source) {
                    true => KeysError::NoRoom { number, source },
                    false => KeysError::Missing { number, source },
                })
            }
        }
    }

    /// What signs the vouchers of a channel that the account opened.
    pub(crate) fn hot_key(
        &self,
        number: PayerNumber,
        config: &ChannelConfig,
    ) -> Result<Arc<WalletKey>, KeysError> {
        let keys = self.keys(number)?;
        let (payer, signer) = (config.payer, config.payer_authorizer);
        match keys.account == payer && keys.hot_key.address() == signer {
            true => Ok(keys.hot_key),
            false => Err(KeysError::Others {
                payer,
                signer,
                number: number.0,
            }),
        }
    }

    /// The chain as an account sees it.
    pub(crate) async fn ledger(&self, number: PayerNumber) -> Result<Arc<dyn Ledger>, LedgerError> {
        match number {
            PayerNumber::WALLET => Ok(Arc::clone(&self.wallet)),
            PayerNumber(number) => self.pseudonyms.ledger(number).await,
        }
    }

    /// The same, once the account has coins for gas and `amount` of `token`; a
    /// pseudonym gets what it lacks from the wallet.
    pub(crate) async fn ledger_with(
        &self,
        number: PayerNumber,
        token: Address,
        amount: Amount,
    ) -> Result<Arc<dyn Ledger>, LedgerError> {
        let ledger = self.ledger(number).await?;
        if number != PayerNumber::WALLET {
            let account = ledger.account();
            self.wallet.provide_gas(account).await?;
            failpoint::hit("consumer.gas.provided");
            let lacking = amount.less(self.wallet.balance(token, account).await?);
            if !lacking.is_zero() {
                failpoint::hit("consumer.pseudonym.wished");
                self.wallet.transfer(token, account, lacking).await?;
                failpoint::hit("consumer.pseudonym.funded");
            }
        }
        Ok(ledger)
    }

    /// Brings what a pseudonym has of `token` back into the wallet.
    pub(crate) async fn bring_home(
        &self,
        number: PayerNumber,
        token: Address,
    ) -> Result<(), LedgerError> {
        if number == PayerNumber::WALLET {
            return Ok(());
        }
        let ledger = self.ledger(number).await?;
        let amount = self.wallet.balance(token, ledger.account()).await?;
        if !amount.is_zero() {
            let wallet = self.wallet.account();
            failpoint::hit("consumer.home.wished");
            ledger.transfer(token, wallet, amount).await?;
            failpoint::hit("consumer.home.brought");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use market::{Domain, MemoryLedger, Timestamp};

    use super::*;

    const MOR: Address = Address::repeat_byte(0xaa);
    const WALLET: Address = Address::repeat_byte(1);
    const PSEUDONYM: Address = Address::repeat_byte(2);

    struct One(MemoryLedger);

    impl Pseudonyms for One {
        fn keys(&self, _number: u32) -> Result<PayerKeys, Box<dyn Error + Send + Sync>> {
            Err("not asked for".into())
        }

        fn ledger(&self, _number: u32) -> BoxFuture<'_, Result<Arc<dyn Ledger>, LedgerError>> {
            let ledger: Arc<dyn Ledger> = Arc::new(self.0.of(PSEUDONYM));
            Box::pin(core::future::ready(Ok(ledger)))
        }
    }

    fn payers(minted: u128) -> Payers {
        let domain = Domain {
            chain_id: 1,
            settlement: Address::repeat_byte(9),
        };
        let book = MemoryLedger::new(domain, MOR, Timestamp(0));
        book.mint(MOR, WALLET, Amount::new(minted)).unwrap();
        Payers {
            wallet: Arc::new(book.of(WALLET)),
            hot_key: Arc::new(WalletKey::from_bytes(&[7; 32]).unwrap()),
            pseudonyms: Arc::new(One(book)),
        }
    }

    async fn balances(payers: &Payers) -> [u128; 2] {
        let of = async |owner| {
            payers
                .wallet
                .balance(MOR, owner)
                .await
                .unwrap()
                .base_units()
        };
        [of(WALLET).await, of(PSEUDONYM).await]
    }

    #[tokio::test]
    async fn a_pseudonym_gets_what_it_lacks_and_no_more() {
        let payers = payers(100);
        let with = async |amount| {
            let number = PayerNumber(1);
            let ledger = payers.ledger_with(number, MOR, Amount::new(amount)).await;
            ledger.map(|ledger| ledger.account())
        };
        assert_eq!(with(30).await.unwrap(), PSEUDONYM);
        assert_eq!(balances(&payers).await, [70, 30]);
        with(40).await.unwrap();
        assert_eq!(balances(&payers).await, [60, 40]);
        with(10).await.unwrap();
        assert_eq!(balances(&payers).await, [60, 40]);
        let error = with(101).await.unwrap_err();
        assert!(
            matches!(error, LedgerError::Insufficient { owner: WALLET, .. }),
            "{error}"
        );
        assert_eq!(balances(&payers).await, [60, 40]);

        payers.bring_home(PayerNumber(1), MOR).await.unwrap();
        assert_eq!(balances(&payers).await, [100, 0]);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("key file cannot be written")]
    struct Unwritten(#[source] io::Error);

    #[test]
    fn only_a_full_disk_is_told_as_one() {
        let for_room = |kind: ErrorKind| is_for_room(&Unwritten(kind.into()));
        assert!(for_room(ErrorKind::StorageFull) && for_room(ErrorKind::QuotaExceeded));
        assert!(!for_room(ErrorKind::NotFound));
        let keys = payers(0).keys(PayerNumber(1));
        assert!(matches!(keys, Err(KeysError::Missing { number: 1, .. })));
    }

    #[tokio::test]
    async fn the_wallet_needs_no_funding() {
        let payers = payers(100);
        let number = PayerNumber::WALLET;
        let ledger = payers.ledger_with(number, MOR, Amount::new(1000)).await;
        assert_eq!(ledger.unwrap().account(), WALLET);
        payers.bring_home(number, MOR).await.unwrap();
        assert_eq!(balances(&payers).await, [100, 0]);
    }
}
