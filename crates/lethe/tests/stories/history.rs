//! Conversations: nothing of them is written unless that is wanted, and then
//! nothing that can be read without the passphrase.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::process::{Running, ended, lethe};

const UP: [&str; 5] = ["up", "--http", "127.0.0.1:0", "--rpc", "127.0.0.1:0"];
const QUESTIONS: [&str; 2] = ["What is a glacier?", "kingfisher 7731 in the reeds"];

/// Every file below a folder, and what it holds.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            // What a running node has just removed is not there.
            found.insert(path, bytes);
        }
    }
    found
}

/// A text as it is, in hexadecimal, and in base64 at each place it may begin.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![
        text.as_bytes().to_vec(),
        hex::encode(text).into_bytes(),
        hex::encode_upper(text).into_bytes(),
    ];
    for before in 0..3 {
        let shifted = [vec![0; before], text.as_bytes().to_vec()].concat();
        for encoded in [
            STANDARD_NO_PAD.encode(&shifted),
            URL_SAFE_NO_PAD.encode(&shifted),
        ] {
            // The digits that only this text decides.
            let (start, end) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
            forms.push(encoded.as_bytes()[start..end].to_vec());
        }
    }
    forms
}

#[test]
fn a_chat_that_has_filled_the_context_goes_on_without_its_oldest_turns() {
    let folder = tempfile::tempdir().unwrap();
    let _up = Running::start(folder.path(), &UP);
    let long = format!("What is a glacier? {}", "and ".repeat(60));
    let said = good(chat(folder.path(), &[], &[&*long; 6]));
    assert_eq!(
        said.matches("its oldest turns are not sent").count(),
        1,
        "{said}"
    );
    assert_eq!(said.matches(" MOR (").count(), 6, "{said}");
    // Nobody is at a terminal to be prompted.
    assert!(
        !said.contains("Ctrl-D") && !said.starts_with("> "),
        "{said}"
    );
    assert!(!said.contains("leaves no room"), "{said}");
}

/// The files in which one of the texts is found, in any form.
fn traces(data: &Path, texts: &[String]) -> Vec<PathBuf> {
    let forms: Vec<_> = texts.iter().flat_map(|text| forms(text)).collect();
    let holds = |bytes: &[u8]| {
        forms
            .iter()
            .any(|form| bytes.windows(form.len()).any(|window| window == form))
    };
    let found = files(data).into_iter().filter(|(_, bytes)| holds(bytes));
    found.map(|(path, _)| path).collect()
}

