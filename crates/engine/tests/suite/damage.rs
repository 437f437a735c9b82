//! Files that are not what they should be: always an error, never a panic.

use std::error::Error;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use engine::{Engine, LoadError, Options};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::made::{self, Recipe, ask, hear, options, recipe};

/// The whole chain of causes, as a user sees it.
fn explain(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn refused(bytes: Vec<u8>) -> String {
    match Engine::from_bytes(Arc::from(bytes), options()) {
        Ok(_) => panic!("this file should not open"),
        Err(error) => explain(&error),
    }
}

fn small() -> Recipe {
    Recipe {
        width: 32,
        layers: 1,
        heads: 2,
        key_value_heads: 1,
        feed_width: 32,
        ..recipe("llama")
    }
}

/// The file with every occurrence of a text replaced by one of the same length.
fn altered(old: &str, new: &str) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = made::file(&small());
    let mut found = false;
    for at in 0..bytes.len() - old.len() {
        if &bytes[at..at + old.len()] == old.as_bytes() {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
            found = true;
        }
    }
    assert!(found, "{old}");
    bytes
}

#[test]
fn what_is_wrong_is_said() {
    let format = "model file is damaged or of another format: ";
    assert_eq!(
        refused(Vec::new()),
        format!("{format}not a GGUF file: it starts with [], expected \"GGUF\"")
    );
    assert!(
        refused(b"PK\x03\x04 a zip archive".to_vec()).contains("it starts with [50, 4b, 03, 04]")
    );
    assert!(refused(b"GGUF\x01\0\0\0\0\0\0\0".to_vec()).contains("version 1 is not supported"));
    assert_eq!(
        refused(altered("llama", "mamba")),
        "model cannot be run: architecture \"mamba\" is not supported; supported are llama, qwen2, qwen3, gemma3 and phi3"
    );
    assert!(
        refused(altered("llama.block_count", "llama.bleck_count"))
            .contains("\"llama.block_count\" is missing, expected an integer")
    );
    assert!(
        refused(altered("blk.0.ffn_up", "blk.1.ffn_up"))
            .contains("tensor \"blk.0.ffn_up.weight\" is missing")
    );
    assert!(
        refused(altered(
            "tokenizer.chat_template",
            "tokenizer.that_template"
        ))
        .contains("this is not a chat model")
    );
    assert!(
        refused(altered("tokenizer.ggml.tokens", "tokenizer.ggml.toggle"))
            .contains("\"tokenizer.ggml.tokens\" is missing")
    );
    assert!(
        refused(altered("gpt-2", "gpt-9"))
            .contains("pre-tokenizer \"gpt-9\" is not supported; supported are gpt-2")
    );
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let mut bytes = made::file(&small());
    let name = b"blk.0.attn_norm.weight";
    let at = bytes
        .windows(name.len())
        .position(|window| window == name)
        .unwrap()
        + name.len();
    // One dimension follows, as a count and a size.
    bytes[at + 4..at + 12].copy_from_slice(&16u64.to_le_bytes());
    assert!(
        refused(bytes).contains(
            "tensor \"blk.0.attn_norm.weight\" has dimensions [16], the metadata says [32]"
        )
    );
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    let file = made::file(&small());
    for (at, what) in [(8, "the tensor count"), (16, "the metadata count")] {
        for count in [1 << 20, 1 << 40, u64::MAX] {
            let mut bytes = file.clone();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            let text = refused(bytes);
            assert!(
                text.contains(what) && text.contains("file is cut off"),
                "{text}"
            );
        }
    }
    let name = b"token_embd.weight";
    let at = file
        .windows(name.len())
        .position(|window| window == name)
        .unwrap()
        + name.len();
    for size in [1 << 40, u64::MAX - 31, u64::MAX / 64 * 32] {
        let mut bytes = file.clone();
        bytes[at + 4..at + 12].copy_from_slice(&(size / 32 * 32).to_le_bytes());
        let text = refused(bytes);
        assert!(text.contains("past the end of the file"), "{text}");
    }
}

#[test]
fn a_file_cut_anywhere_does_not_open() {
    let file = made::file(&small());
    let cuts = (0..256).chain((256..file.len()).step_by(97));
    for cut in cuts {
        // The last few bytes are padding that nothing needs.
        if cut + 32 < file.len() {
            refused(file[..cut].to_vec());
        }
    }
}

/// Flips bits all over a file; what still opens must still answer or say why not.
#[tokio::test]
async fn no_flipped_bit_brings_the_engine_down() {
    for kind in [GgmlDType::F32, GgmlDType::Q8_0] {
        let file = made::file(&Recipe { kind, ..small() });
        // Metadata and tensor table are where a bit can do harm.
        let table = file.len().min(9000);
        let mut random = StdRng::seed_from_u64(3);
        for round in 0..150 {
            let mut bytes = file.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(4..if round % 8 == 0 { bytes.len() } else { table });
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            if let Ok(engine) = Engine::from_bytes(
                Arc::from(bytes),
                Options {
                    context_max: 64,
                    ..options()
                },
            ) {
                // Whether it goes well is the file's affair; that it ends is ours.
                if let Ok(mut answer) = engine.chat(&ask("hi", 3)).await {
                    use futures_util::StreamExt;
                    while let Some(event) = answer.next().await {
                        if event.is_err() {
                            break;
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_sound_file_opens_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, made::file(&small())).unwrap();
    let engine = Engine::open(&path, options()).unwrap();
    assert_eq!(
        hear(&engine, &ask("hi", 3))
            .await
            .unwrap()
            .completion_tokens,
        3
    );
    let missing = Engine::open(&folder.path().join("none.gguf"), options()).unwrap_err();
    assert!(explain(&missing).starts_with("model file could not be read: "));
}

#[test]
fn options_out_of_range_are_named() {
    let bytes: Arc<[u8]> = Arc::from(made::file(&small()));
    let with = |options: Options| {
        Engine::from_bytes(Arc::clone(&bytes), options)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        with(Options {
            slots: 0,
            ..options()
        }),
        "option slots is 0, allowed is 1 to 256"
    );
    assert_eq!(
        with(Options {
            threads: 0,
            ..options()
        }),
        "option threads is 0, allowed is 1 to 512"
    );
}
