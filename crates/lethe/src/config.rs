//! What a command runs with: flags, before the environment (`LETHE_…`),
//! before the config file, before the defaults.
//!
//! A value of the environment or the file is put into the command line as
//! the flag that it stands for, where that flag was not given; then everything
//! is parsed as one command line. So a value means the same and is checked
//! alike wherever it stands, and no role knows where its values come from.

mod file;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, ValueEnum};

pub(crate) use shown::{config, without_secrets};

use crate::cli::config::Role;
use crate::cli::{Cli, NamedBy};
use crate::output;
use file::File;

/// Names the config file.
const VARIABLE: &str = "LETHE_CONFIG";
/// The flag that says where the chain is.
const RPC_URL: &str = "rpc-url";
/// Flags that mean the same for every command that has them: they may stand
/// above the tables of the file, and in variables without a role's name.
const SHARED: [&str; 4] = ["data", "network", RPC_URL, "unaudited"];
/// Flags that are none of a file's business.
const NEVER: [&str; 4] = ["help", "version", "config", "reset"];
/// The command that starts the role `provide` with a model that it finds out about: what
/// is said for that role holds for it, too.
pub(crate) const SELL: &str = "sell";
/// But for what is of the model that is sold, not of the provider. A key above all is
/// sent to no other server than the one that it was given for.
const OF_THE_MODEL: [&str; 5] = ["backend-key-file", "input-price", "name", "ollama", "price"];
/// Flags that are nothing without another one: they go when it goes.
const NEEDS: [(&str, &str); 5] = [
    ("backend-key-file", "backend"),
    ("backend-model", "backend"),
    ("first-chunk-within", "backend"),
    ("stall-after", "backend"),
    ("heeds", "backend"),
];
/// Variables that are no flags: what is logged, what tests make fail, and what the docs
/// have clients take.
const OTHER_VARIABLES: [&str; 8] = [
    VARIABLE,
    "LETHE_API_KEY",
    "LETHE_BASE_URL",
    "LETHE_DASHBOARD_URL",
    "LETHE_FAILPOINT",
    "LETHE_FAULT_DISK",
    "LETHE_FAULT_FSYNC",
    "LETHE_LOG",
];
/// What clap says below an error.
const MORE: &str = "\n\nFor more";
/// How the value of a flag is called that is an amount, or holds some.
const AMOUNT: &str = "AMOUNT";
/// How alike two names must be to be suggested (Jaro-Winkler).
const ALIKE_MIN: f64 = 0.7;

/// Why environment or file are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(
        "no config folder: neither XDG_CONFIG_HOME nor HOME is an absolute path; give --config FILE"
    )]
    Nowhere,
    #[error("config file {path:?} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("config file {path:?} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "config file {path:?} is there already and is not overwritten; move it away, or give another with --config FILE"
    )]
    Exists { path: PathBuf },
    #[error("config file {path:?} is larger than {max} bytes")]
    TooLarge { path: PathBuf, max: u64 },
    #[error("config file {path:?}, line {line}: {message}")]
    Syntax {
        path: PathBuf,
        line: usize,
        message: String,
    },
    #[error("config file {path:?}, line {line}: unknown key `{key}` {place}{hint}")]
    UnknownKey {
        path: PathBuf,
        line: usize,
        key: String,
        place: String,
        hint: String,
    },
    #[error("environment variable {name} sets nothing{hint}")]
    UnknownVariable { name: String, hint: String },
    #[error("{origin}: `{key}` is {found} (allowed: {allowed})")]
    Kind {
        origin: Origin,
        key: String,
        found: String,
        allowed: &'static str,
    },
    #[error("{text}")]
    Value { text: String },
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Origin {
    #[error("environment variable {0}")]
    Environment(String),
    #[error("config file {path:?}, line {line}")]
    File { path: PathBuf, line: usize },
}

/// What a flag is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Given {
    Switch(bool),
    Values(Vec<String>),
}

/// A flag that the environment or the file sets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    flag: String,
    given: Given,
    origin: Origin,
}

impl Setting {
    /// As it stands on a command line.
    fn words(&self) -> Vec<OsString> {
        let flag = &self.flag;
        match &self.given {
            Given::Switch(false) => Vec::new(),
            Given::Switch(true) => vec![format!("--{flag}").into()],
            Given::Values(values) => {
                let words = values
                    .iter()
                    .map(|value| format!("--{flag}={value}").into());
                words.collect()
            }
        }
    }
}

/// The process' variables.
type Environment = BTreeMap<String, String>;

/// The command line of this process with what environment and file add to it.
/// Ends the process where clap would: after help, and after a wrong flag.
pub(crate) fn read() -> Result<Cli, ConfigError> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let environment = environment();
    let cli = parsed(words, &environment)?.map_err(usage)?;
    if is_start(&cli.command) {
        for warning in strange_variables(&declared(), &environment) {
            output::aside(warning);
        }
    }
    Ok(cli)
}

