//! `lethe config`: writes the file with all defaults, and says what holds.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, ValueEnum};
use reqwest::Url;
use serde_json::json;

use super::file::{File, path_named};
use super::{
    ConfigError, Environment, Given, Origin, SHARED, Setting, command, flags, layered, told,
    unknown_variables, usual_path, with,
};
use crate::cli::config::{Act, Config, Role};
use crate::folder::Folder;
use crate::output;

/// A longer piece of a URL's path is taken for a secret: providers of RPC put their keys there.
const PLAIN_PATH_MAX: usize = 15;
/// What is shown in its place.
const HIDDEN: &str = "***";
/// The flag whose default is not clap's to say.
const DATA: &str = "data";

/// `lethe config`.
pub(crate) fn config(args: &Config, said: Option<&Path>) -> Result<(), ConfigError> {
    let texts = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment: Environment = std::env::vars_os().filter_map(texts).collect();
    match args.act {
        Act::Init => {
            let path = init(said, &environment)?;
            match args.json {
                true => output::json(&json!({ "file": path })),
                false => output::line(format!(
                    "Wrote {}: every key with its default, all commented out.",
                    path.display()
                )),
            }
        }
        Act::Show { role } => {
            let (file, rows) = rows(role, said, &environment)?;
            match args.json {
                true => output::json(&json!({ "role": role.name(), "file": file, "values": rows })),
                false => print(role, file.as_deref(), &rows),
            }
        }
    }
    Ok(())
}

/// Writes the file where nobody has one. Where it is.
fn init(said: Option<&Path>, environment: &Environment) -> Result<PathBuf, ConfigError> {
    let path = path_named(said, environment)
        .or_else(|| usual_path(environment))
        .ok_or(ConfigError::Nowhere)?;
    let at = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => ConfigError::Exists { path: path.clone() },
        _ => ConfigError::Write {
            path: path.clone(),
            source,
        },
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(at)?;
    }
    // Addresses of RPC servers often hold a key.
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(at)?;
    file.write_all(template(&command()).as_bytes())
        .map_err(at)?;
    Ok(path)
}

/// Every key with what it means and its default, commented out.
pub(super) fn template(command: &Command) -> String {
    let mut text = "\
# What lethe runs with where neither a flag nor the environment says it.
# Flags go before the environment (LETHE_UP_HTTP for `http` below [up]), that before this file, and this
# file before the defaults. `lethe config show ROLE` says what holds.
# A line that begins with `#` and no space is a key, commented out, with its default or an example.
# A role that runs beside another one needs a data folder of its own: set `data` below its name.

# For all commands (LETHE_DATA, LETHE_NETWORK, LETHE_RPC_URL, LETHE_UNAUDITED); a role's own table goes before.
"
    .to_owned();
    let shared = command.find_subcommand(Role::Consume.name());
    let shared = shared
        .into_iter()
        .flat_map(|leaf| flags(leaf, Some(Role::Consume)))
        .filter(|arg| arg.get_long().is_some_and(|flag| SHARED.contains(&flag)));
    for arg in shared {
        describe(&mut text, arg);
    }
    for role in Role::value_variants() {
        let _ = writeln!(text, "\n[{}]", role.name());
        let leaf = command.find_subcommand(role.name());
        for arg in leaf.into_iter().flat_map(|leaf| flags(leaf, Some(*role))) {
            describe(&mut text, arg);
        }
    }
    text
}

fn describe(text: &mut String, arg: &Arg) {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    for line in help.lines() {
        let _ = writeln!(text, "# {line}");
    }
    let flag = arg.get_long().unwrap_or_default();
    let _ = match default_of(arg) {
        Some(value) => writeln!(text, "#{flag} = {}", literal(arg, &value)),
        None => {
            let names = arg.get_value_names().unwrap_or_default();
            let name = names.first().map_or("VALUE", |name| name.as_str());
            writeln!(text, "#{flag} = {} # no default", literal(arg, name))
        }
    };
}

/// A value as TOML has it.
fn literal(arg: &Arg, value: &str) -> String {
    let plain = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
    let word = match plain {
        true => value.to_owned(),
        false => format!("{value:?}"),
    };
    match arg.get_action() {
        ArgAction::Append => format!("[{word}]"),
        _ => word,
    }
}

