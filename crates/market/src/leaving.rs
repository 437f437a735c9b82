//! The way out of the market: what an account has in it, and the steps that
//! bring all of it back.
//!
//! [`Holdings::plan`] is pure: it looks at what the chain says and names the
//! steps that can be taken now, and what has to wait until when. [`exit`]
//! takes them one after the other on any [`Ledger`] and plans again after
//! each round, so it can be killed anywhere and be started again: what was
//! done is seen on chain. Nothing here needs the other side's consent.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use serde::Serialize;

use crate::{
    Amount, BidId, ChannelConfig, ChannelState, Claim, Ledger, LedgerError, ModelId, Receiver,
    Timestamp, TxHash,
};

/// Rows in one claim.
const BATCH: usize = 64;
/// Rounds of planning in one exit: a claim makes a settlement possible, bids
/// make room for a model, and what came back is sent home.
const ROUNDS: usize = 16;

/// The contract's word for a withdrawal whose delay is not over.
const TOO_EARLY: &str = "WithdrawDelayNotElapsed";

/// What an account may have in the market, by its journals.
#[derive(Debug, Clone, Default)]
pub struct Belongings {
    /// Channels that it pays over.
    pub pays: Vec<ChannelConfig>,
    /// The best vouchers that it holds, and what they are good for.
    pub claims: Vec<Claim>,
    /// Whom it claims for beside itself: the provider whose host it is.
    pub earns_for: BTreeSet<Address>,
    /// Tokens that it may have.
    pub tokens: Vec<Address>,
    /// Where everything goes in the end; none: it stays with the account.
    pub home: Option<Address>,
}

/// What an account has in the market, by the chain.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// Whose.
    pub account: Address,
    /// Channels that it pays over.
    pub pays: Vec<(ChannelConfig, ChannelState)>,
    /// What it could claim, and the channels' state.
    pub claims: Vec<(Claim, ChannelState)>,
    /// What the contract owes it, and those whom it claims for: receiver, token, amounts.
    pub owed: Vec<(Address, Address, Receiver)>,
    /// Its bids.
    pub bids: Vec<BidId>,
    /// Its models.
    pub models: Vec<ModelId>,
    /// It is registered.
    pub is_provider: bool,
    /// Tokens in hand.
    pub in_hand: Vec<(Address, Amount)>,
    /// Where everything goes in the end.
    pub home: Option<Address>,
}

/// One step of an exit: one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStep {
    /// Claim on these channels.
    Claim(Vec<Claim>),
    /// Have what was claimed paid out.
    Settle {
        /// To the account itself, or to whom it claims for.
        receiver: Address,
        /// In this token.
        token: Address,
        /// So much.
        amount: Amount,
    },
    /// Take a bid off the market.
    DeleteBid(BidId),
    /// Take a model off the market.
    DeregisterModel(ModelId),
    /// Leave the registry.
    DeregisterProvider,
    /// Begin to withdraw.
    Initiate {
        /// From this channel.
        config: ChannelConfig,
        /// So much.
        amount: Amount,
    },
    /// Take what was withdrawn.
    Finalise {
        /// From this channel.
        config: ChannelConfig,
        /// So much.
        amount: Amount,
    },
    /// Send what is in hand home.
    Send {
        /// This token.
        token: Address,
        /// To there.
        to: Address,
        /// So much.
        amount: Amount,
    },
}

/// A withdrawal whose delay runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The channel.
    pub config: ChannelConfig,
    /// What it brings, if nothing is claimed meanwhile.
    pub amount: Amount,
    /// From then on.
    pub ready_at: Timestamp,
    /// What the channel has beyond it: came in since, and can only be asked for then.
    pub more: Amount,
}

/// A step that the contract does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Which.
    pub step: ExitStep,
    /// Its words.
    pub reason: String,
}

impl Blocked {
    /// Whether it is a claim on the same channel.
    fn is_for(&self, claim: &Claim) -> bool {
        match &self.step {
            ExitStep::Claim(rows) => rows.iter().any(|row| row.config == claim.config),
            _ => false,
        }
    }
}

/// How far an exit came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// Withdrawals whose delay runs: come again then.
    pub waits: Vec<Wait>,
    /// What cannot be had now, and why.
    pub blocked: Vec<Blocked>,
}

impl Exit {
    /// Whether all is out.
    pub fn is_complete(&self) -> bool {
        self.waits.is_empty() && self.blocked.is_empty()
    }

    /// When the first withdrawal is ready.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.waits.iter().map(|wait| wait.ready_at).min()
    }
}

/// Why an exit stopped. Start it again: it goes on where it was.
#[derive(Debug, thiserror::Error)]
pub enum ExitError {
    /// The chain cannot be read, or did not take a step for a reason that may pass.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The chain says after each round that there is more to do.
    #[error("after {ROUNDS} rounds there is still something to be done; run it again")]
    Endless,
}

