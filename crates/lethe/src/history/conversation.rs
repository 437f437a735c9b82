//! A conversation, and how it is written before it is encrypted: JSON, filled
//! up with blanks to steps of 4 KiB, so that its size tells little. Pure.

use std::fmt;
use std::str::FromStr;

use market::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Sizes come in multiples of this.
const STEP_BYTES: usize = 4096;
/// The only form there is so far.
const VERSION: u32 = 1;
/// Digits of an id.
const ID_DIGITS: usize = 10;
/// The longest title that a list shows.
const TITLE_CHARS_MAX: usize = 60;

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    User,
    Assistant,
}

/// What was said, as the API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) content: String,
}

/// The name of a conversation and of its file: random, it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Id(String);

/// A name that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is not the id of a conversation: {ID_DIGITS} digits of 0-9 and a-f, as `lethe chats` shows them"
)]
pub(crate) struct IdError {
    text: String,
}

impl Id {
    fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; ID_DIGITS / 2]>()))
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == ID_DIGITS && text.bytes().all(digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(IdError {
            text: text.chars().take(64).collect(),
        })
    }
}

impl TryFrom<String> for Id {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is said, by whom, to which model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Conversation {
    version: u32,
    /// Also in the file, so that one file cannot be put in another's place.
    pub(crate) id: Id,
    pub(crate) model: String,
    pub(crate) changed: Timestamp,
    pub(crate) messages: Vec<Message>,
}

/// What a list says of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) id: Id,
    pub(crate) title: String,
    pub(crate) model: String,
    pub(crate) questions: usize,
    pub(crate) changed: Timestamp,
}

/// Why what was decrypted is not a conversation.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    #[error("what is in it is no conversation")]
    Json(#[source] serde_json::Error),
    #[error("it has version {found}, known is {VERSION}; a newer lethe wrote it")]
    Version { found: u32 },
    #[error("it holds conversation {found}")]
    OtherId { found: Id },
}

/// Enough to tell versions apart.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Conversation {
    /// A new one, in which nothing is said yet.
    pub(crate) fn begin(model: String, now: Timestamp) -> Self {
        Self {
            version: VERSION,
            id: Id::random(),
            model,
            changed: now,
            messages: Vec::new(),
        }
    }

    /// What a list says of it; its title is how the first question begins.
    pub(crate) fn summary(&self) -> Summary {
        let asked = |message: &&Message| message.role == Role::User;
        let first = self.messages.iter().find(asked);
        Summary {
            id: self.id.clone(),
            title: first.map_or(String::new(), |message| title(&message.content)),
            model: self.model.clone(),
            questions: self.messages.iter().filter(asked).count(),
            changed: self.changed,
        }
    }

    /// As bytes, in a multiple of 4 KiB.
    pub(super) fn to_padded(&self) -> Zeroizing<Vec<u8>> {
        let json = serde_json::to_vec(self).expect("it has only string keys");
        let mut bytes = Zeroizing::new(json);
        let padded = bytes.len().next_multiple_of(STEP_BYTES);
        bytes.resize(padded, b' ');
        bytes
    }

    /// From those bytes.
    pub(super) fn from_padded(bytes: &[u8]) -> Result<Self, FormatError> {
        let found: Versioned = serde_json::from_slice(bytes).map_err(FormatError::Json)?;
        if found.version != VERSION {
            return Err(FormatError::Version {
                found: found.version,
            });
        }
        serde_json::from_slice(bytes).map_err(FormatError::Json)
    }
}

/// The first line of a question, short and without what moves a cursor.
fn title(question: &str) -> String {
    let line = question.lines().find(|line| !line.trim().is_empty());
    let plain = line.unwrap_or_default().trim().chars();
    let mut plain = plain.filter(|character| !character.is_control());
    let mut title: String = plain.by_ref().take(TITLE_CHARS_MAX).collect();
    if plain.next().is_some() {
        title.push('…');
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(content: &str) -> Conversation {
        let mut conversation = Conversation::begin("m".into(), Timestamp(7));
        conversation.messages.push(Message {
            role: Role::User,
            content: content.to_owned(),
        });
        conversation
    }

    #[test]
    fn it_comes_in_steps_and_reads_back() {
        for length in [0, 1, 3900, 4000, 4096, 9000] {
            let conversation = said(&"x".repeat(length));
            let bytes = conversation.to_padded();
            assert_eq!(bytes.len() % STEP_BYTES, 0);
            assert!(bytes.len() < length + 2 * STEP_BYTES);
            assert_eq!(Conversation::from_padded(&bytes).unwrap(), conversation);
        }
        assert_eq!(
            said("a").to_padded().len(),
            said(&"a".repeat(900)).to_padded().len()
        );
    }

    #[test]
    fn what_is_no_conversation_is_an_error() {
        for bytes in [&b""[..], b"{}", b"nonsense", b"{\"version\":1}"] {
            assert!(matches!(
                Conversation::from_padded(bytes),
                Err(FormatError::Json(_))
            ));
        }
        let newer = br#"{"version":2,"what":"is not known"}"#;
        assert!(matches!(
            Conversation::from_padded(newer),
            Err(FormatError::Version { found: 2 })
        ));
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_folder() {
        let id = Id::random();
        assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
        for text in [
            "",
            "../../keys",
            "key",
            "0123456789abcdef",
            "012345678G",
            "0123/56789",
        ] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_title_is_one_short_line() {
        assert_eq!(title("\n  What is it?\nAnd more"), "What is it?");
        assert_eq!(title("\u{1b}[2Jred"), "[2Jred");
        let long = title(&"ü".repeat(100));
        assert_eq!(long.chars().count(), TITLE_CHARS_MAX + 1);
        assert_eq!(said("one").summary().questions, 1);
    }
}
