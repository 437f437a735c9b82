//! The config file: a table for each role, keys as the flags are called.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, ValueEnum};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    ConfigError, Environment, Given, Origin, SHARED, Setting, VARIABLE, flags, hint, usual_path,
};
use crate::cli::config::Role;

/// The largest file that is read.
const BYTES_MAX: u64 = 64 << 10;

/// A value as it stands there.
#[derive(Debug)]
enum Value {
    Switch(bool),
    One(String),
    Many(Vec<String>),
    /// What no flag takes.
    Other(&'static str),
}

#[derive(Debug)]
struct Entry {
    value: Value,
    line: usize,
}

/// What a file says, all of its keys known.
#[derive(Debug, Default)]
pub(super) struct File {
    path: PathBuf,
    entries: BTreeMap<(Option<&'static str>, String), Entry>,
}

impl File {
    /// The file that is named, or the usual one; nothing if that is not there.
    pub(super) fn find(
        said: Option<&Path>,
        environment: &Environment,
        command: &Command,
    ) -> Result<Self, ConfigError> {
        let named = path_named(said, environment);
        let Some(path) = named.clone().or_else(|| usual_path(environment)) else {
            return Ok(Self::default());
        };
        let text = match text(&path) {
            Err(ConfigError::Read { source, .. })
                if named.is_none() && is_absent(source.kind()) =>
            {
                return Ok(Self::default());
            }
            text => text?,
        };
        Self::parse(path, &text, command)
    }

    /// What this text says; `path` is for errors.
    pub(super) fn parse(path: PathBuf, text: &str, command: &Command) -> Result<Self, ConfigError> {
        let reader = Reader {
            path,
            text,
            command,
        };
        let mut entries = BTreeMap::new();
        let table = DeTable::parse(text).map_err(|error| reader.syntax(&error))?;
        for (key, value) in table.get_ref() {
            let role = Role::of(key.get_ref());
            let below = value.get_ref().as_table();
            match (role, below) {
                (Some(role), Some(below)) => {
                    for (key, value) in below {
                        reader.is_flag(role, key)?;
                        entries.insert(
                            (Some(role.name()), key.get_ref().to_string()),
                            reader.entry(key, value),
                        );
                    }
                }
                (None, None) if SHARED.contains(&key.get_ref().as_ref()) => {
                    entries.insert((None, key.get_ref().to_string()), reader.entry(key, value));
                }
                _ => return Err(reader.unknown_above(key, below.is_some())),
            }
        }
        Ok(Self {
            path: reader.path,
            entries,
        })
    }

    /// Where it is; empty if there is none.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of a flag, below a role's name or above the tables.
    pub(super) fn setting(
        &self,
        role: Option<&'static str>,
        arg: &Arg,
    ) -> Result<Option<Setting>, ConfigError> {
        let flag = arg.get_long().unwrap_or_default().to_owned();
        let Some(entry) = self.entries.get(&(role, flag.clone())) else {
            return Ok(None);
        };
        let origin = Origin::File {
            path: self.path.clone(),
            line: entry.line,
        };
        let (switch, many) = match arg.get_action() {
            ArgAction::SetTrue => (true, false),
            ArgAction::Append => (false, true),
            _ => (false, false),
        };
        let given = match &entry.value {
            Value::Switch(is_on) if switch => Given::Switch(*is_on),
            Value::One(value) if !switch => Given::Values(vec![value.clone()]),
            Value::Many(values) if many => Given::Values(values.clone()),
            other => {
                return Err(ConfigError::Kind {
                    origin,
                    key: flag,
                    found: match other {
                        Value::Switch(is_on) => is_on.to_string(),
                        Value::One(text) => format!("{text:?}"),
                        Value::Many(_) => "a list".to_owned(),
                        Value::Other(kind) => format!("a {kind}"),
                    },
                    allowed: match (switch, many) {
                        (true, _) => "true, false",
                        (_, true) => "a text, or a list of texts",
                        _ => "one text or number",
                    },
                });
            }
        };
        Ok(Some(Setting {
            flag,
            given,
            origin,
        }))
    }
}

/// The file that flag or environment name.
pub(super) fn path_named(said: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let variable = environment.get(VARIABLE).filter(|path| !path.is_empty());
    said.map(Path::to_owned)
        .or_else(|| variable.map(PathBuf::from))
}

/// There is no file, nor may there be one.
fn is_absent(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(kind, NotFound | NotADirectory)
}

fn text(path: &Path) -> Result<String, ConfigError> {
    let at = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(at)?;
    file.take(BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(at)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            max: BYTES_MAX,
        });
    }
    Ok(text)
}

/// A text that is being read.
struct Reader<'a> {
    path: PathBuf,
    text: &'a str,
    command: &'a Command,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError::Syntax {
            path: self.path.clone(),
            line: self.line(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        }
    }

    fn entry<K>(&self, key: &Spanned<K>, value: &Spanned<DeValue<'_>>) -> Entry {
        Entry {
            value: taken(value.get_ref()),
            line: self.line(key.span().start),
        }
    }

    fn is_flag(
        &self,
        role: Role,
        key: &Spanned<std::borrow::Cow<'_, str>>,
    ) -> Result<(), ConfigError> {
        let leaf = self.command.find_subcommand(role.name());
        let known: Vec<&str> = leaf
            .into_iter()
            .flat_map(|leaf| flags(leaf, Some(role)))
            .filter_map(Arg::get_long)
            .collect();
        if known.contains(&key.get_ref().as_ref()) {
            return Ok(());
        }
        Err(ConfigError::UnknownKey {
            path: self.path.clone(),
            line: self.line(key.span().start),
            key: key.get_ref().to_string(),
            place: format!("below [{}]", role.name()),
            hint: hint(key.get_ref(), known.into_iter()),
        })
    }

    fn unknown_above(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        is_table: bool,
    ) -> ConfigError {
        let roles = Role::value_variants().iter().map(|role| role.name());
        let name = key.get_ref();
        let (place, hint) = match is_table {
            true => ("(a table is a role's)", hint(name, roles)),
            false => (
                "above the tables, where only data, network, rpc-url and unaudited may stand",
                hint(name, SHARED.into_iter()),
            ),
        };
        ConfigError::UnknownKey {
            path: self.path.clone(),
            line: self.line(key.span().start),
            key: name.to_string(),
            place: place.to_owned(),
            hint,
        }
    }
}

fn taken(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Boolean(is_on) => Value::Switch(*is_on),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| match taken(item.get_ref()) {
                Value::One(text) => Some(text),
                _ => None,
            });
            match texts.collect::<Option<Vec<_>>>() {
                Some(texts) => Value::Many(texts),
                None => Value::Other("list of something else than texts and numbers"),
            }
        }
        DeValue::String(text) => Value::One(text.to_string()),
        DeValue::Integer(number) => {
            let read = i128::from_str_radix(number.as_str(), number.radix());
            Value::One(read.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        DeValue::Float(number) => Value::One(number.as_str().to_owned()),
        DeValue::Datetime(_) => Value::Other("date"),
        DeValue::Table(_) => Value::Other("table"),
    }
}
