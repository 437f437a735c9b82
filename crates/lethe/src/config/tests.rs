//! Layers, refusals, and the file that is written.

use std::path::PathBuf;

use super::*;
use crate::cli::Command as Chosen;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// A file with this text.
fn kept(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn read_with(args: &[&str], text: &str, pairs: &[(&str, &str)]) -> Result<Cli, String> {
    let (_folder, path) = kept(text);
    let mut said = words(&["lethe", "--config", path.to_str().unwrap()]);
    said.extend(words(args));
    match parsed(said, &environment(pairs)) {
        Ok(Ok(cli)) => Ok(cli),
        Ok(Err(error)) => Err(format!("clap: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn consume(args: &[&str], text: &str, pairs: &[(&str, &str)]) -> crate::cli::Consume {
    let args = [&["consume"], args].concat();
    match read_with(&args, text, pairs).unwrap().command {
        Chosen::Consume(consume) => consume,
        other => panic!("{other:?}"),
    }
}

const FILE: &str = "\
rpc-url = [\"http://shared:1\", \"http://shared:2\"]
[consume]
http = \"127.0.0.1:1003\"
paced = true
deposit = 3
withdraw-idle = 30
";

#[test]
fn names_of_hosts_stand_wherever_flags_may() {
    let file = "[consume]\nallow-host = [\"a.lan\", \"b.lan\"]\nallow-admin-host = \"c.lan\"\n";
    let from_file = consume(&[], file, &[]).hosts;
    assert_eq!(from_file.allow_host, ["a.lan", "b.lan"]);
    assert_eq!(from_file.all(), ["a.lan", "b.lan", "c.lan"]);
    let variables = [("LETHE_CONSUME_ALLOW_HOST", "d.lan *")];
    let from_variables = consume(&[], file, &variables).hosts;
    assert_eq!(from_variables.allow_host, ["d.lan", "*"]);
    for wrong in ["http://a.lan", "a.lan:8082", "a b", ""] {
        let refused = read_with(&["consume", "--allow-host", wrong], "", &[]).unwrap_err();
        assert!(refused.contains("without scheme and port"), "{refused}");
    }
}

#[test]
fn each_layer_goes_before_the_ones_below_it() {
    let http = |args: &[&str], pairs| consume(args, FILE, pairs).http.port();
    let variables = [("LETHE_CONSUME_HTTP", "127.0.0.1:1002")];
    assert_eq!(http(&["--http", "127.0.0.1:1001"], &variables), 1001);
    assert_eq!(http(&[], &variables), 1002);
    assert_eq!(http(&[], &[]), 1003);
    assert_eq!(consume(&[], "", &[]).http.port(), 8082);

    let all = consume(&[], FILE, &[]);
    assert_eq!(all.network.rpc_url, ["http://shared:1", "http://shared:2"]);
    assert_eq!(
        (
            all.funding.deposit[0].to_string(),
            all.funding.withdraw_idle
        ),
        ("3".to_owned(), Some(30))
    );
    assert!(all.paced);
    // A variable takes back what the file switches on, and an empty one says nothing.
    let off = consume(
        &[],
        FILE,
        &[("LETHE_CONSUME_PACED", "false"), ("LETHE_RPC_URL", "")],
    );
    assert!(!off.paced);
    assert_eq!(off.network.rpc_url.len(), 2);
    // What is meant for one role goes before what is meant for all.
    let urls = |pairs: &[(&str, &str)]| consume(&[], FILE, pairs).network.rpc_url;
    let both = [
        ("LETHE_RPC_URL", "http://a http://b"),
        ("LETHE_CONSUME_RPC_URL", "http://c"),
    ];
    assert_eq!(urls(&both), ["http://c"]);
    assert_eq!(urls(&both[..1]), ["http://a", "http://b"]);
}

#[test]
fn other_commands_take_what_is_for_all() {
    let cli = read_with(
        &["chat", "--", "--odd question"],
        "data = \"/somewhere\"",
        &[],
    );
    let Chosen::Chat(chat) = cli.unwrap().command else {
        panic!("another command");
    };
    assert_eq!(chat.data.folder, Some(PathBuf::from("/somewhere")));
    assert_eq!(chat.question.as_deref(), Some("--odd question"));
    // Commands below commands, too; and who has no such flag does not read the file.
    let cli = read_with(&["route", "explain", "m"], "data = \"/somewhere\"", &[]);
    let Chosen::Route(route) = cli.unwrap().command else {
        panic!("another command");
    };
    assert_eq!(route.data.folder, Some(PathBuf::from("/somewhere")));
    assert!(read_with(&["completions", "bash"], "no file at all", &[]).is_ok());
}

#[test]
fn what_contradicts_a_flag_gives_way_with_what_needs_it() {
    let file = "[provide]\nmodel = \"m\"\nbackend = \"http://b/v1\"\nstall-after = 5\n";
    let provide = |args: &[&str]| {
        let args = [&["provide"], args].concat();
        match read_with(&args, file, &[]).unwrap().command {
            Chosen::Provide(provide) => *provide,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(provide(&[]).backend, ["http://b/v1"]);
    assert_eq!(provide(&[]).stall_after, 5);
    let other = provide(&["--gguf", "file"]);
    assert!(other.backend.is_empty() && other.gguf.is_some());
    // Within one layer it is an error that names both places.
    let said = read_with(&["provide"], &format!("{file}gguf = \"file\"\n"), &[]).unwrap_err();
    assert!(said.contains("line 3") && said.contains("line 5"), "{said}");
}

/// The key of a server stands wherever its other flags do, and goes with that server.
#[test]
fn the_key_of_a_backend_comes_from_the_file_and_the_environment() {
    let key_file = |args: &[&str], file: &str, pairs: &[(&str, &str)]| {
        let args = [&["provide", "--model", "m"], args].concat();
        match read_with(&args, file, pairs).unwrap().command {
            Chosen::Provide(provide) => provide.backend_key_file,
            other => panic!("{other:?}"),
        }
    };
    let file = "[provide]\nbackend = \"http://b/v1\"\nbackend-key-file = \"/of/the/file\"\n";
    let variables = [("LETHE_PROVIDE_BACKEND_KEY_FILE", "/of/the/variable")];
    let flag = ["--backend-key-file", "/of/the/flag"];
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(key_file(&[], file, &[]), path("/of/the/file"));
    assert_eq!(key_file(&[], file, &variables), path("/of/the/variable"));
    assert_eq!(key_file(&flag, file, &variables), path("/of/the/flag"));
    // Without the server there is nothing that the key is for.
    assert_eq!(key_file(&["--gguf", "m.gguf"], file, &variables), None);
    assert_eq!(key_file(&["--gguf", "m.gguf"], "", &variables), None);
}

#[test]
fn who_sells_a_model_takes_what_is_said_for_the_provider() {
    let file = "rpc-url = \"http://shared:1\"\n[provide]\nmodel = \"m\"\nbackend = \"http://b/v1\"\n\
                backend-key-file = \"key\"\ninput-price = 7\nendpoint = \"192.0.2.1:3333\"\n\
                behind = [\"a:1\", \"b:1\"]\nslots = 3\n";
    let sell = |args: &[&str], pairs: &[(&str, &str)]| {
        let args = [&["sell", "m.gguf", "--price", "1"], args].concat();
        match read_with(&args, file, pairs).unwrap().command {
            Chosen::Sell(sell) => *sell,
            other => panic!("{other:?}"),
        }
    };
    let sold = sell(&[], &[]);
    assert_eq!(sold.sale.endpoint.to_string(), "192.0.2.1:3333");
    assert_eq!(sold.sale.behind, ["a:1", "b:1"]);
    assert_eq!(sold.network.rpc_url, ["http://shared:1"]);
    // What is of another model than the one that is sold stays there.
    assert_eq!((sold.backend_key_file, sold.input_price), (None, None));
    // The layers are those of the provider, and so is what is no flag of it.
    let variables = [("LETHE_PROVIDE_SLOTS", "4"), ("LETHE_PROVIDE_MODEL", "m")];
    assert_eq!(sell(&[], &variables).sale.slots, 4);
    assert_eq!(sell(&["--slots", "5"], &variables).sale.slots, 5);
    let wrong = [("LETHE_PROVIDE_SLOTZ", "4")];
    let said = read_with(&["sell", "m", "--price", "1"], "", &wrong).unwrap_err();
    assert!(
        said.contains("did you mean `LETHE_PROVIDE_SLOTS`?"),
        "{said}"
    );
    let said = read_with(
        &["sell", "m", "--price", "1"],
        "[provide]\nslots = 0\n",
        &[],
    );
    let said = said.unwrap_err();
    assert!(
        said.contains("`slots` is set in") && said.contains("line 2"),
        "{said}"
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, expected) in [
        (
            "[consume]\nhtpp = 1\n",
            "line 2: unknown key `htpp` below [consume]; did you mean `http`?",
        ),
        (
            "\n[consumer]\n",
            "line 2: unknown key `consumer` (a table is a role's); did you mean `consume`?",
        ),
        ("rpc_url = \"u\"\n", "did you mean `rpc-url`?"),
        (
            "http = \"127.0.0.1:1\"\n",
            "where only data, network, rpc-url and unaudited may stand",
        ),
        ("[consume]\nhttp = \"here\"\n", "line 2"),
        (
            "[consume]\nhttp = \"here\"\n",
            "allowed: an IP address and a port",
        ),
        (
            "[consume]\npaced = \"yes\"\n",
            "`paced` is \"yes\" (allowed: true, false)",
        ),
        (
            "[consume]\npayer = [1]\n",
            "`payer` is a list (allowed: one text or number)",
        ),
        (
            "[consume]\ndeposit = \"much\"\n",
            "in what it is stands behind it",
        ),
        ("[consume]\nwithdraw-idle = 0\n", "0 is not in 1.."),
        (
            "[consume]\npayer = \"me\"\n",
            "possible values: pseudonym, wallet",
        ),
        ("[consume\n", "line 1"),
    ] {
        let said = read_with(&["consume"], text, &[]).unwrap_err();
        assert!(said.contains(expected), "{text}: {said}");
        assert!(said.contains("config.toml"), "{text}: {said}");
        assert!(!said.starts_with("clap"), "{text}: {said}");
    }
    for (name, value, expected) in [
        (
            "LETHE_CONSUME_HTPP",
            "1",
            "did you mean `LETHE_CONSUME_HTTP`?",
        ),
        (
            "LETHE_CONSUME_PACED",
            "1",
            "`paced` is \"1\" (allowed: true, false)",
        ),
        (
            "LETHE_CONSUME_HTTP",
            "here",
            "`http` is set in environment variable LETHE_CONSUME_HTTP",
        ),
    ] {
        let said = read_with(&["consume"], "", &[(name, value)]).unwrap_err();
        assert!(said.contains(expected), "{name}: {said}");
    }
    // Of another role it is none of our business.
    assert!(read_with(&["consume"], "", &[("LETHE_UP_HTPP", "1")]).is_ok());
    // A wrong flag is clap's affair.
    let said = read_with(&["consume", "--http", "x"], FILE, &[]).unwrap_err();
    assert!(said.starts_with("clap"), "{said}");
}

#[test]
fn a_file_that_is_named_must_be_there_and_the_usual_one_need_not() {
    let missing = words(&["lethe", "consume", "--config", "/nowhere/at/all.toml"]);
    let said = parsed(missing, &environment(&[])).unwrap_err().to_string();
    assert!(said.contains("/nowhere/at/all.toml"), "{said}");
    let home = environment(&[("HOME", "/nowhere")]);
    assert!(parsed(words(&["lethe", "consume"]), &home).unwrap().is_ok());

    let (folder, path) = kept(FILE);
    let usual = folder.path().join("lethe");
    std::fs::create_dir(&usual).unwrap();
    std::fs::rename(path, usual.join("config.toml")).unwrap();
    let home = environment(&[("XDG_CONFIG_HOME", folder.path().to_str().unwrap())]);
    let cli = parsed(words(&["lethe", "consume"]), &home)
        .unwrap()
        .unwrap();
    assert!(matches!(cli.command, Chosen::Consume(consume) if consume.http.port() == 1003));
}

#[test]
fn the_file_that_is_written_holds_the_defaults() {
    let text = shown::template(&command());
    let active: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(value) if value.ends_with("# no default") => "\n".to_owned(),
            Some(value) if !value.starts_with(' ') && !value.is_empty() => format!("{value}\n"),
            Some(_) => "\n".to_owned(),
            None => format!("{line}\n"),
        })
        .collect();
    assert!(
        active.lines().filter(|line| line.contains('=')).count() > 50,
        "{active}"
    );
    for role in Role::value_variants() {
        let (_folder, path) = kept(&active);
        let (_, from_file) = shown::rows(*role, Some(&path), &environment(&[])).unwrap();
        let (_, plain) = shown::rows(*role, None, &environment(&[])).unwrap();
        for (set, default) in from_file.iter().zip(&plain) {
            let (set, default) = (serde_json::json!(set), serde_json::json!(default));
            assert_eq!(set["value"], default["value"], "{role:?} {set} {default}");
            let key = default["key"].as_str().unwrap();
            let needs = NEEDS.iter().any(|(flag, _)| key == *flag);
            if !default["value"].is_null() && !needs && key != "data" {
                assert_eq!(set["origin"], "file", "{set}");
            }
        }
    }
    // Also what has no default is TOML, once the mark before it is gone.
    let keys = text.lines().filter_map(|line| line.strip_prefix('#'));
    let examples: Vec<_> = keys.filter(|line| line.ends_with("# no default")).collect();
    assert!(
        examples.contains(&"data = \"DIR\" # no default"),
        "{examples:?}"
    );
    for example in examples {
        assert!(toml::de::DeTable::parse(example).is_ok(), "{example}");
    }
    // Where the data is says the platform.
    let (_, rows) = shown::rows(Role::Up, None, &environment(&[])).unwrap();
    let data = serde_json::json!(
        rows.iter()
            .find(|row| serde_json::json!(row)["key"] == "data")
    );
    assert_eq!(data["origin"], "default");
    assert!(
        data["value"].as_str().unwrap().ends_with("/lethe"),
        "{data}"
    );
    // As it is written nothing is set.
    let (_folder, path) = kept(&text);
    let (_, rows) = shown::rows(Role::Up, Some(&path), &environment(&[])).unwrap();
    assert!(
        rows.iter()
            .all(|row| serde_json::json!(row)["origin"] != "file")
    );
}

#[test]
fn what_opens_a_server_is_not_shown() {
    for (url, shown) in [
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        (
            "https://arb1.example.org/rpc/v1",
            "https://arb1.example.org/rpc/v1",
        ),
        (
            "https://user:word@rpc.example.org/",
            "https://rpc.example.org/",
        ),
        (
            "https://rpc.example.org/v2/0123456789abcdef0123",
            "https://rpc.example.org/v2/***",
        ),
        (
            "https://rpc.example.org/?key=secret",
            "https://rpc.example.org/?***",
        ),
        ("127.0.0.1:8082", "127.0.0.1:8082"),
        ("amount", "amount"),
    ] {
        assert_eq!(shown::without_secrets(url), shown);
    }
}

#[test]
fn a_variable_that_begins_as_ours_is_warned_of_with_what_was_meant() {
    let names = [
        "LETHE_CONSUMER_HTTP",
        "LETHE_LOG",
        "LETHE_API_KEY",
        "LETHE_RPC_URL",
        "LETHE_CONSUME_HTTP",
        "LETHE_PROVIDE_DATA",
        "HOME",
    ];
    let environment = names.map(|name| (name.to_owned(), "1".to_owned())).into();
    let warnings = strange_variables(&declared(), &environment);
    assert_eq!(
        warnings,
        [
            "WARNING: environment variable LETHE_CONSUMER_HTTP sets nothing; did you mean `LETHE_CONSUME_HTTP`?"
        ]
    );
}

#[test]
fn a_wrong_flag_is_told_as_all_that_is_wrong() {
    let words = ["lethe", "up", "--htpp", "1"].map(OsString::from).into();
    let error = parsed(words, &Environment::new()).unwrap().unwrap_err();
    let told = usage(error).to_string();
    assert!(told.starts_with("unexpected argument '--htpp'"), "{told}");
}
