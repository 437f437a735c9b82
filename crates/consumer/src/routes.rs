//! Why a request went where it went: kept in memory for the last requests, to
//! be looked up by an id that travels with the answer. Nothing of what was
//! asked or said is in it, and nothing of it is written to disk.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use market::{Address, Timestamp};
use routing::Choice;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Routes that are kept.
const KEPT: usize = 256;

/// The name of one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteId(u128);

impl RouteId {
    /// From chance.
    pub(crate) fn new(chance: u128) -> Self {
        Self(chance)
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for RouteId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RouteId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that names no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a route's id has 32 hex digits, as the header x-lethe-route has it")]
pub struct RouteIdError;

impl FromStr for RouteId {
    type Err = RouteIdError;

    fn from_str(text: &str) -> Result<Self, RouteIdError> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(text, 16).map_err(|_| RouteIdError)?;
        is_hex.then_some(Self(id)).ok_or(RouteIdError)
    }
}

/// How asking a provider ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It began to answer.
    Answered,
    /// Another one that was asked beside it began sooner; it was stopped.
    Overtaken,
    /// It began to answer and was lost before the end.
    Lost,
    /// It is busy.
    Busy,
    /// It, or the way to it, failed.
    Failed,
    /// It found fault with the request: nobody else was asked.
    Refused,
}

/// Why a provider was asked when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// It is the first.
    First,
    /// Those before it brought nothing.
    Next,
    /// The one before it was slow to begin.
    Beside,
}

/// A provider that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AskedView {
    /// Who.
    pub provider: Address,
    /// Why then.
    pub turn: Turn,
    /// From the request to its being asked, in milliseconds.
    pub after_ms: u64,
    /// What came of it.
    pub ending: Ending,
    /// What went wrong, in our words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'static str>,
}

/// The choice among the offers of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChoiceView {
    /// The model.
    pub model: String,
    /// Why the first is first.
    pub reason: &'static str,
    /// All of it.
    #[serde(flatten)]
    pub choice: Choice,
}

/// One of several nodes of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostView {
    /// Its account: what `provider` is elsewhere in a route.
    pub account: Address,
    /// The registered provider.
    pub provider: Address,
    /// Where its descriptor is.
    pub endpoint: String,
}

/// Why a request went where it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteView {
    /// Its id; none where it was only asked what would be chosen.
    pub id: Option<RouteId>,
    /// When.
    pub at: Timestamp,
    /// The route of the answer that was lost, where this one looks for
    /// somebody who goes on with it.
    pub resumes: Option<RouteId>,
    /// A choice for each model that the request names, in the order of the names.
    pub choices: Vec<ChoiceView>,
    /// Who of them are hosts of a provider that has several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostView>,
    /// Who was asked, in order.
    pub asked: Vec<AskedView>,
    /// What has to be said of the name beside that: several cards, look-alikes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The last routes.
#[derive(Debug, Default)]
pub(crate) struct Routes(VecDeque<RouteView>);

impl Routes {
    /// Keeps one in place of the oldest.
    pub(crate) fn keep(&mut self, route: RouteView) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(route);
    }

    /// One of them.
    pub(crate) fn find(&self, id: RouteId) -> Option<&RouteView> {
        self.0.iter().rev().find(|route| route.id == Some(id))
    }

    /// Adds who was asked.
    pub(crate) fn asked(&mut self, id: RouteId, asked: AskedView) {
        if let Some(route) = self.find_mut(id) {
            route.asked.push(asked);
        }
    }

    /// Who began to answer did not come to the end.
    pub(crate) fn lost(&mut self, id: RouteId, provider: Address) {
        let asked = self.find_mut(id).map(|route| route.asked.iter_mut());
        let answered =
            |asked: &&mut AskedView| asked.provider == provider && asked.ending == Ending::Answered;
        if let Some(asked) = asked.and_then(|mut asked| asked.find(answered)) {
            asked.ending = Ending::Lost;
        }
    }

    /// It goes on with the answer of another one.
    pub(crate) fn resumes(&mut self, id: RouteId, lost: Option<RouteId>) {
        if let Some(route) = self.find_mut(id) {
            route.resumes = lost;
        }
    }

    fn find_mut(&mut self, id: RouteId) -> Option<&mut RouteView> {
        self.0.iter_mut().rev().find(|route| route.id == Some(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else() {
        let id = RouteId::new(0xab);
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<RouteId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<RouteId>("\"ab\"").is_err());
        for bad in [
            "",
            "ab",
            &"g".repeat(32),
            "+0000000000000000000000000000000a"[1..].get(..31).unwrap(),
        ] {
            assert_eq!(bad.parse::<RouteId>(), Err(RouteIdError));
        }
        assert_eq!(
            format!("+{}", "0".repeat(31)).parse::<RouteId>(),
            Err(RouteIdError)
        );
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut routes = Routes::default();
        let route = |n| RouteView {
            id: Some(RouteId::new(n)),
            at: Timestamp(0),
            resumes: None,
            choices: vec![],
            hosts: vec![],
            asked: vec![],
            notes: vec![],
        };
        for n in 0..=KEPT as u128 {
            routes.keep(route(n));
        }
        assert_eq!(routes.find(RouteId::new(0)), None);
        let asked = AskedView {
            provider: Address::ZERO,
            turn: Turn::First,
            after_ms: 0,
            ending: Ending::Answered,
            problem: None,
        };
        routes.asked(RouteId::new(1), asked);
        assert_eq!(routes.find(RouteId::new(1)).unwrap().asked, [asked]);
        routes.lost(RouteId::new(1), Address::repeat_byte(1));
        assert_eq!(routes.find(RouteId::new(1)).unwrap().asked, [asked]);
        routes.lost(RouteId::new(1), Address::ZERO);
        let ending = routes.find(RouteId::new(1)).unwrap().asked[0].ending;
        assert_eq!(ending, Ending::Lost);
    }
}