fn default_of(arg: &Arg) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return Some(false.to_string());
    }
    let values: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    (!values.is_empty()).then(|| values.join(" "))
}

/// A flag, what it would be, and who says so.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Row {
    key: String,
    value: Option<String>,
    /// `environment`, `file`, `default` or `nobody`.
    origin: &'static str,
    #[serde(rename = "where")]
    place: Option<String>,
}

/// What a role would run with; everything that is set is tried out.
pub(super) fn rows(
    role: Role,
    said: Option<&Path>,
    environment: &Environment,
) -> Result<(Option<PathBuf>, Vec<Row>), ConfigError> {
    let command = command();
    let file = File::find(said, environment, &command)?;
    let Some(leaf) = command.find_subcommand(role.name()) else {
        return Ok((None, Vec::new()));
    };
    unknown_variables(&command, role, environment)?;
    let settings = layered(leaf, Some(role), &BTreeSet::new(), environment, &file)?;
    let words = with(vec!["lethe".into(), role.name().into()], &settings);
    if let Err(error) = command.clone().try_get_matches_from(words)
        // What is missing is shown as missing.
        && error.kind() != clap::error::ErrorKind::MissingRequiredArgument
    {
        let text = told(&error, &settings).unwrap_or_else(|| error.to_string());
        return Err(ConfigError::Value { text });
    }
    let rows = flags(leaf, Some(role)).map(|arg| row(arg, &settings));
    let path = Some(file.path().to_owned()).filter(|path| path.is_file());
    Ok((path, rows.collect()))
}

fn row(arg: &Arg, settings: &[Setting]) -> Row {
    let key = arg.get_long().unwrap_or_default().to_owned();
    let set = settings.iter().find(|setting| setting.flag == key);
    let (value, origin, place) = match set {
        Some(setting) => {
            let value = match &setting.given {
                Given::Switch(is_on) => is_on.to_string(),
                Given::Values(values) => {
                    let shown: Vec<_> = values.iter().map(|value| without_secrets(value)).collect();
                    shown.join(" ")
                }
            };
            let (origin, place) = match &setting.origin {
                Origin::Environment(name) => ("environment", name.clone()),
                Origin::File { path, line } => ("file", format!("{}:{line}", path.display())),
            };
            (Some(value), origin, Some(place))
        }
        None => match default_of(arg) {
            Some(value) => (Some(value), "default", None),
            // The platform's custom.
            None if key == DATA => match Folder::look(None) {
                Ok(usual) => (Some(usual.path().display().to_string()), "default", None),
                Err(_) => (None, "nobody", None),
            },
            None => (None, "nobody", None),
        },
    };
    Row {
        key,
        value,
        origin,
        place,
    }
}

/// A URL without what opens the server behind it; other text as it is.
pub(crate) fn without_secrets(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return text.to_owned();
    };
    if url.cannot_be_a_base() || !text.contains("://") {
        return text.to_owned();
    }
    let secret = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url
            .path()
            .split('/')
            .any(|piece| piece.len() > PLAIN_PATH_MAX);
    if !secret {
        return text.to_owned();
    }
    // None of these can fail for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some(HIDDEN));
    }
    let pieces: Vec<_> = url
        .path()
        .split('/')
        .map(|piece| match piece.len() > PLAIN_PATH_MAX {
            true => HIDDEN,
            false => piece,
        })
        .collect();
    let path = pieces.join("/");
    url.set_path(&path);
    url.to_string()
}

fn print(role: Role, file: Option<&Path>, rows: &[Row]) {
    let from = match file {
        Some(path) => format!("the file is {}", path.display()),
        None => "there is no config file (`lethe config init` writes one)".to_owned(),
    };
    output::line(format!(
        "`lethe {}` would run with this; {from}.\n",
        role.name()
    ));
    let width = rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
    let values = rows.iter().filter_map(|row| row.value.as_ref());
    let wide = values.map(String::len).max().unwrap_or(0).clamp(9, 48);
    for row in rows {
        let value = row.value.as_deref().unwrap_or("(not set)");
        let origin = match (&row.place, row.origin) {
            (Some(place), origin) => format!("{origin} {place}"),
            (None, "nobody") => String::new(),
            (None, origin) => origin.to_owned(),
        };
        let line = format!("  {:width$}  {value:wide$}  {origin}", row.key);
        output::line(output::plain(line.trim_end()));
    }
}
