//! The model that is served: a file of the user's, or the demonstration's.

use std::path::{Path, PathBuf};

use engine::{Embedder, EmbedderError, Engine, LoadError, Options, TemplateError};
use tokio::time::Instant;
use tracing::info;

/// The demonstration model's name in the market.
const DEMO_MODEL: &str = "lethe-demo";

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error("model file {path:?} cannot be used")]
    File {
        path: PathBuf,
        #[source]
        source: LoadError,
    },
    #[error(
        "model file {path:?} has no chat template, which one that is made for chat has \
         (tokenizer.chat_template): take its -it or -instruct version, or give it a template: \
         docs/operate/models.md, \"Without a chat template\""
    )]
    NoTemplate { path: PathBuf },
    #[error("model folder {path:?} cannot be used")]
    Folder {
        path: PathBuf,
        #[source]
        source: Box<EmbedderError>,
    },
    #[error("the demonstration model cannot be used")]
    Demo(#[source] LoadError),
    #[error("opening the model was interrupted")]
    Interrupted,
}

/// What is said of a file that does not open.
fn unusable(path: PathBuf, source: LoadError) -> ModelError {
    match source {
        LoadError::Template {
            source: TemplateError::Missing,
        } => ModelError::NoTemplate { path },
        source => ModelError::File { path, source },
    }
}

/// Opens it; off the runtime, since a large file takes its time.
pub(crate) async fn open(
    path: Option<&Path>,
    slots: usize,
    queue: usize,
) -> Result<Engine, ModelError> {
    let path = path.map(Path::to_owned);
    let options = Options {
        slots,
        queue,
        ..Options::default()
    };
    let begun = Instant::now();
    if let Some(path) = &path {
        // All of it is read and hashed, which takes about a second for each GiB.
        info!(?path, "the model is being loaded and its digest computed");
    }
    let opened = tokio::task::spawn_blocking(move || match path {
        Some(path) => Engine::open(&path, options).map_err(|source| unusable(path, source)),
        None => Engine::from_static(engine::demo_model(), options).map_err(ModelError::Demo),
    });
    let engine = opened.await.map_err(|_| ModelError::Interrupted)??;
    let seconds = begun.elapsed().as_secs();
    info!(seconds, "the model is ready");
    Ok(engine)
}

/// Opens a folder with a sentence encoder, off the runtime as well.
pub(crate) async fn open_embedder(path: &Path, slots: usize) -> Result<Embedder, ModelError> {
    info!(?path, "the model is being loaded and its digest computed");
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        Embedder::open(&path, slots).map_err(|source| ModelError::Folder {
            path,
            source: Box::new(source),
        })
    });
    let embedder = opened.await.map_err(|_| ModelError::Interrupted)??;
    info!("the model is ready");
    Ok(embedder)
}

/// What it is called in the market.
pub(crate) fn market_name(path: Option<&Path>) -> String {
    let stem = path
        .and_then(Path::file_stem)
        .map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| DEMO_MODEL.to_owned())
}
