//! What can be done with a ledger, and how the outcome is told: the same for
//! both forms of it.

use chain::{DEVELOPMENT_ACCOUNTS, DevelopmentAccount};
use market::{
    Address, Amount, B256, BidId, ChannelConfig, Claim, Domain, Durable, Ledger, LedgerError,
    ModelId, SignedClaim, Voucher,
};

/// The people of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Payer,
    HotKey,
    Provider,
    Claimer,
    Stranger,
}

pub(crate) const EVERYBODY: [Who; 5] = [
    Who::Payer,
    Who::HotKey,
    Who::Provider,
    Who::Claimer,
    Who::Stranger,
];

impl Who {
    pub(crate) fn account(self) -> DevelopmentAccount {
        DEVELOPMENT_ACCOUNTS[self as usize]
    }

    pub(crate) fn address(self) -> Address {
        self.account().address
    }
}

/// One row of a claim: which channel, how far the voucher goes, who signed it, what is claimed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) channel: usize,
    pub(crate) ceiling: u128,
    pub(crate) signer: Who,
    pub(crate) total: u128,
}

/// One thing that somebody does.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    RegisterProvider { stake: u128 },
    RegisterModel { base: u8, stake: u128 },
    PostBid { owner: Who, base: u8, price: u128 },
    Deposit { channel: usize, amount: u128 },
    Claim { rows: Vec<Row> },
    Settle { receiver: Who, usd: bool },
    InitiateWithdraw { channel: usize, amount: u128 },
    FinalizeWithdraw { channel: usize },
    Refund { channel: usize, amount: u128 },
    ClaimSigned { row: Row, by: Who },
    DeleteBid { of: Who, base: u8, nonce: u64 },
    DeregisterModel { owner: Who, base: u8 },
    DeregisterProvider,
}

/// The channels of the story.
pub(crate) struct Channels {
    pub(crate) domain: Domain,
    pub(crate) configs: Vec<ChannelConfig>,
}

impl Channels {
    /// One in MOR with a hot key, one in dollars without, one that can't be.
    pub(crate) fn new(domain: Domain, mor: Address, usd: Address) -> Self {
        let with_hot_key = ChannelConfig {
            payer: Who::Payer.address(),
            payer_authorizer: Who::HotKey.address(),
            receiver: Who::Provider.address(),
            receiver_authorizer: Who::Claimer.address(),
            token: mor,
            withdraw_delay_s: 900,
            salt: B256::ZERO,
        };
        let in_dollars = ChannelConfig {
            payer_authorizer: Address::ZERO,
            token: usd,
            salt: B256::repeat_byte(1),
            ..with_hot_key
        };
        let too_quick = ChannelConfig {
            withdraw_delay_s: 899,
            ..with_hot_key
        };
        Self {
            domain,
            configs: vec![with_hot_key, in_dollars, too_quick],
        }
    }

    fn claim(&self, row: &Row) -> Claim {
        let config = self.configs[row.channel];
        let voucher = Voucher {
            channel: config.id(&self.domain),
            ceiling: Amount::new(row.ceiling),
        };
        Claim {
            config,
            voucher: Durable::read_back(voucher).sign(&self.domain, &row.signer.account().wallet()),
            total: Amount::new(row.total),
        }
    }
}

/// How it went: nothing to tell, or the error's name.
pub(crate) type Outcome = Result<(), String>;

fn told<T>(outcome: Result<T, LedgerError>) -> Outcome {
    match outcome {
        Ok(_) => Ok(()),
        // The contract adds values to some names.
        Err(LedgerError::Refused { reason }) => {
            Err(reason.split('(').next().unwrap_or_default().to_owned())
        }
        Err(LedgerError::Insufficient {
            owner,
            token,
            has,
            needs,
        }) => Err(format!("{owner} has {has} of {token}, needs {needs}")),
        Err(other) => panic!("the ledger broke: {other:?}"),
    }
}