impl Holdings {
    /// Reads the chain.
    pub async fn read(ledger: &dyn Ledger, belongings: &Belongings) -> Result<Self, LedgerError> {
        let (account, domain) = (ledger.account(), ledger.domain());
        let mut holdings = Self {
            account,
            home: belongings.home,
            ..Self::default()
        };
        for config in &belongings.pays {
            let state = ledger.channel(config.id(&domain)).await?;
            holdings.pays.push((*config, state));
        }
        for claim in &belongings.claims {
            let state = ledger.channel(claim.config.id(&domain)).await?;
            holdings.claims.push((*claim, state));
        }
        for token in belongings.tokens() {
            for receiver in belongings.earns_for.iter().copied().chain([account]) {
                let owed = ledger.receiver(receiver, token).await?;
                holdings.owed.push((receiver, token, owed));
            }
            let amount = ledger.balance(token, account).await?;
            holdings.in_hand.push((token, amount));
        }
        let bids = ledger.bids(account).await?;
        holdings.bids = bids.into_iter().map(|bid| bid.id).collect();
        let models = ledger.models().await?.into_iter();
        let own = models.filter(|model| model.owner == account);
        holdings.models = own.map(|model| model.id).collect();
        let providers = ledger.providers().await?;
        holdings.is_provider = providers.iter().any(|known| known.address == account);
        Ok(holdings)
    }

    /// What can be done at `now` of the chain, in this order, and what waits.
    pub fn plan(&self, now: Timestamp) -> (Vec<ExitStep>, Vec<Wait>) {
        let mut steps = self.earn();
        steps.extend(self.bids.iter().copied().map(ExitStep::DeleteBid));
        // Both are refused while there are bids: the next round has them.
        if self.bids.is_empty() {
            steps.extend(self.models.iter().copied().map(ExitStep::DeregisterModel));
            if self.is_provider {
                steps.push(ExitStep::DeregisterProvider);
            }
        }
        let mut waits = Vec::new();
        for (config, state) in &self.pays {
            match way_out(config, state, now) {
                Some(Ok(step)) => steps.push(step),
                Some(Err(wait)) => waits.push(wait),
                None => {}
            }
        }
        (steps, waits)
    }

    /// What is in hand, on its way home: the last that is done.
    pub fn homeward(&self) -> Vec<ExitStep> {
        let Some(to) = self.home.filter(|home| *home != self.account) else {
            return vec![];
        };
        let in_hand = self.in_hand.iter().filter(|(_, amount)| !amount.is_zero());
        let send = |(token, amount): &(Address, Amount)| ExitStep::Send {
            token: *token,
            to,
            amount: *amount,
        };
        in_hand.map(send).collect()
    }

    fn earn(&self) -> Vec<ExitStep> {
        let due: Vec<Claim> = self.claims.iter().filter_map(claimable).collect();
        let claims = due.chunks(BATCH).map(|rows| ExitStep::Claim(rows.to_vec()));
        let mut steps: Vec<_> = claims.collect();
        // What is claimed in this round is paid out in the next, in one go.
        if steps.is_empty() {
            let unsettled = self
                .owed
                .iter()
                .map(|(receiver, token, owed)| ExitStep::Settle {
                    receiver: *receiver,
                    token: *token,
                    amount: owed.total_claimed.less(owed.total_settled),
                });
            steps.extend(unsettled.filter(
                |step| !matches!(step, ExitStep::Settle { amount, .. } if amount.is_zero()),
            ));
        }
        steps
    }
}

impl Belongings {
    /// All tokens that can be part of it, once each.
    pub fn tokens(&self) -> BTreeSet<Address> {
        let pays = self.pays.iter().map(|config| config.token);
        let claims = self.claims.iter().map(|claim| claim.config.token);
        let tokens = self.tokens.iter().copied();
        tokens.chain(pays).chain(claims).collect()
    }
}

/// What is left to claim, no more than the escrow has.
fn claimable((claim, state): &(Claim, ChannelState)) -> Option<Claim> {
    let total = claim
        .total
        .min(claim.voucher.voucher.ceiling)
        .min(state.balance);
    (total > state.total_claimed).then_some(Claim { total, ..*claim })
}

