//! Why a request went where it went: kept in memory for the last requests, to
//! be looked up by an id that travels with the answer. Nothing of what was
//! asked or said is in it, and nothing of it is written to disk.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use market::{Address, Timestamp};
use routing::Choice;
use serde::{Serialize, Serializer};

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
    /// It is busy.
    Busy,
    /// It, or the way to it, failed.
    Failed,
    /// It found fault with the request: nobody else was asked.
    Refused,
}

/// A provider that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AskedView {
    /// Who.
    pub provider: Address,
    /// What came of it.
    pub ending: Ending,
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

/// Why a request went where it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteView {
    /// Its id; none where it was only asked what would be chosen.
    pub id: Option<RouteId>,
    /// When.
    pub at: Timestamp,
    /// A choice for each model that the request names, in the order of the names.
    pub choices: Vec<ChoiceView>,
    /// Who was asked, in order.
    pub asked: Vec<AskedView>,
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
        let route = self.0.iter_mut().rev().find(|route| route.id == Some(id));
        if let Some(route) = route {
            route.asked.push(asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else() {
        let id = RouteId::new(0xab);
        assert_eq!(id.to_string().parse(), Ok(id));
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
            choices: vec![],
            asked: vec![],
        };
        for n in 0..=KEPT as u128 {
            routes.keep(route(n));
        }
        assert_eq!(routes.find(RouteId::new(0)), None);
        let asked = AskedView {
            provider: Address::ZERO,
            ending: Ending::Answered,
        };
        routes.asked(RouteId::new(1), asked);
        assert_eq!(routes.find(RouteId::new(1)).unwrap().asked, [asked]);
    }
}
