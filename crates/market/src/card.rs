//! A model's card: what exactly is behind a name. Names in the registry are
//! free, so two providers of one name may sell different weights; offers are
//! taken for one another only where their cards are the same.
//!
//! A card is its provider's word, signed with the rest of its descriptor.
//! Nothing here proves that the answers come from those weights.

use core::fmt;
use core::ops::Deref;

use alloy_primitives::{B256, hex};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The longest of a card's texts, in bytes.
const TEXT_BYTES_MAX: usize = 128;

/// The longest text of a file that holds a card, in bytes.
pub const CARD_TEXT_BYTES_MAX: usize = 4096;

/// What a card says; all of it but `repo` may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CardFields {
    /// Where the weights are published, as `owner/name`.
    pub repo: String,
    /// Which state of it: a commit, a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// SHA-256 of the file of the weights; of several files, of the list of their digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<B256>,
    /// The precision of the weights, as `int8`, `fp8` or `Q4_K_M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Tokens that the model was made for; what is granted is the offer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// What goes in and comes out, as `text`, `text+image->text` or `text->embeddings`; see [`crate::Kind`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// SHA-256 of the chat template's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<B256>,
}

impl CardFields {
    const NAMES: [&'static str; 7] = [
        "repo",
        "revision",
        "weights",
        "quantization",
        "context_length",
        "modality",
        "template",
    ];

    fn check(&self) -> Result<(), CardError> {
        let texts = [
            ("repo", Some(&self.repo)),
            ("revision", self.revision.as_ref()),
            ("quantization", self.quantization.as_ref()),
            ("modality", self.modality.as_ref()),
        ];
        for (field, text) in texts {
            let Some(text) = text else { continue };
            let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
            if !plain || text.is_empty() || text.len() > TEXT_BYTES_MAX {
                let got = text.chars().take(TEXT_BYTES_MAX).collect();
                return Err(CardError::Text { field, got });
            }
        }
        match self.context_length {
            Some(0) => Err(CardError::NoContext),
            _ => Ok(()),
        }
    }

    /// What the id is a hash of: a line for each field, whether it is there or not.
    fn canonical(&self) -> String {
        let digest = |digest: Option<B256>| digest.map(hex::encode).unwrap_or_default();
        let length = self.context_length.map(|length| length.to_string());
        let values = [
            self.repo.clone(),
            self.revision.clone().unwrap_or_default(),
            digest(self.weights),
            self.quantization.clone().unwrap_or_default(),
            length.unwrap_or_default(),
            self.modality.clone().unwrap_or_default(),
            digest(self.template),
        ];
        let mut text = String::from("lethe model card v1\n");
        for (name, value) in Self::NAMES.iter().zip(values) {
            text.push_str(name);
            text.push('=');
            text.push_str(&value);
            text.push('\n');
        }
        text
    }
}

/// What exactly a model is. Once this exists, its texts are short and plain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CardFields", into = "CardFields")]
pub struct Card {
    fields: CardFields,
    id: CardId,
}

impl Card {
    /// Checks the fields.
    pub fn new(fields: CardFields) -> Result<Self, CardError> {
        fields.check()?;
        let id = CardId(B256::from_slice(&Sha256::digest(fields.canonical())));
        Ok(Self { fields, id })
    }

    /// Reads what somebody wrote by hand: an unknown field is an error there,
    /// while a descriptor may have fields of a later version.
    pub fn read(text: &str) -> Result<Self, CardError> {
        if text.len() > CARD_TEXT_BYTES_MAX {
            return Err(CardError::TooLong { bytes: text.len() });
        }
        let given: Map<String, Value> = serde_json::from_str(text).map_err(CardError::Malformed)?;
        let unknown = |name: &&String| !CardFields::NAMES.contains(&name.as_str());
        if let Some(name) = given.keys().find(unknown) {
            let field = name.chars().take(TEXT_BYTES_MAX).collect();
            return Err(CardError::Unknown { field });
        }
        let fields = serde_json::from_value(given.into()).map_err(CardError::Malformed)?;
        Self::new(fields)
    }

    /// What tells it from others.
    pub fn id(&self) -> CardId {
        self.id
    }
}

impl Deref for Card {
    type Target = CardFields;

    fn deref(&self) -> &CardFields {
        &self.fields
    }
}

impl TryFrom<CardFields> for Card {
    type Error = CardError;

    fn try_from(fields: CardFields) -> Result<Self, CardError> {
        Self::new(fields)
    }
}

impl From<Card> for CardFields {
    fn from(card: Card) -> Self {
        card.fields
    }
}

/// What tells cards apart: the SHA-256 of a card's canonical text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardId(pub B256);

impl CardId {
    /// Digits that a card is shown with.
    pub const SHOWN: usize = 12;

    /// Its first digits, for people.
    pub fn prefix(&self) -> String {
        self.first(Self::SHOWN)
    }

    /// So many of its first digits.
    pub fn first(&self, digits: usize) -> String {
        let mut text = self.to_string();
        text.truncate(digits);
        text
    }

    /// Whether it begins with these digits.
    pub fn begins_with(&self, digits: &str) -> bool {
        let own = self.to_string();
        let begins = own.get(..digits.len());
        begins.is_some_and(|begins| begins.eq_ignore_ascii_case(digits))
    }
}

