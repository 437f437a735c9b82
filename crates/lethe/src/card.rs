//! The card of what is sold: read from a file, or made of a model's own file.

use std::io::Read;
use std::path::{Path, PathBuf};

use market::{B256, CARD_TEXT_BYTES_MAX, Card, CardError, CardFields, Kind};

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CardFileError {
    #[error("--card {path:?} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("--card {path:?} cannot be used")]
    Card {
        path: PathBuf,
        #[source]
        source: CardError,
    },
    #[error("the model file makes no card")]
    Model(#[source] CardError),
    #[error(
        "the card says {field} {given}, the model file has {found}; correct it, or leave it out"
    )]
    Contradicts {
        field: &'static str,
        given: String,
        found: String,
    },
}

/// Reads a card that somebody wrote.
pub(crate) fn read(path: &Path) -> Result<Card, CardFileError> {
    let unread = |source| CardFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unread)?;
    let limit = u64::try_from(CARD_TEXT_BYTES_MAX).unwrap_or(u64::MAX);
    let mut text = String::new();
    file.take(limit.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(unread)?;
    Card::read(&text).map_err(|source| CardFileError::Card {
        path: path.to_owned(),
        source,
    })
}

/// The card of a model that this process runs: what its file shows, and what
/// somebody says of it beside that.
pub(crate) fn of_model(
    model: &engine::Card,
    kind: Kind,
    given: Option<Card>,
) -> Result<Card, CardFileError> {
    let given = given.map(CardFields::from);
    let said = given.clone().unwrap_or_default();
    let shown = CardFields {
        repo: plain(model.repo.as_deref().unwrap_or(&model.name)),
        revision: None,
        weights: Some(B256::from(model.sha256)),
        quantization: Some(plain(&model.quantization)),
        context_length: u32::try_from(model.context_length_max).ok(),
        modality: Some(modality(kind).to_owned()),
        template: model.template_sha256.map(B256::from),
    };
    agree("weights", said.weights, shown.weights)?;
    agree(
        "quantization",
        said.quantization,
        shown.quantization.clone(),
    )?;
    agree("context_length", said.context_length, shown.context_length)?;
    agree("template", said.template, shown.template)?;
    if said.modality.as_deref().map(Kind::of_modality) != Some(kind) {
        agree("modality", said.modality.clone(), shown.modality.clone())?;
    }
    let fields = CardFields {
        repo: given.map_or(shown.repo, |given| given.repo),
        revision: said.revision,
        modality: said.modality.or(shown.modality),
        ..shown
    };
    Card::new(fields).map_err(CardFileError::Model)
}

/// What the engine's models take and give.
fn modality(kind: Kind) -> &'static str {
    match kind {
        Kind::Chat => "text",
        Kind::Embeddings => Kind::TEXT_EMBEDDINGS,
    }
}

/// What the file shows is so, whatever is said.
fn agree<T: PartialEq + ToString>(
    field: &'static str,
    given: Option<T>,
    found: Option<T>,
) -> Result<(), CardFileError> {
    match given {
        Some(given) if found.as_ref() != Some(&given) => Err(CardFileError::Contradicts {
            field,
            given: given.to_string(),
            found: found.map_or_else(|| "none".to_owned(), |found| found.to_string()),
        }),
        _ => Ok(()),
    }
}

/// A file's text as a card can hold it.
fn plain(text: &str) -> String {
    let plain = |character: char| match character.is_ascii_graphic() {
        true => character,
        false => '-',
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> engine::Card {
        engine::Card {
            name: "A Model é".into(),
            architecture: "llama".into(),
            parameters: 1,
            quantization: "Q8_0".into(),
            context_length: 128,
            vocabulary: 1,
            context_length_max: 512,
            repo: None,
            sha256: [1; 32],
            template_sha256: None,
        }
    }

    #[test]
    fn a_model_file_makes_a_card_that_does_not_depend_on_who_runs_it() {
        let card = of_model(&model(), Kind::Chat, None).unwrap();
        assert_eq!(card.repo, "A-Model--");
        assert_eq!(card.weights, Some(B256::repeat_byte(1)));
        assert_eq!((card.context_length, card.template), (Some(512), None));
        let other = engine::Card {
            context_length: 64,
            ..model()
        };
        assert_eq!(of_model(&other, Kind::Chat, None).unwrap().id(), card.id());
        let named = engine::Card {
            repo: Some("owner/name".into()),
            ..model()
        };
        assert_eq!(
            of_model(&named, Kind::Chat, None).unwrap().repo,
            "owner/name"
        );
    }

    #[test]
    fn what_is_said_beside_the_file_counts_and_what_contradicts_it_does_not() {
        let said = |text: &str| of_model(&model(), Kind::Chat, Some(Card::read(text).unwrap()));
        let card = said(r#"{"repo":"owner/name","revision":"v1","quantization":"Q8_0"}"#).unwrap();
        assert_eq!(
            (card.repo.as_str(), card.revision.as_deref()),
            ("owner/name", Some("v1"))
        );
        assert_eq!(card.weights, Some(B256::repeat_byte(1)));
        for (field, text) in [
            (
                "weights",
                format!(r#"{{"repo":"a","weights":"{}"}}"#, "02".repeat(32)),
            ),
            (
                "quantization",
                r#"{"repo":"a","quantization":"Q4_K"}"#.to_owned(),
            ),
            (
                "context_length",
                r#"{"repo":"a","context_length":9}"#.to_owned(),
            ),
            (
                "template",
                format!(r#"{{"repo":"a","template":"{}"}}"#, "02".repeat(32)),
            ),
        ] {
            let error = said(&text).unwrap_err();
            assert!(
                matches!(error, CardFileError::Contradicts { field: told, .. } if told == field),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_card_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card.json");
        assert!(matches!(read(&path), Err(CardFileError::Read { .. })));
        std::fs::write(&path, r#"{"repo":"owner/name"}"#).unwrap();
        assert_eq!(read(&path).unwrap().repo, "owner/name");
        std::fs::write(&path, " ".repeat(1 << 20)).unwrap();
        assert!(matches!(read(&path), Err(CardFileError::Card { .. })));
    }
}
