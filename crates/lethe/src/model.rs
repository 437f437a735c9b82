//! The model that is served: a file of the user's, or the demonstration's.

use std::path::{Path, PathBuf};

use engine::{Engine, LoadError, Options};

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
    #[error("the demonstration model cannot be used")]
    Demo(#[source] LoadError),
    #[error("opening the model was interrupted")]
    Interrupted,
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
    let opened = tokio::task::spawn_blocking(move || match path {
        Some(path) => Engine::open(&path, options).map_err(|source| ModelError::File {
            path: path.clone(),
            source,
        }),
        None => Engine::from_static(engine::demo_model(), options).map_err(ModelError::Demo),
    });
    opened.await.map_err(|_| ModelError::Interrupted)?
}

/// What it is called in the market.
pub(crate) fn market_name(path: Option<&Path>) -> String {
    let stem = path
        .and_then(Path::file_stem)
        .map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| DEMO_MODEL.to_owned())
}
