//! What is proved about an answer's privacy, in three words, one for each of
//! the things that may give somebody away. A request may demand some of them.

use serde::{Deserialize, Serialize};

/// How the request travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Straight to the provider, which sees the address it came from.
    Direct,
    /// Through a relay: the provider does not see who asks, the relay not what.
    Oblivious,
}

/// Who pays, as the provider and the chain see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payer {
    /// The wallet itself: the same for every provider.
    Wallet,
    /// An account for this provider alone. On chain one can see which wallet
    /// paid money into it.
    Pseudonym,
}

/// Who makes the tokens, as the provider declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upstream {
    /// The provider itself.
    OwnEngine,
    /// Somebody behind the provider, who reads along. Also what is not declared.
    #[default]
    ThirdParty,
}

impl Upstream {
    /// From a descriptor: what is not declared counts as a third party.
    pub fn declared(text: Option<&str>) -> Self {
        match text {
            Some("own-engine") => Self::OwnEngine,
            _ => Self::ThirdParty,
        }
    }
}

/// The three of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// How it travelled.
    pub network: Network,
    /// Who paid.
    pub payer: Payer,
    /// Who made it.
    pub upstream: Upstream,
}

/// What a request insists on; nothing where it does not care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Demand {
    /// How it must travel.
    pub network: Option<Network>,
    /// Who must pay.
    pub payer: Option<Payer>,
    /// Who must make it.
    pub upstream: Option<Upstream>,
}

/// A demand that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part:?} is not a label that can be demanded; allowed are network=oblivious, \
     network=direct, payer=pseudonym, payer=wallet, upstream=own-engine and \
     upstream=third-party, separated by commas"
)]
pub struct DemandError {
    /// The part that is not understood.
    pub part: String,
}

impl Demand {
    /// Both at once: of each label the better one that either demands.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        fn better<T: PartialEq>(best: T, one: Option<T>, other: Option<T>) -> Option<T> {
            let best = Some(best);
            if one == best || other == best {
                return best;
            }
            one.or(other)
        }
        Self {
            network: better(Network::Oblivious, self.network, other.network),
            payer: better(Payer::Pseudonym, self.payer, other.payer),
            upstream: better(Upstream::OwnEngine, self.upstream, other.upstream),
        }
    }

    /// The first label that falls short: what is demanded, and what there is.
    /// The better label also meets a demand for the lesser one.
    pub fn unmet(&self, labels: &Labels) -> Option<(&'static str, &'static str)> {
        if self.network == Some(Network::Oblivious) && labels.network == Network::Direct {
            return Some(("network=oblivious", "network=direct"));
        }
        if self.payer == Some(Payer::Pseudonym) && labels.payer == Payer::Wallet {
            return Some(("payer=pseudonym", "payer=wallet"));
        }
        if self.upstream == Some(Upstream::OwnEngine) && labels.upstream == Upstream::ThirdParty {
            return Some(("upstream=own-engine", "upstream=third-party"));
        }
        None
    }
}

impl core::str::FromStr for Demand {
    type Err = DemandError;

    /// Reads `network=oblivious,upstream=own-engine`, in any order.
    fn from_str(text: &str) -> Result<Self, DemandError> {
        let mut demand = Self::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            match part {
                "network=oblivious" => demand.network = Some(Network::Oblivious),
                "network=direct" => demand.network = Some(Network::Direct),
                "payer=pseudonym" => demand.payer = Some(Payer::Pseudonym),
                "payer=wallet" => demand.payer = Some(Payer::Wallet),
                "upstream=own-engine" => demand.upstream = Some(Upstream::OwnEngine),
                "upstream=third-party" => demand.upstream = Some(Upstream::ThirdParty),
                _ => {
                    let part = part.chars().take(64).collect();
                    return Err(DemandError { part });
                }
            }
        }
        Ok(demand)
    }
}

impl core::fmt::Display for Labels {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let network = match self.network {
            Network::Direct => "direct",
            Network::Oblivious => "oblivious",
        };
        let payer = match self.payer {
            Payer::Wallet => "wallet",
            Payer::Pseudonym => "pseudonym",
        };
        let upstream = match self.upstream {
            Upstream::OwnEngine => "own-engine",
            Upstream::ThirdParty => "third-party",
        };
        write!(f, "network={network},payer={payer},upstream={upstream}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_demands_the_better_label_counts() {
        let demand = |text: &str| text.parse::<Demand>().unwrap();
        for (one, other, both) in [
            ("network=direct", "network=oblivious", "network=oblivious"),
            ("upstream=own-engine", "", "upstream=own-engine"),
            ("payer=wallet", "", "payer=wallet"),
            (
                "payer=pseudonym",
                "network=oblivious",
                "payer=pseudonym,network=oblivious",
            ),
            (
                "upstream=own-engine",
                "upstream=third-party",
                "upstream=own-engine",
            ),
        ] {
            assert_eq!(demand(one).and(demand(other)), demand(both));
            assert_eq!(demand(other).and(demand(one)), demand(both));
        }
    }

    const BEST: Labels = Labels {
        network: Network::Oblivious,
        payer: Payer::Pseudonym,
        upstream: Upstream::OwnEngine,
    };
    const LEAST: Labels = Labels {
        network: Network::Direct,
        payer: Payer::Wallet,
        upstream: Upstream::ThirdParty,
    };

    #[test]
    fn what_is_printed_is_what_can_be_demanded() {
        for labels in [BEST, LEAST] {
            let demand: Demand = labels.to_string().parse().unwrap();
            assert_eq!(demand.unmet(&labels), None);
            assert_eq!(demand.unmet(&BEST), None);
        }
    }

    #[test]
    fn each_label_that_falls_short_is_named() {
        for demanded in [
            "network=oblivious",
            "payer=pseudonym",
            "upstream=own-engine",
        ] {
            let demand: Demand = demanded.parse().unwrap();
            assert_eq!(demand.unmet(&LEAST).unwrap().0, demanded);
        }
        assert_eq!("".parse(), Ok(Demand::default()));
        let error = "network=tor".parse::<Demand>().unwrap_err();
        assert!(error.to_string().contains("network=tor"), "{error}");
    }

    #[test]
    fn what_is_not_declared_is_a_third_party() {
        assert_eq!(Upstream::declared(Some("own-engine")), Upstream::OwnEngine);
        for text in [None, Some("third-party"), Some("own"), Some("")] {
            assert_eq!(Upstream::declared(text), Upstream::ThirdParty);
        }
    }
}
