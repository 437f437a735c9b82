//! `lethe model`: models on this machine. Pulled ones are files of the data
//! folder, see [`pulled`]; those of a local Ollama are its own, and only listed.

mod hub;
pub(crate) mod ollama;
mod pull;
pub(crate) mod pulled;
pub(crate) mod reference;

use std::path::PathBuf;

use indicatif::HumanBytes;
use serde_json::json;

use crate::cli::model::{Act, Model, Pull};
use crate::folder::{Folder, FolderError};
use crate::output;
use hub::{HUB_URL, Hub, HubError};
use ollama::{Offered, OllamaError};
use pull::{Brought, PullError, Wanted, pull};
use pulled::Pulled;

/// Names the server, as other tools of the field have it.
const ENDPOINT_VARIABLE: &str = "HF_ENDPOINT";
/// Holds a token for it.
const TOKEN_VARIABLE: &str = "HF_TOKEN";

/// Why the model command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelsError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("{path:?} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no pulled model {asked:?}; {known}")]
    Unknown { asked: String, known: String },
    #[error("several pulled models are called {asked:?}; say which: {names}")]
    Ambiguous { asked: String, names: String },
}

/// `lethe model`.
pub(crate) async fn model(args: Model) -> Result<(), ModelsError> {
    let folder = Folder::look(args.data.folder)?;
    match args.act {
        Act::Pull(pull) => bring(&folder, pull, args.json).await,
        Act::List { ollama } => {
            let pulled = pulled::list(&pulled::folder(&folder))?;
            let offered = ollama::list(&ollama, None).await;
            match args.json {
                true => output::json(&listed(&pulled, &offered)),
                false => print(&folder, &pulled, &offered, &ollama),
            }
            Ok(())
        }
        Act::Remove { name } => {
            let models = pulled::folder(&folder);
            let meant = pulled::find(&models, &name)?;
            let bytes = pulled::remove(&models, &meant)?;
            let model = meant.reference.to_string();
            match args.json {
                true => output::json(&json!({ "model": model, "bytes": bytes })),
                false => output::line(format!(
                    "Removed {model}: {} are free again",
                    HumanBytes(bytes)
                )),
            }
            Ok(())
        }
    }
}

async fn bring(folder: &Folder, args: Pull, silent: bool) -> Result<(), ModelsError> {
    let variable = |name| {
        let said = std::env::var_os(name).and_then(|said| said.into_string().ok());
        said.filter(|said| !said.is_empty())
    };
    let url = args.mirror.or_else(|| variable(ENDPOINT_VARIABLE));
    let hub = Hub::new(url.as_deref().unwrap_or(HUB_URL), variable(TOKEN_VARIABLE))?;
    let models = pulled::folder(folder);
    std::fs::create_dir_all(&models).map_err(|source| ModelsError::Write {
        path: models.clone(),
        source,
    })?;
    let wanted = Wanted {
        reference: &args.reference,
        revision: &args.revision,
        sha256: args.sha256,
        bytes_max: args.size_max.saturating_mul(1 << 30),
        silent,
    };
    let Brought {
        note,
        path,
        was_there,
    } = pull(&models, &hub, &wanted).await?;
    let name = args.reference.name();
    if silent {
        output::json(&json!({
            "name": name,
            "model": args.reference.to_string(),
            "path": path,
            "bytes": note.bytes,
            "sha256": note.sha256,
            "revision": note.revision,
            "was_there": was_there,
        }));
        return Ok(());
    }
    let (done, flag) = (
        if was_there {
            "Is there already"
        } else {
            "Pulled"
        },
        folder.flag(),
    );
    output::line(format!(
        "{done}: {} ({}, SHA-256 {})\nSell it: lethe sell {name} --price AMOUNT{flag}",
        path.display(),
        HumanBytes(note.bytes),
        note.sha256,
    ));
    Ok(())
}

fn listed(pulled: &[Pulled], offered: &Result<Vec<Offered>, OllamaError>) -> serde_json::Value {
    let one = |one: &Pulled| {
        json!({
            "name": one.reference.name(),
            "model": one.reference.to_string(),
            "path": one.path,
            "bytes": one.held,
            "whole": one.is_whole,
            "sha256": one.note.as_ref().map(|note| note.sha256),
            "revision": one.note.as_ref().and_then(|note| note.revision.as_ref()),
        })
    };
    let pulled: Vec<_> = pulled.iter().map(one).collect();
    match offered {
        Ok(offered) => json!({ "pulled": pulled, "ollama": offered }),
        Err(_) => json!({ "pulled": pulled, "ollama": null }),
    }
}

fn print(
    folder: &Folder,
    pulled: &[Pulled],
    offered: &Result<Vec<Offered>, OllamaError>,
    ollama: &str,
) {
    if pulled.is_empty() {
        let flag = folder.flag();
        output::line(format!(
            "Nothing was pulled; `lethe model pull hf:ORG/REPO:FILE{flag}` brings a model."
        ));
    }
    for one in pulled {
        let of = one
            .note
            .as_ref()
            .map(|note| HumanBytes(note.bytes).to_string());
        let how = match (one.is_whole, &one.note) {
            (true, Some(note)) => format!("SHA-256 {}", note.sha256),
            (true, None) => "checksum not known; pull it again".to_owned(),
            (false, _) => format!(
                "a part of {}; `lethe model pull {}{}` goes on",
                of.as_deref().unwrap_or("it"),
                one.reference,
                folder.flag()
            ),
        };
        output::line(format!(
            "{}  {}  {how}",
            one.reference,
            HumanBytes(one.held)
        ));
    }
    match offered {
        Ok(offered) => {
            for one in offered {
                let size = HumanBytes(one.size).to_string();
                let line = format!("ollama:{}  {size}  digest {}", one.name, one.digest);
                output::line(output::plain(&line));
            }
        }
        // Who has none wants to hear nothing of it; who has one hears why it is not listed.
        Err(error) if error.is_somebody() => {
            output::aside(format!("Ollama: {}", output::with_causes(error)));
        }
        Err(_) => output::line(format!("No Ollama answers at {}.", output::plain(ollama))),
    }
}