/// Does it as the account of `ledger`.
pub(crate) async fn perform(ledger: &dyn Ledger, channels: &Channels, deed: &Deed) -> Outcome {
    let config = |channel: &usize| channels.configs[*channel];
    match deed {
        Deed::RegisterProvider { stake } => {
            let endpoint = "node.example:7001".to_owned();
            told(
                ledger
                    .register_provider(Amount::new(*stake), endpoint)
                    .await,
            )
        }
        Deed::RegisterModel { base, stake } => {
            let (name, tags) = (format!("model {base}"), vec!["llm".to_owned()]);
            let base = B256::repeat_byte(*base);
            told(
                ledger
                    .register_model(base, name, tags, Amount::new(*stake))
                    .await,
            )
        }
        Deed::PostBid { owner, base, price } => {
            let model = ModelId::derive(owner.address(), B256::repeat_byte(*base));
            told(ledger.post_bid(model, Amount::new(*price)).await)
        }
        Deed::Deposit { channel, amount } => {
            told(ledger.deposit(config(channel), Amount::new(*amount)).await)
        }
        Deed::Claim { rows } => {
            let claims = rows.iter().map(|row| channels.claim(row)).collect();
            told(ledger.claim(claims).await)
        }
        Deed::Settle { receiver, usd } => {
            let token = channels.configs[usize::from(*usd)].token;
            told(ledger.settle(receiver.address(), token).await)
        }
        Deed::InitiateWithdraw { channel, amount } => told(
            ledger
                .initiate_withdraw(config(channel), Amount::new(*amount))
                .await,
        ),
        Deed::FinalizeWithdraw { channel } => told(ledger.finalize_withdraw(config(channel)).await),
        Deed::Refund { channel, amount } => {
            told(ledger.refund(config(channel), Amount::new(*amount)).await)
        }
        Deed::ClaimSigned { row, by } => {
            let key = by.account().wallet();
            let signed = SignedClaim::sign(channels.claim(row), &channels.domain, &key);
            told(ledger.claim_signed(signed).await)
        }
        Deed::DeleteBid { of, base, nonce } => {
            let model = ModelId::derive(Who::Provider.address(), B256::repeat_byte(*base));
            let bid = BidId::derive(of.address(), model, *nonce);
            told(ledger.delete_bid(bid).await)
        }
        Deed::DeregisterModel { owner, base } => {
            let model = ModelId::derive(owner.address(), B256::repeat_byte(*base));
            told(ledger.deregister_model(model).await)
        }
        Deed::DeregisterProvider => told(ledger.deregister_provider().await),
    }
}

/// All that a ledger says, in one text.
pub(crate) async fn picture(ledger: &dyn Ledger, channels: &Channels) -> String {
    let mut lines = Vec::new();
    let tokens = [channels.configs[0].token, channels.configs[1].token];
    for who in EVERYBODY {
        let mut bids = ledger.bids(who.address()).await.expect("bids");
        bids.sort_by_key(|bid| bid.id);
        lines.push(format!("{who:?} bids {bids:?}"));
        for token in tokens {
            let has = ledger.balance(token, who.address()).await.expect("balance");
            let owed = ledger.receiver(who.address(), token).await.expect("owed");
            lines.push(format!("{who:?} {token} has {has}, is owed {owed:?}"));
        }
    }
    for config in &channels.configs {
        let state = ledger.channel(config.id(&channels.domain)).await;
        let state = state.expect("channel");
        // The two clocks differ; that a withdrawal waits, and for how much, does not.
        let leaving = state.withdrawal.map(|withdrawal| withdrawal.amount);
        lines.push(format!(
            "channel has {}, {} claimed, {leaving:?} leaving",
            state.balance, state.total_claimed
        ));
    }
    lines.push(format!(
        "{:?}",
        ledger.providers().await.expect("providers")
    ));
    let models = ledger.models().await.expect("models");
    for model in &models {
        let stake = ledger.model_stake(model.id).await.expect("stake");
        lines.push(format!("{stake} on {model:?}"));
    }
    lines.push(format!("{:?}", ledger.stakes().await.expect("stakes")));
    lines.join("\n")
}