/// Chats with these questions on standard input.
fn chat(data: &Path, args: &[&str], questions: &[&str]) -> Output {
    let mut chat = lethe(data, &[&["chat"], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = chat.stdin.take().unwrap();
    // Who refuses does not read.
    let _ = input.write_all(questions.join("\n").as_bytes());
    drop(input);
    chat.wait_with_output().unwrap()
}

fn good(output: Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "it was taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, owner).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What was said in the only kept conversation, as the program itself decrypts it.
fn kept(data: &Path, unlock: &[&str]) -> (String, Vec<String>) {
    let list = good(ended(data, &[&["chats", "--json"], unlock].concat()));
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["problems"], serde_json::json!([]), "{list}");
    assert_eq!(list["kept"].as_array().unwrap().len(), 1, "{list}");
    let id = list["kept"][0]["id"].as_str().unwrap().to_owned();
    let args = [&["chats", "--json", "--show", &id], unlock].concat();
    let whole: Value = serde_json::from_str(&good(ended(data, &args))).unwrap();
    let messages = whole["messages"].as_array().unwrap();
    let texts = messages
        .iter()
        .map(|message| message["content"].as_str().unwrap().to_owned());
    (id, texts.collect())
}

#[test]
fn a_conversation_leaves_nothing_or_what_only_the_passphrase_opens() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _up = Running::start(&data, &UP);

    // Not wanted: no folder, no trace. The search itself is tried on something planted.
    let spoken = good(chat(&data, &[], &QUESTIONS));
    let answer = spoken.lines().next().unwrap().to_owned();
    assert!(answer.contains("ice"), "{spoken}");
    let said = [QUESTIONS.map(str::to_owned).to_vec(), vec![answer]].concat();
    assert_eq!(traces(&data, &said), Vec::<PathBuf>::new());
    assert!(!data.join("chats").exists());
    let field = folder.path().join("field");
    let planted = field.join("below").join("planted");
    fs::create_dir_all(planted.parent().unwrap()).unwrap();
    for (at, form) in forms(&said[2]).into_iter().enumerate() {
        fs::write(
            &planted,
            [b"before ".to_vec(), form, b" after".to_vec()].concat(),
        )
        .unwrap();
        assert_eq!(
            traces(&field, &said),
            std::slice::from_ref(&planted),
            "form {at}"
        );
    }

    // Wanted, but with nothing to encrypt with: refused, and nothing is written.
    let refused = complaint(&chat(&data, &["--keep"], &QUESTIONS));
    assert!(
        refused.contains("--passphrase-file") && refused.contains("are encrypted"),
        "{refused}"
    );
    assert!(!data.join("chats").exists());

    // Wanted: no trace but for who has the passphrase.
    let right = secret(folder.path(), "right", "correct horse\n");
    let unlock = ["--passphrase-file", &right];
    let refused = complaint(&chat(&data, &unlock, &QUESTIONS));
    assert!(refused.contains("--keep"), "{refused}");
    good(chat(
        &data,
        &[&["--keep"], &unlock[..]].concat(),
        &QUESTIONS,
    ));
    let (id, texts) = kept(&data, &unlock);
    assert_eq!((texts.len(), &texts[0], &texts[2]), (4, &said[0], &said[1]));
    assert_eq!(texts[1], said[2]);
    assert_eq!(traces(&data, &texts), Vec::<PathBuf>::new());

    // It goes on where it was.
    good(chat(
        &data,
        &[&["--continue", &id], &unlock[..]].concat(),
        &["What is a river?"],
    ));
    let (again, longer) = kept(&data, &unlock);
    assert_eq!((&again, &longer[..4]), (&id, &texts[..]));
    assert_eq!((longer.len(), longer[4].as_str()), (6, "What is a river?"));
    assert_eq!(traces(&data, &longer), Vec::<PathBuf>::new());

    // Another passphrase opens nothing, and changes nothing.
    let before = files(&data.join("chats"));
    let wrong = secret(folder.path(), "wrong", "battery staple\n");
    let wrong = ["--passphrase-file", &wrong];
    for args in [
        [&["chats"], &wrong[..]].concat(),
        [&["chats", "--show", &id], &wrong[..]].concat(),
        [&["chat", "--continue", &id, "What is ice?"], &wrong[..]].concat(),
        [&["chat", "--keep", "What is ice?"], &wrong[..]].concat(),
    ] {
        let refused = complaint(&ended(&data, &args));
        assert!(
            refused.contains("not the passphrase"),
            "{args:?}: {refused}"
        );
    }
    assert_eq!(files(&data.join("chats")), before);

    // A damaged file is named, in the list as well.
    let path = data.join(format!("chats/{id}.age"));
    fs::write(&path, &before[&path][..1000]).unwrap();
    let listed = ended(&data, &[&["chats"], &unlock[..]].concat());
    assert!(complaint(&listed).contains("1 could not be read"));
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains(&id) && listed.contains("damaged"),
        "{listed}"
    );

    good(ended(&data, &["chats", "--forget", &id]));
    assert!(!path.exists());
    let none = good(ended(&data, &["chats"]));
    assert!(none.contains("No conversation is kept"), "{none}");
}

#[test]
fn a_chat_that_is_killed_leaves_whole_answers() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _up = Running::start(&data, &UP);
    let own = folder.path().join("identity");
    {
        use age::secrecy::ExposeSecret;
        let identity = age::x25519::Identity::generate();
        secret(
            folder.path(),
            "identity",
            identity.to_string().expose_secret(),
        );
    }
    let unlock = ["--identity", own.to_str().unwrap()];
    good(chat(
        &data,
        &[&["--keep"], &unlock[..]].concat(),
        &["What is ice?"],
    ));
    let (id, mut texts) = kept(&data, &unlock);

    // Each is killed as its second answer is told, which is when it is written.
    for round in 0..6 {
        let args = [&["chat", "--continue", &id], &unlock[..]].concat();
        let mut chat = lethe(&data, &args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = chat.stdin.take().unwrap();
        input
            .write_all("What is a river?\n".repeat(9).as_bytes())
            .unwrap();
        let lines = BufReader::new(chat.stdout.take().unwrap()).lines();
        let told = lines
            .map_while(Result::ok)
            .filter(|line| line.contains("first token"));
        assert_eq!(told.take(2).count(), 2);
        chat.kill().unwrap();
        chat.wait().unwrap();

        let (same, now) = kept(&data, &unlock);
        assert_eq!((&same, &now[..texts.len()]), (&id, &texts[..]));
        let came = now.len() - texts.len();
        assert!(came % 2 == 0 && came >= 2, "round {round}: {came}");
        texts = now;
    }
}