/// Whether it starts what variables are read for, or looks at them.
fn is_start(command: &crate::cli::Command) -> bool {
    use crate::cli::Command;
    matches!(
        command,
        Command::Up(_)
            | Command::Chain(_)
            | Command::Sell(_)
            | Command::Provide(_)
            | Command::Consume(_)
            | Command::Relay(_)
            | Command::Tower(_)
            | Command::Config(_)
            | Command::Doctor(_)
    )
}

/// A wrong flag, told as all that is wrong is. Ends the process where clap has
/// something else to say, such as help.
fn usage(error: clap::Error) -> ConfigError {
    let text = error.render().to_string();
    // Of a wrong value it is said what is allowed: help says no more.
    let text = match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            text.split(MORE).next().unwrap_or(&text)
        }
        _ => &text,
    };
    match text.strip_prefix("error: ") {
        Some(text) => ConfigError::Value {
            text: text.trim_end().to_owned(),
        },
        None => error.exit(),
    }
}

/// The same, of any command line and environment. The inner error is clap's own.
fn parsed(
    words: Vec<OsString>,
    environment: &Environment,
) -> Result<Result<Cli, clap::Error>, ConfigError> {
    let command = command();
    let lenient = command.clone().ignore_errors(true);
    // Help, or the version: nothing more is asked for.
    let settings = match lenient.try_get_matches_from(&words) {
        Err(error) => return Ok(Err(error)),
        Ok(matches) => settings_for(&command, &matches, &words, environment)?,
    };
    let is_set = || settings.iter().any(|setting| setting.flag == RPC_URL);
    let named_by = match stands(&words, RPC_URL) {
        true => NamedBy::Flag,
        false if is_set() => NamedBy::Settings,
        false => NamedBy::Nobody,
    };
    let words = with(words, &settings);
    let matches = command.clone().try_get_matches_from(words);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = cli.map(|mut cli| {
        cli.command.set_named_by(named_by);
        cli
    });
    let checked = cli.and_then(|cli| cli.check().map(|()| cli));
    match checked {
        Err(error) => Err(match told(&error, &settings) {
            Some(text) => ConfigError::Value { text },
            None => return Ok(Err(error)),
        }),
        Ok(cli) => Ok(Ok(cli)),
    }
}

/// Tries a command line out: whether a process would go on with it. Ends this
/// one where clap would.
pub(crate) fn tried(words: &[String]) -> Result<(), ConfigError> {
    let words = words.iter().map(OsString::from).collect();
    parsed(words, &environment())?.map_err(usage)?;
    Ok(())
}

/// The variables of this process that are text.
fn environment() -> Environment {
    let texts = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(texts).collect()
}

/// Every command with its flags.
pub(crate) fn declared() -> Command {
    let mut command = Cli::command();
    for role in Role::value_variants() {
        let name = role.name();
        command = command.mut_subcommand(name, |role| {
            role.after_help(format!(
                "Each flag may also stand as LETHE_{}_FLAG in the environment or below [{name}] in the config file: \
                 `lethe config init` writes one, `lethe config show {name}` says what holds.",
                name.to_uppercase()
            ))
        });
    }
    command.mut_subcommand(SELL, |sell| {
        sell.after_help(
            "Each flag that `lethe provide` has, too, may also stand as LETHE_PROVIDE_FLAG in the environment or below \
             [provide] in the config file, but for prices and --backend-key-file, which are of one model.",
        )
    })
}

/// The same; each command has also the flags of those above it.
fn command() -> Command {
    let mut command = amounts_may_be_negative(declared());
    command.build();
    command
}

/// Lets `-3` be read as an amount, which is then refused as one, and not be
/// taken for a flag that does not exist.
fn amounts_may_be_negative(command: Command) -> Command {
    let is_amount = |arg: &Arg| {
        let mut names = arg.get_value_names().unwrap_or_default().iter();
        names.any(|name| name.contains(AMOUNT))
    };
    let command = command.mut_args(|arg| match is_amount(&arg) {
        true => arg.allow_negative_numbers(true),
        false => arg,
    });
    command.mut_subcommands(amounts_may_be_negative)
}