impl fmt::Display for CardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for CardId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why something is no card.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// Not JSON, or a field of another form.
    #[error("a card is a JSON object with the fields {}", CardFields::NAMES.join(", "))]
    Malformed(#[source] serde_json::Error),
    /// More text than any card has.
    #[error("a card has {bytes} bytes, allowed are {CARD_TEXT_BYTES_MAX}")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// A field that cards do not have.
    #[error("a card has no field {field:?}, allowed are {}", CardFields::NAMES.join(", "))]
    Unknown {
        /// Its name.
        field: String,
    },
    /// A text that is empty, long or odd.
    #[error(
        "card.{field} is {got:?}, allowed are 1 to {TEXT_BYTES_MAX} printable ASCII characters without spaces"
    )]
    Text {
        /// The field.
        field: &'static str,
        /// What it says.
        got: String,
    },
    /// A model that nothing fits into.
    #[error("card.context_length is 0, allowed is 1 and more, or nothing")]
    NoContext,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn fields() -> CardFields {
        CardFields {
            repo: "example/counting-1b".into(),
            revision: Some("main".into()),
            weights: Some(B256::repeat_byte(0x11)),
            quantization: Some("Q8_0".into()),
            context_length: Some(4096),
            modality: Some("text".into()),
            template: Some(B256::repeat_byte(0x22)),
        }
    }

    /// The vectors of docs/protocol/cards.md.
    #[test]
    fn an_id_is_the_hash_of_the_canonical_text() {
        let ones = "11".repeat(32);
        let twos = "22".repeat(32);
        let text = format!(
            "lethe model card v1\nrepo=example/counting-1b\nrevision=main\nweights={ones}\n\
             quantization=Q8_0\ncontext_length=4096\nmodality=text\ntemplate={twos}\n"
        );
        assert_eq!(fields().canonical(), text);
        let whole = Card::new(fields()).unwrap().id();
        let bare = Card::read(r#"{"repo":"example/counting-1b"}"#)
            .unwrap()
            .id();
        let published = include_str!("../../../docs/protocol/cards.md");
        for id in [whole, bare] {
            assert!(published.contains(&format!("`{id}`")), "{id}");
        }
    }

    #[test]
    fn every_field_tells_cards_apart() {
        let other = |change: fn(&mut CardFields)| {
            let mut fields = fields();
            change(&mut fields);
            Card::new(fields).unwrap().id()
        };
        let ids = [
            other(|_| {}),
            other(|it| it.repo = "example/counting-2b".into()),
            other(|it| it.revision = None),
            other(|it| it.weights = Some(B256::ZERO)),
            other(|it| it.quantization = Some("Q4_K".into())),
            other(|it| it.context_length = Some(4097)),
            other(|it| it.modality = None),
            other(|it| it.template = None),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{at}");
        }
    }

    #[test]
    fn what_is_no_card_is_refused_with_the_field_and_what_is_allowed() {
        let long = format!(r#"{{"repo":"{}"}}"#, "a".repeat(TEXT_BYTES_MAX + 1));
        for (text, told) in [
            ("[]", "a JSON object with the fields repo, revision"),
            ("{}", "a JSON object with the fields repo, revision"),
            (r#"{"repo":""}"#, "card.repo"),
            (&long, "card.repo"),
            ("{\"repo\":\"a\u{200b}b\"}", "card.repo"),
            (r#"{"repo":"a\nweights=00"}"#, "card.repo"),
            (r#"{"repo":"a","revision":"a b"}"#, "card.revision"),
            (
                r#"{"repo":"a","quantisation":"int8"}"#,
                "no field \"quantisation\"",
            ),
            (r#"{"repo":"a","context_length":0}"#, "card.context_length"),
            (r#"{"repo":"a","weights":"0x12"}"#, "a JSON object"),
        ] {
            let error = Card::read(text).unwrap_err();
            assert!(error.to_string().contains(told), "{text}: {error}");
        }
        let huge = " ".repeat(CARD_TEXT_BYTES_MAX + 1);
        assert!(matches!(Card::read(&huge), Err(CardError::TooLong { .. })));
    }

    #[test]
    fn a_card_is_read_as_it_is_written_and_a_digest_needs_no_0x() {
        let card = Card::new(fields()).unwrap();
        let text = serde_json::to_string(&card).unwrap();
        assert_eq!(Card::read(&text).unwrap(), card);
        assert_eq!(Card::read(&text.replace("0x", "")).unwrap(), card);
        // A descriptor may have fields of a later version.
        let later = text.replacen('{', r#"{"licence":"MIT","#, 1);
        assert_eq!(serde_json::from_str::<Card>(&later).unwrap(), card);
        assert!(Card::read(&later).is_err());
    }

    #[test]
    fn an_id_is_named_by_its_first_digits() {
        let id = Card::new(fields()).unwrap().id();
        assert_eq!(id.prefix().len(), 12);
        assert!(id.begins_with(&id.prefix().to_uppercase()));
        assert!(id.begins_with(&id.to_string()));
        assert!(!id.begins_with(&format!("{id}0")));
        assert!(!id.begins_with("é"));
    }
}
