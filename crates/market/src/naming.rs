//! Names of models: which ones people can tell apart, and how a request says
//! which card behind a name it means. Anybody can register any name.

use crate::{CardId, Model, ModelId};

/// The longest name of a model, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Which of the offers of one name are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// Nothing is said.
    Any,
    /// Those whose card's id begins with these digits.
    Card(&'a str),
    /// Those without a card.
    Cardless,
}

/// What a request's `model` says: a name, or a name and a card (`name@3f9a0c41d2e7`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The name, or a model's id.
    pub name: &'a str,
    /// Which offers of that name.
    pub which: Which<'a>,
}

impl<'a> Asked<'a> {
    /// Fewer digits name no card.
    pub const DIGITS_MIN: usize = 8;
    const DIGITS_MAX: usize = 64;
    const CARDLESS: &'static str = "cardless";

    /// Takes a text apart. What is behind an `@` and is no card belongs to the name.
    pub fn read(text: &'a str) -> Self {
        let plain = Self {
            name: text,
            which: Which::Any,
        };
        let Some((name, card)) = text.rsplit_once('@') else {
            return plain;
        };
        let digits = Self::DIGITS_MIN..=Self::DIGITS_MAX;
        let is_hex = || card.bytes().all(|byte| byte.is_ascii_hexdigit());
        match card {
            _ if name.is_empty() => plain,
            Self::CARDLESS => Self {
                name,
                which: Which::Cardless,
            },
            _ if digits.contains(&card.len()) && is_hex() => Self {
                name,
                which: Which::Card(card),
            },
            _ => plain,
        }
    }

    /// The text that means the offers of a name with this card, or those without one.
    pub fn qualified(name: &str, card: Option<CardId>) -> String {
        match card {
            Some(card) => format!("{name}@{card}"),
            None => format!("{name}@{}", Self::CARDLESS),
        }
    }

    /// Whether an offer of that name with this card is meant.
    pub fn means(&self, card: Option<CardId>) -> bool {
        match (self.which, card) {
            (Which::Any, _) | (Which::Cardless, None) => true,
            (Which::Card(digits), Some(card)) => card.begins_with(digits),
            (Which::Card(_), None) | (Which::Cardless, Some(_)) => false,
        }
    }
}

/// Why a registered name is not offered to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Nothing to read.
    #[error("it is empty")]
    Empty,
    /// More than anybody types.
    #[error("it has {bytes} bytes (allowed: {NAME_BYTES_MAX})")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// Controls, what cannot be seen, what turns the direction of writing.
    #[error("it has the character U+{:04X}, which controls text or cannot be seen", *.character as u32)]
    Unseen {
        /// The first.
        character: char,
    },
    /// Spaces that are not seen as such.
    #[error("it begins or ends with a space, or has two in a row")]
    Spaces,
    /// It would be taken for another name with a card.
    #[error(
        "it ends as if it named a card (\"@\" and {} hex digits, or \"@cardless\")",
        Asked::DIGITS_MIN
    )]
    Qualified,
    /// It would be taken for another model's id.
    #[error("it has the form of a model's id")]
    Id,
}

impl Model {
    /// Why a name cannot be offered, if so. Whether it looks like another one is a different question.
    pub fn name_fault(name: &str) -> Option<NameFault> {
        if name.trim().is_empty() {
            return Some(NameFault::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Some(NameFault::TooLong { bytes: name.len() });
        }
        if let Some(character) = name.chars().find(|character| is_unseen(*character)) {
            return Some(NameFault::Unseen { character });
        }
        if name != name.trim() || name.contains("  ") {
            return Some(NameFault::Spaces);
        }
        if Asked::read(name).which != Which::Any {
            return Some(NameFault::Qualified);
        }
        name.parse::<ModelId>().ok().map(|_| NameFault::Id)
    }
}

/// Controls, marks of direction, and what takes no place or looks like a
/// space: Unicode's default-ignorable characters and white space, but for the
/// plain space.
fn is_unseen(character: char) -> bool {
    let is_blank = character.is_whitespace() && character != ' ';
    is_blank
        || character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    #[test]
    fn a_card_is_told_from_a_name() {
        let read = |text| {
            let asked = Asked::read(text);
            (asked.name, asked.which)
        };
        assert_eq!(read("m"), ("m", Which::Any));
        assert_eq!(read("a/m@0011aaFF"), ("a/m", Which::Card("0011aaFF")));
        assert_eq!(read("m@cardless"), ("m", Which::Cardless));
        assert_eq!(read("m@v2@0011aaff"), ("m@v2", Which::Card("0011aaff")));
        for plain in ["m@0011aaf", "m@latest", "@0011aaff", "m@", "@cardless"] {
            assert_eq!(read(plain), (plain, Which::Any));
        }
        let long = format!("m@{}", "0".repeat(65));
        assert_eq!(read(&long), (long.as_str(), Which::Any));
    }

    #[test]
    fn what_is_qualified_means_that_card_and_no_other() {
        let cards = [None, Some(1), Some(2)].map(|n| n.map(|n| CardId(B256::repeat_byte(n))));
        for meant in cards {
            let text = Asked::qualified("m", meant);
            for card in cards {
                assert_eq!(Asked::read(&text).means(card), card == meant, "{text}");
                assert!(Asked::read("m").means(card));
            }
        }
    }

    #[test]
    fn a_name_that_people_cannot_tell_is_not_offered() {
        let fault = Model::name_fault;
        for plain in [
            "m",
            "owner/Model-1.5 (new)",
            "модель",
            "型",
            "a@b",
            "m@latest",
        ] {
            assert_eq!(fault(plain), None, "{plain}");
        }
        assert_eq!(fault(" "), Some(NameFault::Empty));
        let long = "m".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(fault(&long), Some(NameFault::TooLong { bytes: 129 }));
        for character in [
            '\0',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{a0}',
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2028}',
            '\u{2066}',
            '\u{3000}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            let name = format!("m{character}n");
            assert_eq!(
                fault(&name),
                Some(NameFault::Unseen { character }),
                "{name:?}"
            );
        }
        for spaced in [" m", "m ", "m  n"] {
            assert_eq!(fault(spaced), Some(NameFault::Spaces), "{spaced:?}");
        }
        for qualified in ["m@0011aaff", "m@cardless"] {
            assert_eq!(fault(qualified), Some(NameFault::Qualified));
        }
        let id = ModelId(B256::repeat_byte(7)).to_string();
        assert_eq!(fault(&id), Some(NameFault::Id));
        assert_eq!(fault(id.trim_start_matches("0x")), Some(NameFault::Id));
    }
}
