//! What providers are called here, beside their accounts.
//!
//! A name is chosen by whoever bears it and proves nothing, so it never wins by being
//! first: what several bear is refused, with who they are, and an account
//! always means that account.

use std::collections::{BTreeMap, BTreeSet};

use market::Address;

/// So many of them are told in one error.
const TOLD_MAX: usize = 8;

/// Names of providers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names(BTreeMap<String, BTreeSet<Address>>);

impl Names {
    /// Whom a request names: by an account, or by a name that one provider alone bears,
    /// as it is written here.
    ///
    /// # Errors
    ///
    /// In words: what is there, and what is allowed.
    pub(crate) fn account(&self, text: &str) -> Result<Address, String> {
        if let Ok(account) = text.parse() {
            return Ok(account);
        }
        let shown: String = text.chars().take(60).collect();
        let bearers = self.0.get(text).into_iter().flatten();
        let bearers: Vec<_> = bearers.collect();
        match bearers.as_slice() {
            [one] => Ok(**one),
            [] => Err(format!("{shown:?}; allowed: {}", self.allowed())),
            several => {
                let accounts = listed(several.iter().map(ToString::to_string));
                let count = several.len();
                Err(format!(
                    "{shown:?} is the name of {count} providers; allowed: the account of one of them: {accounts}"
                ))
            }
        }
    }

    fn allowed(&self) -> String {
        let account = "a provider's account, 0x and 40 hex digits";
        match self.0.is_empty() {
            true => account.to_owned(),
            false => {
                let names = self.0.keys().map(|name| format!("{name:?}"));
                format!("{account}, or a name: {}", listed(names))
            }
        }
    }
}

impl FromIterator<(Address, String)> for Names {
    fn from_iter<I: IntoIterator<Item = (Address, String)>>(named: I) -> Self {
        let mut names = Self::default();
        for (account, name) in named {
            names.0.entry(name).or_default().insert(account);
        }
        names
    }
}

fn listed(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<_> = all.collect();
    let others = all.len().saturating_sub(TOLD_MAX);
    all.truncate(TOLD_MAX);
    let told = all.join(", ");
    match others {
        0 => told,
        others => format!("{told} and {others} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    fn names(named: &[(u8, &str)]) -> Names {
        let named = named.iter();
        named
            .map(|(n, name)| (account(*n), (*name).to_owned()))
            .collect()
    }

    #[test]
    fn a_name_that_one_alone_bears_is_its_account() {
        let names = names(&[(1, "amber"), (1, "amber"), (1, "gold"), (2, "birch")]);
        assert_eq!(names.account("amber"), Ok(account(1)));
        assert_eq!(names.account("gold"), Ok(account(1)));
        assert_eq!(names.account("birch"), Ok(account(2)));
        for near in ["Amber", " amber", "amber ", "amb", "\u{430}mber", ""] {
            let told = names.account(near).unwrap_err();
            assert!(
                told.contains(r#"or a name: "amber", "birch", "gold""#),
                "{told}"
            );
        }
        let told = Names::default().account("amber").unwrap_err();
        assert!(told.ends_with("0x and 40 hex digits"), "{told}");
    }

    #[test]
    fn what_several_bear_is_nobodys_and_all_of_them_are_told() {
        let names = names(&[(1, "amber"), (2, "amber"), (3, "birch")]);
        let told = names.account("amber").unwrap_err();
        for n in [1, 2] {
            assert!(told.contains(&account(n).to_string()), "{told}");
        }
        assert!(!told.contains(&account(3).to_string()), "{told}");
        let many: Vec<_> = (0..20).map(|n| (n, "amber")).collect();
        let told = self::names(&many).account("amber").unwrap_err();
        assert!(
            told.contains("20 providers") && told.ends_with("and 12 more"),
            "{told}"
        );
    }

    #[test]
    fn nobody_is_called_like_another_ones_account() {
        let other = account(2).to_string();
        let names = names(&[(1, other.as_str())]);
        assert_eq!(names.account(&other), Ok(account(2)));
    }
}
