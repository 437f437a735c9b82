//! Sentence encoders: small made-up ones, compared with candle's own BERT.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_transformers::models::bert;
use engine::{EmbedError, Embedder, EmbedderError};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const WIDTH: usize = 32;
const FEED: usize = 48;
const LAYERS: usize = 2;
const POSITIONS: usize = 24;
/// Tokens that are granted.
const LONGEST: usize = 16;
const WORDS: [&str; 14] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "on", "mat", "a",
    "é", "猫",
];

fn config() -> Value {
    json!({
        "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "intermediate_size": FEED, "vocab_size": WORDS.len(),
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02,
        "position_embedding_type": "absolute", "use_cache": true, "pad_token_id": 0,
    })
}

fn tokenizer() -> Value {
    let vocabulary: HashMap<_, _> = WORDS.iter().zip(0..).collect();
    let mark = |id: usize| json!({ "id": WORDS[id], "ids": [id], "tokens": [WORDS[id]] });
    json!({
        "version": "1.0",
        // As published: both are for training, and must not be followed.
        "truncation": { "max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right" },
        "padding": {
            "strategy": { "Fixed": 9 }, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": false, "lowercase": true,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": "[CLS]", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "[SEP]", "type_id": 0 } },
            ],
            "pair": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": { "[CLS]": mark(2), "[SEP]": mark(3) },
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    })
}

/// Names and shapes of all weights.
fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    let mut put = |name: String, shape: &[usize]| all.push((name, shape.to_vec()));
    for (name, rows) in [
        ("word", WORDS.len()),
        ("position", POSITIONS),
        ("token_type", 2),
    ] {
        put(
            format!("embeddings.{name}_embeddings.weight"),
            &[rows, WIDTH],
        );
    }
    let norms = ["attention.output.LayerNorm", "output.LayerNorm"];
    let linears = [
        ("attention.self.query", WIDTH, WIDTH),
        ("attention.self.key", WIDTH, WIDTH),
        ("attention.self.value", WIDTH, WIDTH),
        ("attention.output.dense", WIDTH, WIDTH),
        ("intermediate.dense", FEED, WIDTH),
        ("output.dense", WIDTH, FEED),
    ];
    for part in ["weight", "bias"] {
        put(format!("embeddings.LayerNorm.{part}"), &[WIDTH]);
        for at in 0..LAYERS {
            for name in norms {
                put(format!("encoder.layer.{at}.{name}.{part}"), &[WIDTH]);
            }
        }
    }
    for at in 0..LAYERS {
        for (name, outputs, inputs) in linears {
            let name = format!("encoder.layer.{at}.{name}");
            put(format!("{name}.weight"), &[outputs, inputs]);
            put(format!("{name}.bias"), &[outputs]);
        }
    }
    all
}

/// Random weights, the same at every run.
fn weights(prefix: &str) -> HashMap<String, Tensor> {
    let mut random = StdRng::seed_from_u64(7);
    let mut made = HashMap::new();
    for (name, shape) in shapes() {
        let count: usize = shape.iter().product();
        let numbers: Vec<f32> = (0..count).map(|_| random.random_range(-0.6..0.6)).collect();
        let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
        made.insert(format!("{prefix}{name}"), tensor);
    }
    made
}

fn write(folder: &Path, name: &str, value: &Value) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value.to_string()).unwrap();
}

/// A folder as published.
fn made(prefix: &str, pooling: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(path, "config.json", &config());
    write(path, "tokenizer.json", &tokenizer());
    write(
        path,
        "sentence_bert_config.json",
        &json!({ "max_seq_length": LONGEST }),
    );
    let kind = |name: &str| format!("sentence_transformers.models.{name}");
    let modules = json!([
        { "idx": 0, "name": "0", "path": "", "type": kind("Transformer") },
        { "idx": 1, "name": "1", "path": "1_Pooling", "type": kind("Pooling") },
        { "idx": 2, "name": "2", "path": "2_Normalize", "type": kind("Normalize") },
    ]);
    write(path, "modules.json", &modules);
    write(
        path,
        "1_Pooling/config.json",
        &json!({ pooling: true, "word_embedding_dimension": WIDTH }),
    );
    candle_core::safetensors::save(&weights(prefix), path.join("model.safetensors")).unwrap();
    folder
}

const MEAN: &str = "pooling_mode_mean_tokens";
const FIRST: &str = "pooling_mode_cls_token";

async fn vectors(embedder: &Embedder, texts: &[&str]) -> Vec<Vec<f32>> {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    let mut texts = embedder.read(texts, false).await.unwrap();
    let left = texts.left();
    let all = embedder.embed(&mut texts, left).await.unwrap();
    all.into_iter().map(|one| one.vector).collect()
}

/// The same by candle's own network, of these tokens.
fn expected(tokens: &[u32], pooling: &str) -> Vec<f32> {
    let config: bert::Config = serde_json::from_value(config()).unwrap();
    let builder = candle_nn::VarBuilder::from_tensors(weights(""), DType::F32, &Device::Cpu);
    let model = bert::BertModel::load(builder, &config).unwrap();
    let ids = Tensor::new(tokens, &Device::Cpu)
        .unwrap()
        .unsqueeze(0)
        .unwrap();
    let kinds = ids.zeros_like().unwrap();
    let rows = model
        .forward(&ids, &kinds, None)
        .unwrap()
        .squeeze(0)
        .unwrap();
    let vector = match pooling {
        MEAN => rows.mean(0).unwrap(),
        _ => rows.get(0).unwrap(),
    };
    let vector: Vec<f32> = vector.to_vec1().unwrap();
    let length = vector.iter().map(|n| n * n).sum::<f32>().sqrt();
    vector.iter().map(|n| n / length).collect()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, f32::max)
}