/// What environment and file add to a command line that was read so far as it can be.
fn settings_for(
    command: &Command,
    matches: &ArgMatches,
    words: &[OsString],
    environment: &Environment,
) -> Result<Vec<Setting>, ConfigError> {
    let said = matches.get_one::<PathBuf>("config").cloned();
    let (mut leaf, mut matches) = (command, matches);
    let mut names = Vec::new();
    while let Some((name, below)) = matches.subcommand() {
        let Some(found) = leaf.find_subcommand(name) else {
            break;
        };
        names.push(name);
        (leaf, matches) = (found, below);
    }
    let role = match names.as_slice() {
        [SELL] => Some(Role::Provide),
        [name] => Role::of(name),
        _ => None,
    };
    if let Some(role) = role {
        unknown_variables(command, role, environment)?;
    }
    if flags(leaf, role).next().is_none() {
        return Ok(Vec::new());
    }
    let file = File::find(said.as_deref(), environment, command)?;
    // Also what is wrong on the command line was given there.
    let given = flags(leaf, role).filter(|arg| {
        let source = matches.value_source(arg.get_id().as_str());
        source == Some(ValueSource::CommandLine)
            || arg.get_long().is_some_and(|flag| stands(words, flag))
    });
    let given: BTreeSet<&str> = given.filter_map(Arg::get_long).collect();
    layered(leaf, role, &given, environment, &file)
}

/// Whether a flag stands on a command line, right or wrong.
fn stands(words: &[OsString], flag: &str) -> bool {
    let words = words.iter().take_while(|word| *word != "--");
    let mut words = words.filter_map(|word| word.to_str()?.strip_prefix("--"));
    words.any(|word| word.split('=').next() == Some(flag))
}

/// The flags of a command that environment and file may set.
fn flags(leaf: &Command, role: Option<Role>) -> impl Iterator<Item = &Arg> {
    leaf.get_arguments().filter(move |arg| {
        arg.get_long().is_some_and(|long| match role {
            Some(_) if leaf.get_name() == SELL => {
                !NEVER.contains(&long) && !OF_THE_MODEL.contains(&long)
            }
            Some(_) => !NEVER.contains(&long),
            None => SHARED.contains(&long),
        })
    })
}

/// The settings of each layer for the flags that no layer above it has set or
/// made impossible.
fn layered(
    leaf: &Command,
    role: Option<Role>,
    given: &BTreeSet<&str>,
    environment: &Environment,
    file: &File,
) -> Result<Vec<Setting>, ConfigError> {
    let mut above: BTreeSet<String> = given.iter().map(|flag| (*flag).to_owned()).collect();
    let mut settings = Vec::new();
    let own = role.map(Role::name);
    for layer in 0..4 {
        let mut of_layer = Vec::new();
        for arg in flags(leaf, role) {
            let flag = arg.get_long().unwrap_or_default();
            if above.contains(flag) {
                continue;
            }
            let shared = SHARED.contains(&flag);
            let found = match (layer, own) {
                (0, Some(own)) => variable(arg, &name_of(Some(own), flag), environment)?,
                (1, _) if shared => variable(arg, &name_of(None, flag), environment)?,
                (2, Some(own)) => file.setting(Some(own), arg)?,
                (3, _) if shared => file.setting(None, arg)?,
                _ => None,
            };
            of_layer.extend(found.filter(|_| !is_excluded(leaf, arg, &above)));
        }
        above.extend(of_layer.iter().map(|setting| setting.flag.clone()));
        settings.extend(of_layer);
    }
    // A value of what is not used says nothing.
    settings.retain(|setting| {
        let mut needed = NEEDS.iter().filter(|(flag, _)| setting.flag == *flag);
        needed.all(|(_, needed)| above.contains(*needed))
    });
    Ok(settings)
}

/// Whether a flag cannot stand beside those that are set above it.
fn is_excluded(leaf: &Command, arg: &Arg, above: &BTreeSet<String>) -> bool {
    let conflicts = |one: &Arg| {
        let own = leaf.get_arg_conflicts_with(one);
        let own = own.into_iter().filter_map(Arg::get_long);
        let others = leaf.get_arguments().filter(|other| {
            let theirs = leaf.get_arg_conflicts_with(other);
            theirs.iter().any(|their| their.get_id() == one.get_id())
        });
        let mut all = own.chain(others.filter_map(Arg::get_long));
        all.any(|other| above.contains(other))
    };
    let needed = NEEDS
        .iter()
        .filter(|(flag, _)| arg.get_long() == Some(flag));
    let mut needed = needed.filter_map(|(_, needed)| {
        let mut all = leaf.get_arguments();
        all.find(|other| other.get_long() == Some(needed))
    });
    conflicts(arg) || needed.any(conflicts)
}

/// The variable that sets a flag.
fn name_of(role: Option<&str>, flag: &str) -> String {
    let name = match role {
        Some(role) => format!("LETHE_{role}_{flag}"),
        None => format!("LETHE_{flag}"),
    };
    name.to_uppercase().replace('-', "_")
}

