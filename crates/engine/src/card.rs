//! What a model says about itself, and what its file shows.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::gguf::{Contents, Value};
use crate::model::Model;

/// Names longer than this are cut.
const NAME_CHARACTERS_MAX: usize = 128;

/// A model in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The file's own name for it, or its architecture.
    pub name: String,
    /// One of the supported architectures, as the file spells it.
    pub architecture: String,
    /// How many numbers were learnt.
    pub parameters: u64,
    /// The storage type that most of them have, such as `Q8_0`.
    pub quantization: String,
    /// How many tokens a request and its answer may have together.
    pub context_length: usize,
    /// How many tokens the vocabulary has.
    pub vocabulary: usize,
    /// How many tokens the model was made for; what is granted may be less.
    pub context_length_max: usize,
    /// Where the file says that it is published.
    pub repo: Option<String>,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// SHA-256 of its chat template, if it has one.
    pub template_sha256: Option<[u8; 32]>,
}

impl Card {
    pub(crate) fn new(
        contents: &Contents<'_>,
        model: &Model,
        context: usize,
        sha256: [u8; 32],
    ) -> Self {
        let architecture = model.config().architecture.name();
        let name = contents
            .metadata
            .get("general.name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
            .unwrap_or(architecture);
        Self {
            name: name.chars().take(NAME_CHARACTERS_MAX).collect(),
            architecture: architecture.to_owned(),
            parameters: model.parameters(),
            quantization: quantization(contents),
            context_length: context,
            context_length_max: model.config().context,
            repo: repo(contents),
            template_sha256: template(contents).map(|text| Sha256::digest(text).into()),
            vocabulary: model.vocabulary(),
            sha256,
        }
    }
}

impl Card {
    /// Of a sentence encoder's folder; the weights say the rest.
    pub(crate) fn of_encoder(
        folder: &Path,
        config: &crate::embedder::Config,
        sha256: [u8; 32],
    ) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        Self {
            name: name.chars().take(NAME_CHARACTERS_MAX).collect(),
            architecture: "bert".to_owned(),
            parameters: 0,
            quantization: String::new(),
            context_length: config.tokens_max(),
            context_length_max: config.tokens_max(),
            vocabulary: config.vocabulary(),
            repo: None,
            sha256,
            template_sha256: None,
        }
    }
}

/// The chat template as the file has it.
pub(crate) fn template<'a>(contents: &Contents<'a>) -> Option<&'a str> {
    let template = contents.metadata.get("tokenizer.chat_template");
    template.and_then(Value::as_str)
}

/// `owner/name`, from one of the keys that converters write it to.
fn repo(contents: &Contents<'_>) -> Option<String> {
    const KEYS: [&str; 3] = [
        "general.repo_url",
        "general.source.repo_url",
        "general.source.huggingface.repository",
    ];
    let mut found = KEYS.iter().filter_map(|key| contents.metadata.get(key));
    let repo = found.find_map(Value::as_str)?;
    let repo = repo.trim_start_matches("https://huggingface.co/");
    Some(repo.chars().take(NAME_CHARACTERS_MAX).collect())
}

/// The storage type that holds the most numbers.
fn quantization(contents: &Contents<'_>) -> String {
    let mut sums: Vec<(String, u64)> = Vec::new();
    for info in contents.tensors.values() {
        let kind = format!("{:?}", info.kind);
        let numbers: u64 = info.dimensions.iter().map(|&size| size as u64).product();
        match sums.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, sum)) => *sum += numbers,
            None => sums.push((kind, numbers)),
        }
    }
    sums.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let name = sums
        .into_iter()
        .next()
        .map(|(name, _)| name)
        .unwrap_or_default();
    // candle writes Q4K where everyone else writes Q4_K.
    match name.strip_suffix('K') {
        Some(bits) if bits.starts_with('Q') => format!("{bits}_K"),
        _ => name,
    }
}