#[tokio::test]
async fn vectors_are_those_of_the_reference_by_either_pooling() {
    // "cats" comes apart, "dog" is not known, "É" is lowered and kept.
    let cases: [(&str, &[u32]); 4] = [
        ("The cats sat", &[2, 5, 6, 8, 7, 3]),
        ("a dog", &[2, 11, 1, 3]),
        ("É 猫猫", &[2, 12, 13, 13, 3]),
        (
            "the mat on the mat on the mat",
            &[2, 5, 10, 9, 5, 10, 9, 5, 10, 3],
        ),
    ];
    for (prefix, pooling) in [("", MEAN), ("bert.", FIRST)] {
        let folder = made(prefix, pooling);
        let embedder = Embedder::open(folder.path(), 1).unwrap();
        assert_eq!(embedder.dimensions(), WIDTH);
        for (text, tokens) in cases {
            let got = vectors(&embedder, &[text]).await.remove(0);
            let off = apart(&got, &expected(tokens, pooling));
            assert!(off < 1e-5, "{text}: {off}");
        }
    }
}

#[tokio::test]
async fn texts_together_get_the_vectors_that_each_gets_alone_in_their_order() {
    const TEXTS: usize = 100;
    let mut random = StdRng::seed_from_u64(11);
    let mut words = |count| {
        let words = (0..count).map(|_| WORDS[random.random_range(5..WORDS.len())]);
        words.collect::<Vec<_>>().join(" ")
    };
    // All lengths, so that texts of any two stand side by side once they are shuffled.
    let mut texts: Vec<String> = (0..TEXTS).map(|n| words(1 + n % 7)).collect();
    for (prefix, pooling) in [("", MEAN), ("bert.", FIRST)] {
        let folder = made(prefix, pooling);
        let embedder = Embedder::open(folder.path(), 1).unwrap();
        texts.shuffle(&mut random);
        let together: Vec<&str> = texts.iter().map(String::as_str).collect();
        let together = vectors(&embedder, &together).await;
        assert_eq!(together.len(), TEXTS);
        for (text, together) in texts.iter().zip(&together) {
            let alone = vectors(&embedder, &[text]).await.remove(0);
            let off = apart(&alone, together);
            assert!(off < 1e-6, "{text}: {off}");
        }
    }
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_or_cut_as_it_is_asked() {
    let folder = made("", MEAN);
    let embedder = Embedder::open(folder.path(), 1).unwrap();
    let long = "cat ".repeat(LONGEST);
    let asked = |cut| embedder.read(vec!["cat".into(), long.clone()], cut);
    let refused = asked(false).await.unwrap_err();
    assert!(
        matches!(refused, EmbedError::TooLong { index: 1, tokens, limit: LONGEST } if tokens == LONGEST + 2),
        "{refused}"
    );
    let mut texts = asked(true).await.unwrap();
    let all = embedder.embed(&mut texts, 2).await.unwrap();
    assert_eq!(all[1].tokens as usize, LONGEST);
    let cats = [&[2][..], &[6; LONGEST - 2], &[3]].concat();
    assert!(apart(&all[1].vector, &expected(&cats, MEAN)) < 1e-5);
    assert_eq!(embedder.card().context_length, LONGEST);
}

#[test]
fn a_folder_that_cannot_be_run_is_refused_with_the_file_and_the_reason() {
    let told = |change: fn(&Path)| {
        let folder = made("", MEAN);
        change(folder.path());
        let Err(error) = Embedder::open(folder.path(), 1) else {
            panic!("it was opened");
        };
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    };
    for (change, words) in [
        (
            (|folder| write(folder, "config.json", &json!({ "model_type": "llama" }))) as fn(&Path),
            "config.json",
        ),
        (
            |folder| {
                let mut config = config();
                config["model_type"] = "roberta".into();
                write(folder, "config.json", &config);
            },
            "model_type roberta",
        ),
        (
            |folder| {
                let mut config = config();
                config["num_attention_heads"] = 5.into();
                write(folder, "config.json", &config);
            },
            "num_attention_heads 5",
        ),
        (
            |folder| {
                let mut config = config();
                config["num_hidden_layers"] = 3.into();
                write(folder, "config.json", &config);
            },
            "encoder.layer.2.attention.self.query.weight is missing",
        ),
        (
            |folder| {
                let mut config = config();
                config["hidden_size"] = 64.into();
                write(folder, "config.json", &config);
            },
            "expected is",
        ),
        (
            |folder| std::fs::remove_file(folder.join("model.safetensors")).unwrap(),
            "model.safetensors\" could not be read",
        ),
        (
            |folder| std::fs::write(folder.join("model.safetensors"), b"nothing").unwrap(),
            "no sound weights",
        ),
        (
            |folder| std::fs::write(folder.join("tokenizer.json"), b"{}").unwrap(),
            "no tokenizer",
        ),
        (
            |folder| {
                write(
                    folder,
                    "1_Pooling/config.json",
                    &json!({ "pooling_mode_max_tokens": true }),
                )
            },
            "mean_tokens or cls_token alone",
        ),
        (
            |folder| {
                write(
                    folder,
                    "modules.json",
                    &json!([{ "path": "2_Dense", "type": "x.Dense" }]),
                )
            },
            "type Dense",
        ),
    ] {
        let told = told(change);
        assert!(told.contains(words), "{words}: {told}");
    }
    let nowhere = Embedder::open(Path::new("/nowhere"), 1);
    assert!(matches!(nowhere, Err(EmbedderError::Read { .. })));
}