/// What a variable sets; an empty one nothing. Several values are parted by spaces.
fn variable(
    arg: &Arg,
    name: &str,
    environment: &Environment,
) -> Result<Option<Setting>, ConfigError> {
    let Some(text) = environment.get(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let flag = arg.get_long().unwrap_or_default().to_owned();
    let origin = Origin::Environment(name.to_owned());
    let given = match arg.get_action() {
        ArgAction::SetTrue => match text.as_str() {
            "true" => Given::Switch(true),
            "false" => Given::Switch(false),
            _ => {
                return Err(ConfigError::Kind {
                    origin,
                    key: flag,
                    found: format!("{text:?}"),
                    allowed: "true, false",
                });
            }
        },
        ArgAction::Append => Given::Values(text.split_whitespace().map(str::to_owned).collect()),
        _ => Given::Values(vec![text.clone()]),
    };
    Ok(Some(Setting {
        flag,
        given,
        origin,
    }))
}

/// Refuses a variable with a role's name that sets none of its flags.
fn unknown_variables(
    command: &Command,
    role: Role,
    environment: &Environment,
) -> Result<(), ConfigError> {
    let own = Some(role.name());
    let leaf = command.find_subcommand(role.name()).into_iter();
    let known = leaf.flat_map(|leaf| flags(leaf, Some(role)));
    let known = known.filter_map(Arg::get_long);
    let known: Vec<String> = known.map(|flag| name_of(own, flag)).collect();
    let prefix = name_of(own, "");
    let unknown = environment
        .keys()
        .find(|name| name.starts_with(&prefix) && !known.contains(name));
    match unknown {
        Some(name) => Err(ConfigError::UnknownVariable {
            name: name.clone(),
            hint: hint(name, known.iter().map(String::as_str)),
        }),
        None => Ok(()),
    }
}

/// A warning for each variable that begins as ours do and sets nothing of any
/// role. Others may have set it for programs of theirs, so it is no more than that.
fn strange_variables(command: &Command, environment: &Environment) -> Vec<String> {
    let mut known: BTreeSet<String> = OTHER_VARIABLES.map(str::to_owned).into();
    known.extend(SHARED.map(|flag| name_of(None, flag)));
    for role in Role::value_variants() {
        let leaf = command.find_subcommand(role.name()).into_iter();
        let flags = leaf.flat_map(|leaf| flags(leaf, Some(*role)));
        let names = flags.filter_map(Arg::get_long);
        known.extend(names.map(|flag| name_of(Some(role.name()), flag)));
        // Of no role's own flags, but of those that it shares.
        known.extend(SHARED.map(|flag| name_of(Some(role.name()), flag)));
    }
    let ours = environment
        .keys()
        .filter(|name| name.starts_with("LETHE_") && !known.contains(*name));
    let told = |name: &String| {
        let hint = hint(name, known.iter().map(String::as_str));
        format!("WARNING: environment variable {name} sets nothing{hint}")
    };
    ours.map(told).collect()
}

/// `; did you mean …?`, if something is alike.
fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    // What all variables begin with makes none of them alike.
    let own = |name: &'_ str| name.strip_prefix("LETHE_").unwrap_or(name).to_owned();
    let rated = known.map(|name| (strsim::jaro_winkler(&own(word), &own(name)), name));
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best {
        Some((alike, name)) if alike >= ALIKE_MIN => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

/// The command line with the settings in it, before what is no flag any more.
fn with(mut words: Vec<OsString>, settings: &[Setting]) -> Vec<OsString> {
    let end = words.iter().position(|word| word == "--");
    let end = end.unwrap_or(words.len());
    words.splice(end..end, settings.iter().flat_map(Setting::words));
    words
}

/// Clap's text with where the flags in it were set; none if they all stand on
/// the command line.
fn told(error: &clap::Error, settings: &[Setting]) -> Option<String> {
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ");
    // How the command is called says nothing to who set a variable or a file.
    let text = text.split("\n\nUsage:").next().unwrap_or(text);
    let text = text.split(MORE).next().unwrap_or(text).trim_end();
    let has = |flag: &str| {
        let flag = format!("--{flag}");
        text.match_indices(&flag).any(|(at, _)| {
            let rest = text[at + flag.len()..].chars().next();
            rest.is_none_or(|next| !next.is_alphanumeric() && next != '-')
        })
    };
    let meant: Vec<String> = settings
        .iter()
        .filter(|setting| has(&setting.flag))
        .map(|setting| format!("`{}` is set in {}", setting.flag, setting.origin))
        .collect();
    if meant.is_empty() {
        return None;
    }
    Some(format!("{text}\n  {}", meant.join("\n  ")))
}

/// Where the config file is if nobody says so.
fn usual_path(environment: &Environment) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = Path::new(environment.get(name)?);
        path.is_absolute().then(|| path.to_owned())
    };
    let home = || absolute("HOME").map(|home| home.join(".config"));
    let base = absolute("XDG_CONFIG_HOME").or_else(home)?;
    Some(base.join("lethe/config.toml"))
}

#[cfg(test)]
mod tests;
