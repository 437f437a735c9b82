//! The words that the keys of a data folder follow from (BIP-39), and the
//! path of each key (BIP-32; SLIP-0010 for the keys of nodes).
//!
//! The paths are a promise: `docs/protocol/keys.md` lists them, with vectors
//! that other programs made. Everything but the wallet's own account lies on
//! hardened branches, so that a key that leaks tells nothing of another one.

use bip39::{Language, Mnemonic};
use hmac::{Hmac, Mac};
use market::{KeyError, NodeKey, WalletKey};
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

/// The branch of all keys that are no account of a usual wallet: "lt" in ASCII.
const PURPOSE: u32 = 0x6c74;
/// Below it: signers of vouchers, by the number of the account that they sign for.
const HOT: u32 = 0;
/// Accounts that pay one provider each, by number.
const PAYERS: u32 = 1;
/// Accounts of those who sell and relay, by name.
const NAMED: u32 = 2;
/// Keys of nodes (ed25519), by name.
const NODES: u32 = 3;

/// Indices with this bit are hardened.
const HARDENED: u32 = 1 << 31;

/// The highest account of a phrase.
pub(crate) const ACCOUNT_MAX: u32 = HARDENED - 1;

/// Why words are no phrase, or a key does not follow from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PhraseError {
    #[error("a phrase has 12, 15, 18, 21 or 24 words, these are {count}")]
    Count { count: usize },
    #[error("word {position} is none of the 2,048 English BIP-39 words; check its spelling")]
    Word { position: usize },
    #[error("the words are not a phrase: one of them is wrong, or they stand in another order")]
    Checksum,
    #[error("{number} is no account number (allowed: 0 to {ACCOUNT_MAX})")]
    Number { number: u32 },
    #[error("no key follows from the phrase at {path}; choose another account with --account")]
    Key {
        path: Path,
        #[source]
        source: KeyError,
    },
}

/// Which key, in the words of the rest of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Branch<'a> {
    /// The wallet: `payer`.
    Wallet,
    /// The signer of vouchers for the account of this number: `hot`, `hot-N`.
    Hot(u32),
    /// An account that pays one provider: `payer-N`.
    Payer(u32),
    /// The account of who sells or relays, by any other name.
    Named(&'a str),
    /// The key of a node, by name.
    Node(&'a str),
}

impl<'a> Branch<'a> {
    /// The branch of the wallet key of this name.
    pub(crate) fn of(name: &'a str) -> Self {
        let number = |prefix: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
        match name {
            "payer" => Self::Wallet,
            "hot" => Self::Hot(0),
            _ => number("payer-")
                .map(Self::Payer)
                .or_else(|| number("hot-").map(Self::Hot))
                .unwrap_or(Self::Named(name)),
        }
    }

    /// Its path below account `account` of the phrase.
    pub(crate) fn path(self, account: u32) -> Result<Path, PhraseError> {
        let branch = |kind, number| Ok(Path([PURPOSE, kind, within(account)?, within(number)?, 0]));
        match self {
            // As every wallet has it: the last two are not hardened.
            Self::Wallet => Ok(Path([44, 60, 0, 0, within(account)?])),
            Self::Hot(number) => branch(HOT, number),
            Self::Payer(number) => branch(PAYERS, number),
            Self::Named(name) => branch(NAMED, index_of(name)),
            Self::Node(name) => branch(NODES, index_of(name)),
        }
    }
}

fn within(number: u32) -> Result<u32, PhraseError> {
    match number <= ACCOUNT_MAX {
        true => Ok(number),
        false => Err(PhraseError::Number { number }),
    }
}

/// The index of a name: the first 31 bits of its SHA-256, after the very first one.
fn index_of(name: &str) -> u32 {
    let digest = Sha256::digest(name.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) & !HARDENED
}

/// Where a key lies below the phrase: five indices; the fifth only below 44'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path([u32; 5]);

impl Path {
    /// The indices, with the bit of those that are hardened.
    fn indices(self) -> Vec<u32> {
        let [purpose, kind, account, number, last] = self.0;
        let hard = |index| index | HARDENED;
        match purpose {
            PURPOSE => vec![hard(purpose), hard(kind), hard(account), hard(number)],
            _ => vec![hard(purpose), hard(kind), hard(account), number, last],
        }
    }
}

impl core::fmt::Display for Path {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("m")?;
        for index in self.indices() {
            let hardened = if index & HARDENED == 0 { "" } else { "'" };
            write!(f, "/{}{hardened}", index & !HARDENED)?;
        }
        Ok(())
    }
}

