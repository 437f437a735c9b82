//! What the owner of the money allows a consumer, and how its requests go.

use std::collections::BTreeMap;
use std::time::Duration;

use market::{Accepted, Address, Amount, FundingPolicy, Network, Payer};
use seal::Pacing;

/// Digits after the point of a chain's own coin.
const COIN_DECIMALS: u8 = 18;

/// What the owner of the money allows.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The tokens that it pays in, the one that prices are compared in first;
    /// offers in others are not asked, nor those that cannot be compared.
    pub accepted: Vec<Accepted>,
    /// What goes into a channel in each of them, and when it comes out again.
    pub funding: BTreeMap<Address, FundingPolicy>,
    /// Seconds that a withdrawal takes at least.
    pub withdraw_delay_s: u64,
    /// Between two looks at registry and descriptors.
    pub refresh: Duration,
    /// Requests running at a time.
    pub running_max: usize,
    /// How requests travel.
    pub network: Network,
    /// How sealed streams go: as soon as there is something, or at a steady beat.
    pub pacing: Pacing,
    /// Who pays.
    pub payer: Payer,
    /// Whether the channel of one more provider is funded before it is needed,
    /// of one that would go on with an answer.
    pub standby: bool,
}

impl Policy {
    /// The symbol of a token that is paid with; of another one its address.
    pub(crate) fn symbol(&self, token: Address) -> String {
        let symbol = self.find(token).and_then(|known| known.names.first());
        symbol.map_or_else(|| token.to_string(), String::clone)
    }

    /// An amount for people, in whole tokens; of a token that is not paid with
    /// in base units. Zero is the chain's own coin.
    pub(crate) fn shown(&self, token: Address, amount: Amount) -> String {
        match self.find(token) {
            Some(known) => {
                let figure = amount.to_decimal(known.decimals);
                format!("{figure} {}", self.symbol(token))
            }
            None if token == Address::ZERO => {
                let figure = amount.to_decimal(COIN_DECIMALS);
                format!("{figure} ETH")
            }
            None => format!("{amount} base units of {token}"),
        }
    }

    fn find(&self, token: Address) -> Option<&Accepted> {
        self.accepted.iter().find(|known| known.token == token)
    }

    /// For channels in this token. Into one that is not paid with any more nothing
    /// goes; what is in it comes out like any other.
    pub(crate) fn funding_of(&self, token: Address) -> FundingPolicy {
        let own = self.funding.get(&token).cloned();
        own.unwrap_or_else(|| FundingPolicy {
            deposit: Amount::ZERO,
            channel_max: Amount::ZERO,
            top_up_below: Amount::ZERO,
            withdraw_idle: self.funding.values().find_map(|own| own.withdraw_idle),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionError;
    use market::{LedgerError, OverLimit};

    const MOR: Address = Address::repeat_byte(1);

    fn policy() -> Policy {
        let mor = Accepted {
            token: MOR,
            decimals: 18,
            names: vec!["MOR".into()],
        };
        Policy {
            accepted: vec![mor],
            funding: BTreeMap::new(),
            withdraw_delay_s: 0,
            refresh: Duration::ZERO,
            running_max: 1,
            network: Network::Direct,
            pacing: Pacing::Fast,
            payer: Payer::Wallet,
            standby: false,
        }
    }

    fn lacking(token: Address, has: u128, needs: u128) -> String {
        let [has, needs] = [has, needs].map(Amount::new);
        let owner = Address::repeat_byte(9);
        let error = LedgerError::Insufficient {
            owner,
            token,
            has,
            needs,
        };
        let told = SessionError::of_ledger(error, &policy()).to_string();
        told.replace(&owner.to_string(), "A")
    }

    #[test]
    fn what_is_missing_is_told_in_whole_tokens() {
        let one = 10_u128.pow(18);
        assert_eq!(
            lacking(MOR, one / 4, one),
            "account A has 0.25 MOR, 1 MOR is needed: send 0.75 MOR to it"
        );
        assert_eq!(
            lacking(Address::ZERO, 0, one / 1000),
            "account A has 0 ETH, 0.001 ETH is needed: send 0.001 ETH to it"
        );
        let other = Address::repeat_byte(7);
        assert!(lacking(other, 0, 5).contains(&format!("5 base units of {other}")));
        let over = OverLimit {
            needed: Amount::new(32_000_037 * 10_u128.pow(12)),
            allowed: Amount::new(10 * one),
        };
        assert_eq!(
            SessionError::of_limit(over, MOR, &policy()).to_string(),
            "the channel would have to hold 32.000037 MOR, this node allows 10 MOR (--channel-max)"
        );
    }
}
