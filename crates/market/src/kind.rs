//! What an offer is asked for. A card's modality says it; an offer without a
//! card is a chat model's, since vectors whose model nobody names are of no use.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{Card, Offer};

/// What a model answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words, to a conversation.
    #[default]
    Chat,
    /// A vector for each text. Vectors of different models do not compare.
    Embeddings,
}

impl Kind {
    /// What the card of a model that makes embeddings of texts says of its modality.
    pub const TEXT_EMBEDDINGS: &'static str = "text->embeddings";

    /// Of a modality, as `text` or `text->embeddings`.
    pub fn of_modality(modality: &str) -> Self {
        match modality.rsplit_once("->") {
            Some((_, "embedding" | "embeddings")) => Self::Embeddings,
            _ => Self::Chat,
        }
    }

    /// Of what a card says.
    pub fn of_card(card: Option<&Card>) -> Self {
        let modality = card.and_then(|card| card.modality.as_deref());
        modality.map_or(Self::Chat, Self::of_modality)
    }
}

impl Offer {
    /// What it is asked for.
    pub fn kind(&self) -> Kind {
        Kind::of_card(self.card.as_ref())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_says_the_kind() {
        for (modality, kind) in [
            (Kind::TEXT_EMBEDDINGS, Kind::Embeddings),
            ("text+image->embedding", Kind::Embeddings),
            ("text", Kind::Chat),
            ("text+image->text", Kind::Chat),
            ("embeddings", Kind::Chat),
        ] {
            assert_eq!(Kind::of_modality(modality), kind, "{modality}");
        }
        let card = |text: &str| Card::read(text).unwrap();
        let bare = card(r#"{"repo":"a"}"#);
        assert_eq!(Kind::of_card(Some(&bare)), Kind::Chat);
        assert_eq!(Kind::of_card(None), Kind::Chat);
    }
}