/// The payer's next step on a channel, or what it waits for. All that is not
/// claimed is asked for; whoever earned some of it has the delay to claim it.
fn way_out(
    config: &ChannelConfig,
    state: &ChannelState,
    now: Timestamp,
) -> Option<Result<ExitStep, Wait>> {
    let config = *config;
    let unclaimed = state.balance.less(state.total_claimed);
    if unclaimed.is_zero() {
        return None;
    }
    let Some(withdrawal) = state.withdrawal else {
        let amount = unclaimed;
        return Some(Ok(ExitStep::Initiate { config, amount }));
    };
    let amount = withdrawal.amount.min(unclaimed);
    let ready_at = withdrawal.initiated_at.after_s(config.withdraw_delay_s);
    Some(match now >= ready_at {
        true => Ok(ExitStep::Finalise { config, amount }),
        false => Err(Wait {
            config,
            amount,
            ready_at,
            more: unclaimed.less(amount),
        }),
    })
}

impl ExitStep {
    /// Takes it.
    pub async fn perform(&self, ledger: &dyn Ledger) -> Result<TxHash, LedgerError> {
        match self {
            Self::Claim(claims) => ledger.claim(claims.clone()).await,
            Self::Settle {
                receiver, token, ..
            } => ledger.settle(*receiver, *token).await,
            Self::DeleteBid(bid) => ledger.delete_bid(*bid).await,
            Self::DeregisterModel(model) => ledger.deregister_model(*model).await,
            Self::DeregisterProvider => ledger.deregister_provider().await,
            Self::Initiate { config, amount } => ledger.initiate_withdraw(*config, *amount).await,
            Self::Finalise { config, .. } => ledger.finalize_withdraw(*config).await,
            Self::Send { token, to, amount } => ledger.transfer(*token, *to, *amount).await,
        }
    }

    /// The halves of a claim that was refused as a whole: one bad row takes
    /// the others with it.
    fn halves(&self) -> Option<[Self; 2]> {
        match self {
            Self::Claim(rows) if rows.len() > 1 => {
                let (first, second) = rows.split_at(rows.len() / 2);
                Some([first, second].map(|rows| Self::Claim(rows.to_vec())))
            }
            _ => None,
        }
    }
}

/// Takes every step that can be taken now. `told` hears of each one before it
/// is taken. `wall`: the time here; where no blocks are made, the chain's stands still.
pub async fn exit(
    ledger: &dyn Ledger,
    belongings: &Belongings,
    wall: Timestamp,
    mut told: impl FnMut(&ExitStep) + Send,
) -> Result<Exit, ExitError> {
    let mut outcome = Exit::default();
    // Our clock went before the chain's.
    let mut early: Vec<ExitStep> = Vec::new();
    for _ in 0..ROUNDS {
        let mut holdings = Holdings::read(ledger, belongings).await?;
        let refused = |claim: &Claim| outcome.blocked.iter().any(|blocked| blocked.is_for(claim));
        holdings.claims.retain(|(claim, _)| !refused(claim));
        let (steps, waits) = holdings.plan(ledger.now().await?.max(wall));
        outcome.waits = waits;
        outcome
            .waits
            .extend(early.iter().filter_map(|step| wait_for(step, &holdings)));
        let is_open = |step: &ExitStep| {
            let blocked = outcome.blocked.iter().any(|other| other.step == *step);
            !blocked && !early.contains(step)
        };
        let mut steps: Vec<_> = steps.into_iter().filter(is_open).collect();
        if steps.is_empty() {
            steps = holdings.homeward().into_iter().filter(is_open).collect();
        }
        if steps.is_empty() {
            return Ok(outcome);
        }
        take(ledger, steps, &mut outcome, &mut early, &mut told).await?;
    }
    Err(ExitError::Endless)
}

/// The wait that a step turned out to be.
fn wait_for(step: &ExitStep, holdings: &Holdings) -> Option<Wait> {
    let ExitStep::Finalise { config, amount } = step else {
        return None;
    };
    let (_, state) = holdings.pays.iter().find(|(known, _)| known == config)?;
    let initiated_at = state.withdrawal?.initiated_at;
    let unclaimed = state.balance.less(state.total_claimed);
    Some(Wait {
        config: *config,
        amount: *amount,
        ready_at: initiated_at.after_s(config.withdraw_delay_s),
        more: unclaimed.less(*amount),
    })
}

async fn take(
    ledger: &dyn Ledger,
    mut steps: Vec<ExitStep>,
    outcome: &mut Exit,
    early: &mut Vec<ExitStep>,
    told: &mut (impl FnMut(&ExitStep) + Send),
) -> Result<(), ExitError> {
    steps.reverse();
    while let Some(step) = steps.pop() {
        told(&step);
        match step.perform(ledger).await {
            Ok(_) => {}
            Err(LedgerError::Refused { reason }) if reason.starts_with(TOO_EARLY) => {
                early.push(step);
            }
            Err(LedgerError::Refused { reason }) => match step.halves() {
                Some([first, second]) => steps.extend([second, first]),
                None => outcome.blocked.push(Blocked { step, reason }),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
