//! Which accounts a folder of keys has, also those that no role uses any more:
//! a wallet that an imported key took the place of may still hold money.
//!
//! A key that follows from the words and stands back behind a file goes on
//! under the name `former-NAME`; a file that another took the place of is kept
//! as `formerN-NAME.key`. Nothing is ever deleted here.

use std::collections::BTreeSet;

use serde::Serialize;

use super::*;

/// The name of the wallet's key.
const WALLET: &str = "payer";
/// What the names of all keys begin with that others took the place of.
const FORMER: &str = "former";
/// The same, of those that follow from the words.
const FORMER_OF_WORDS: &str = "former-";

/// Whether a name is kept for keys that others took the place of.
pub(crate) fn is_former(name: &str) -> bool {
    name.starts_with(FORMER)
}

/// The branch of the words that the wallet key of this name is on.
pub(crate) fn branch_of(name: &str) -> Branch<'_> {
    Branch::of(name.strip_prefix(FORMER_OF_WORDS).unwrap_or(name))
}

/// What brings a key of the folder back from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Kept {
    /// Keys of this folder follow from words; without a file this one, too.
    words: bool,
    /// The file that this key is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

impl Keystore {
    /// What brings the wallet key of this name back.
    pub(crate) fn kept(&self, name: &str) -> Result<Kept, KeystoreError> {
        let source = self.source(branch_of(name), &format!("{name}.key"))?;
        Ok(Kept {
            words: self.phrase()?.is_some(),
            file: match source {
                Source::File(path) => Some(path),
                Source::Phrase(_) => None,
            },
        })
    }

    /// The names of all accounts: the wallet of the words, those with a file, those that were
    /// lent, and those that a file took the place of. Signers of vouchers hold no money.
    pub(crate) fn accounts(&self) -> Result<Vec<String>, KeystoreError> {
        let mut names = BTreeSet::new();
        let mut derived = BTreeMap::new();
        if self.phrase()?.is_some() {
            derived = self.derived()?;
            names.extend(derived.keys().cloned());
            names.insert(WALLET.to_owned());
        }
        for file in self.files()? {
            let Some(name) = file.strip_suffix(".key") else {
                continue;
            };
            names.insert(name.to_owned());
            if self.is_before_words(name, &derived)? {
                names.insert(format!("{FORMER_OF_WORDS}{name}"));
            }
        }
        let is_account =
            |name: &String| !name.ends_with(".node") && !matches!(Branch::of(name), Branch::Hot(_));
        names.retain(is_account);
        Ok(names.into_iter().collect())
    }

    /// Whether the key in the file of this name stands before another one of the words,
    /// which may have been used: the wallet, and what was lent.
    fn is_before_words(
        &self,
        name: &str,
        derived: &BTreeMap<String, String>,
    ) -> Result<bool, KeystoreError> {
        let may_be_used = name == WALLET || derived.contains_key(name);
        if !may_be_used || is_former(name) || self.phrase()?.is_none() {
            return Ok(false);
        }
        let of_words = self.address(&format!("{FORMER_OF_WORDS}{name}"))?;
        Ok(of_words != self.address(name)?)
    }

    /// The account that is in use under this name, if one is, and where its key comes from.
    pub(crate) fn in_use(&self, name: &str) -> Result<Option<(Address, Source)>, KeystoreError> {
        let file = format!("{name}.key");
        let was_lent = || Ok(self.phrase()?.is_some() && self.derived()?.contains_key(name));
        if !is_there(&self.folder.join(&file))? && !was_lent()? {
            return Ok(None);
        }
        let source = self.source(branch_of(name), &file)?;
        Ok(Some((self.address(name)?, source)))
    }

    /// Keeps this key in the file of this name. One that is there is kept under another
    /// name, which is given back.
    pub(crate) fn replace_key(
        &self,
        name: &str,
        key: &WalletKey,
    ) -> Result<(PathBuf, Option<String>), KeystoreError> {
        let path = self.folder.join(format!("{name}.key"));
        if !is_there(&path)? {
            let of_words = self.in_use(name)?;
            let former = of_words.map(|_| format!("{FORMER_OF_WORDS}{name}"));
            return Ok((self.take_key(name, key)?, former));
        }
        let file = |number: u32| self.folder.join(format!("{FORMER}{number}-{name}.key"));
        let free = (1..u32::MAX).find(|number| !file(*number).exists());
        let number = free.unwrap_or(u32::MAX);
        // A second name first: at no time is a key without a file.
        fs::hard_link(&path, file(number)).map_err(at(&path))?;
        write_key(&path, key)?;
        Ok((path, Some(format!("{FORMER}{number}-{name}"))))
    }
}
