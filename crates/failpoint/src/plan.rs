//! What is to happen, and where: `consumer.voucher.signed:3:cut`.

use std::fmt;
use std::str::FromStr;

use crate::ALL;

/// Names that a wrong one is compared with in the error's text.
const NEAR: usize = 3;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process gets SIGKILL.
    Kill,
    /// From there on, no file of the data folder grows and none is made.
    Full,
    /// What was not fsynced is gone, and the process with it.
    Cut,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Kill, Self::Full, Self::Cut];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Full => "full",
            Self::Cut => "cut",
        })
    }
}

/// At the `nth` hit of `point`, `action`. Written `POINT[:NTH][:ACTION]`; the
/// first hit and `kill` if nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// One of [`ALL`].
    pub point: &'static str,
    /// Counted from 1.
    pub nth: u32,
    /// What happens.
    pub action: Action,
}

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no such point.
    #[error("no failpoint is called {name:?}; near it are {}", near.join(", "))]
    UnknownPoint {
        /// What was asked for.
        name: String,
        /// The names that look most like it.
        near: Vec<&'static str>,
    },
    /// Neither a number nor an action.
    #[error(
        "{part:?} in failpoint {text:?} is neither a number from 1 on nor one of kill, full, cut"
    )]
    Part {
        /// The whole.
        text: String,
        /// What is wrong in it.
        part: String,
    },
    /// Too many parts.
    #[error("failpoint {text:?} has too many parts (allowed: POINT[:NTH][:ACTION])")]
    Parts {
        /// The whole.
        text: String,
    },
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let Some(point) = ALL.iter().copied().find(|point| *point == name) else {
            let (name, near) = (name.to_owned(), near(name));
            return Err(PlanError::UnknownPoint { name, near });
        };
        let mut plan = Self {
            point,
            nth: 1,
            action: Action::Kill,
        };
        let rest: Vec<_> = parts.collect();
        let wrong = |part: &str| PlanError::Part {
            text: text.to_owned(),
            part: part.to_owned(),
        };
        let (nth, action) = match rest[..] {
            [] => (None, None),
            [one] => match one.parse::<u32>() {
                Ok(_) => (Some(one), None),
                Err(_) => (None, Some(one)),
            },
            [nth, action] => (Some(nth), Some(action)),
            _ => {
                let text = text.to_owned();
                return Err(PlanError::Parts { text });
            }
        };
        if let Some(nth) = nth {
            let number = nth.parse::<u32>().ok().filter(|nth| *nth > 0);
            plan.nth = number.ok_or_else(|| wrong(nth))?;
        }
        if let Some(action) = action {
            let found = Action::ALL.iter().find(|a| a.to_string() == action);
            plan.action = *found.ok_or_else(|| wrong(action))?;
        }
        Ok(plan)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.point, self.nth, self.action)
    }
}

fn near(name: &str) -> Vec<&'static str> {
    let mut names = ALL.to_vec();
    names.sort_by_key(|point| strsim::damerau_levenshtein(name, point));
    names.truncate(NEAR);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<String, String> {
        let parsed = text.parse::<Plan>();
        parsed
            .map(|plan| plan.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_first_hit_and_kill() {
        for (text, expected) in [
            ("store.commit.before", "store.commit.before:1:kill"),
            ("store.commit.before:7", "store.commit.before:7:kill"),
            ("store.commit.before:cut", "store.commit.before:1:cut"),
            ("store.commit.before:2:full", "store.commit.before:2:full"),
        ] {
            assert_eq!(plan(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_plan_is_explained() {
        for (text, says) in [
            ("store.comit.before", "near it are store.commit.before,"),
            ("", "no failpoint is called \"\""),
            ("store.commit.before:0", "\"0\" in failpoint"),
            ("store.commit.before:burn", "\"burn\" in failpoint"),
            ("store.commit.before:1:kill:2", "too many parts"),
        ] {
            let error = plan(text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