/// The words. They are wiped when they are dropped, and cannot be printed by accident.
pub(crate) struct Phrase(Mnemonic);

impl Phrase {
    /// New words, from this entropy: 16 bytes make 12 words, 32 make 24.
    pub(crate) fn from_entropy(entropy: &[u8]) -> Result<Self, PhraseError> {
        let words = Mnemonic::from_entropy_in(Language::English, entropy);
        words.map(Self).map_err(|_| PhraseError::Count {
            count: entropy.len() * 3 / 4,
        })
    }

    /// The words in a text, whatever stands between them.
    pub(crate) fn parse(text: &str) -> Result<Self, PhraseError> {
        let mut words = Zeroizing::new(String::with_capacity(text.len()));
        for word in text.split_whitespace() {
            if !words.is_empty() {
                words.push(' ');
            }
            words.extend(word.chars().map(|letter| letter.to_ascii_lowercase()));
        }
        let parsed = Mnemonic::parse_in_normalized(Language::English, &words);
        parsed.map(Self).map_err(|error| match error {
            bip39::Error::UnknownWord(at) => PhraseError::Word { position: at + 1 },
            bip39::Error::InvalidChecksum => PhraseError::Checksum,
            _ => PhraseError::Count {
                count: words.split(' ').filter(|word| !word.is_empty()).count(),
            },
        })
    }

    /// The words, for the file and for who asks for them. Wiped when dropped.
    pub(crate) fn words(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(256));
        for word in self.0.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// What all keys follow from. There is no further passphrase.
    pub(crate) fn seed(&self) -> Seed {
        Seed(Zeroizing::new(self.0.to_seed_normalized("")))
    }
}

/// What all keys follow from.
pub(crate) struct Seed(Zeroizing<[u8; 64]>);

impl Seed {
    /// The wallet key at this path.
    pub(crate) fn wallet(&self, path: Path) -> Result<WalletKey, PhraseError> {
        let none = |source| PhraseError::Key { path, source };
        let mut key = bip32::XPrv::new(*self.0).map_err(|_| none(KeyError::NotAWalletKey))?;
        for index in path.indices() {
            // Fails for one path of 2^127.
            key = key
                .derive_child(bip32::ChildNumber(index))
                .map_err(|_| none(KeyError::NotAWalletKey))?;
        }
        let secret = Zeroizing::new(key.to_bytes());
        WalletKey::from_bytes(&secret).map_err(none)
    }

    /// The node key at this path, whose indices are all hardened (SLIP-0010).
    pub(crate) fn node(&self, path: Path) -> NodeKey {
        let mut state = hmac_sha512(b"ed25519 seed", &[self.0.as_slice()]);
        for index in path.indices() {
            let (key, chain) = state.split_at(32);
            let hardened = (index | HARDENED).to_be_bytes();
            state = hmac_sha512(chain, &[&[0], key, &hardened]);
        }
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(&state[..32]);
        NodeKey::from_bytes(&secret)
    }
}

fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("a key of any length will do");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that every development chain's accounts follow from.
    const WORDS: &str = "test test test test test test test test test test test junk";

    fn seed() -> Seed {
        Phrase::parse(WORDS).unwrap().seed()
    }

    /// Made with PyPI's `bip_utils` 2.12.3 (`e2e/keys.py` makes them again).
    #[test]
    fn keys_lie_where_the_document_says() {
        let table = include_str!("../../../docs/protocol/keys.md");
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let mut compared = 0;
        for row in rows {
            let cells: Vec<_> = row.trim_matches('|').split('|').collect();
            let [name, account, path, expected] = cells[..] else {
                continue;
            };
            let plain = |cell: &str| cell.trim().trim_matches('`').to_owned();
            let (name, account) = (plain(name), plain(account).parse::<u32>().unwrap());
            let (at, public) = match name.strip_suffix(".node") {
                Some(node) => {
                    let at = Branch::Node(node).path(account).unwrap();
                    (at, seed().node(at).id().to_string())
                }
                None => {
                    let at = Branch::of(&name).path(account).unwrap();
                    (at, seed().wallet(at).unwrap().address().to_string())
                }
            };
            assert_eq!(at.to_string(), plain(path), "{name}");
            assert_eq!(public, plain(expected), "{name}");
            compared += 1;
        }
        assert_eq!(compared, 11, "the table of vectors is not where it was");
    }

    /// Test vector 1 of SLIP-0010 for ed25519, whose seed has 16 bytes.
    #[test]
    fn node_keys_follow_slip_0010() {
        let seed: [u8; 16] = core::array::from_fn(|at| u8::try_from(at).unwrap());
        let master = hmac_sha512(b"ed25519 seed", &[&seed]);
        assert_eq!(
            hex::encode(&master[..32]),
            "2b4be7f19ee27bbf30c667b642d5f4aa69fd169872f8fc3059c08ebae2eb19e7"
        );
        let child = hmac_sha512(
            &master[32..],
            &[&[0], &master[..32], &HARDENED.to_be_bytes()],
        );
        assert_eq!(
            hex::encode(&child[..32]),
            "68e0fe46dfb67e368c75379acec591dad19df3cde26e63b93a8e704f1dade7a3"
        );
    }

    #[test]
    fn words_come_back_as_they_were() {
        for bytes in [16, 32] {
            let phrase = Phrase::from_entropy(&vec![7; bytes]).unwrap();
            let words = phrase.words();
            assert_eq!(words.split(' ').count(), bytes * 3 / 4);
            let spaced = words.replace(' ', "\n\t ").to_uppercase();
            assert_eq!(*Phrase::parse(&spaced).unwrap().words(), *words);
        }
    }

    #[test]
    fn what_is_no_phrase_is_named_without_its_words() {
        let complaint = |text: &str| Phrase::parse(text).err();
        assert_eq!(complaint(""), Some(PhraseError::Count { count: 0 }));
        assert_eq!(
            complaint("test test"),
            Some(PhraseError::Count { count: 2 })
        );
        let misspelt = WORDS.replacen("test", "tesst", 1);
        let error = complaint(&misspelt).unwrap();
        assert_eq!(error, PhraseError::Word { position: 1 });
        assert!(!error.to_string().contains("tesst"));
        let swapped = WORDS.replace("test junk", "junk test");
        assert_eq!(complaint(&swapped), Some(PhraseError::Checksum));
    }

    #[test]
    fn a_number_beyond_the_last_is_refused() {
        let number = ACCOUNT_MAX + 1;
        let refused = Err(PhraseError::Number { number });
        assert_eq!(Branch::Wallet.path(number), refused);
        assert_eq!(Branch::Payer(number).path(0), refused);
        assert!(Branch::Wallet.path(ACCOUNT_MAX).is_ok());
    }

    #[test]
    fn names_that_only_look_like_payers_are_names() {
        assert_eq!(Branch::of("payer-x"), Branch::Named("payer-x"));
        assert_eq!(Branch::of("payer-3"), Branch::Payer(3));
        assert_eq!(Branch::of("hot-0"), Branch::Hot(0));
        assert_eq!(Branch::of("amber"), Branch::Named("amber"));
    }
}
