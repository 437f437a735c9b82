//! Keys on disk: made once, found again, refused when others can read them,
//! and never replaced.

use super::*;

fn keys(folder: &tempfile::TempDir, books: bool) -> Keystore {
    Keystore::open(folder.path().join("keys"), books).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_folder_has_words_and_every_key_follows_from_them() {
    let folder = tempfile::tempdir().unwrap();
    let first = keys(&folder, false);
    let names = ["payer", "hot", "payer-1", "hot-1", "provider"];
    let made: Vec<_> = names
        .map(|name| first.wallet(name).unwrap().address())
        .into();
    let node = first.node("provider").unwrap().id();
    let distinct: std::collections::BTreeSet<_> = made.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert_eq!(mode(&folder.path().join("keys/mnemonic")), 0o600);
    assert!(first.files().unwrap().is_empty(), "no key has a file");

    let words = first.phrase().unwrap().unwrap().words();
    let elsewhere = tempfile::tempdir().unwrap();
    let second = keys(&elsewhere, false);
    let phrase = Phrase::parse(&words).unwrap();
    second.take_phrase(&phrase, 0).unwrap();
    let again: Vec<_> = names
        .map(|name| second.wallet(name).unwrap().address())
        .into();
    assert_eq!(again, made);
    assert_eq!(second.node("provider").unwrap().id(), node);
    let listed: Vec<_> = second.derived().unwrap().into_keys().collect();
    let mut expected: Vec<_> = names.map(str::to_owned).into();
    expected.push("provider.node".into());
    expected.sort();
    assert_eq!(listed, expected);
}

#[test]
fn accounts_of_one_phrase_share_no_key() {
    let phrase = fresh(32).unwrap();
    let of_account = |account| {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(&folder, false);
        keys.take_phrase(&phrase, account).unwrap();
        drop(keys);
        let keys = Keystore::open(folder.path().join("keys"), true).unwrap();
        ["payer", "hot", "payer-1", "hot-1", "relay"]
            .map(|name| keys.wallet(name).unwrap().address())
    };
    let (first, second) = (of_account(0), of_account(7));
    assert!(first.iter().all(|address| !second.contains(address)));
}

#[test]
fn what_another_key_takes_the_place_of_is_still_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, false);
    let key = |byte| WalletKey::from_bytes(&[byte; 32]).unwrap();
    let of_words = keys.wallet("payer").unwrap().address();
    keys.wallet("hot").unwrap();
    let (there, source) = keys.in_use("payer").unwrap().unwrap();
    assert_eq!(there, of_words);
    assert!(matches!(source, Source::Phrase(_)));
    let (path, former) = keys.replace_key("payer", &key(1)).unwrap();
    assert_eq!(former.as_deref(), Some("former-payer"));
    assert_eq!(keys.accounts().unwrap(), ["former-payer", "payer"]);
    assert_eq!(keys.address("former-payer").unwrap(), of_words);
    assert_eq!(keys.address("payer").unwrap(), key(1).address());
    // Again: the file is kept beside.
    let (again, former) = keys.replace_key("payer", &key(2)).unwrap();
    assert_eq!(again, path);
    assert_eq!(former.as_deref(), Some("former1-payer"));
    let all = ["former-payer", "former1-payer", "payer"];
    assert_eq!(keys.accounts().unwrap(), all);
    assert_eq!(keys.address("former1-payer").unwrap(), key(1).address());
    assert_eq!(keys.address("payer").unwrap(), key(2).address());
    assert_eq!(mode(&folder.path().join("keys/former1-payer.key")), 0o600);
    // Nobody used that one: it is in nobody's place.
    assert_eq!(keys.in_use("relay").unwrap(), None);
    let (_, former) = keys.replace_key("relay", &key(3)).unwrap();
    assert_eq!(former, None);
}

#[test]
fn a_folder_of_files_has_the_accounts_of_its_files_and_makes_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, true);
    let key = WalletKey::from_bytes(&[7; 32]).unwrap();
    keys.take_key("provider", &key).unwrap();
    assert_eq!(keys.accounts().unwrap(), ["provider"]);
    assert_eq!(keys.in_use("payer").unwrap(), None);
    assert_eq!(keys.files().unwrap(), ["provider.key"]);
}

#[test]
fn a_folder_from_before_goes_on_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, true);
    let key = WalletKey::from_bytes(&[7; 32]).unwrap();
    keys.take_key("payer", &key).unwrap();
    assert_eq!(keys.wallet("payer").unwrap().address(), key.address());
    let hot = keys.wallet("hot").unwrap().address();
    assert_eq!(keys.wallet("hot").unwrap().address(), hot);
    assert_eq!(keys.files().unwrap(), ["hot.key", "payer.key"]);
    assert!(keys.phrase().unwrap().is_none());
    assert_eq!(mode(&folder.path().join("keys/hot.key")), 0o600);

    // With words, files still win; only what has no file follows from them.
    keys.begin(ENTROPY_BYTES, 0).unwrap();
    assert_eq!(keys.wallet("payer").unwrap().address(), key.address());
    keys.wallet("hot-1").unwrap();
    assert_eq!(keys.files().unwrap(), ["hot.key", "payer.key"]);
}

#[test]
fn books_without_keys_get_no_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let error = keys(&folder, true).wallet("payer").err().unwrap();
    assert!(matches!(error, KeystoreError::Gone { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("lethe wallet restore"), "{text}");
    assert!(!folder.path().join("keys").exists());
    // What is put back finds no empty folder in its way.
    keys(&folder, true).begin(16, 0).unwrap();
    assert!(folder.path().join("keys/mnemonic").exists());
}

#[test]
fn words_that_are_there_are_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, false);
    let phrase = fresh(16).unwrap();
    keys.take_phrase(&phrase, 3).unwrap();
    keys.take_phrase(&phrase, 3).unwrap();
    for (other, account) in [(&phrase, 4), (&fresh(16).unwrap(), 3)] {
        let error = keys.take_phrase(other, account).unwrap_err();
        assert!(matches!(error, KeystoreError::Exists { .. }), "{error}");
    }
    assert_eq!(*keys.phrase().unwrap().unwrap().words(), *phrase.words());
    assert_eq!(keys.account().unwrap(), 3);
}

#[test]
fn what_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, false);
    let key = WalletKey::from_bytes(&[7; 32]).unwrap();
    let path = keys.take_key("payer", &key).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = keys.wallet("payer").err();
    assert!(matches!(
        refused,
        Some(KeystoreError::Open { mode: 0o644, .. })
    ));

    fs::remove_file(&path).unwrap();
    keys.begin(ENTROPY_BYTES, 0).unwrap();
    let words = folder.path().join("keys/mnemonic");
    fs::set_permissions(&words, fs::Permissions::from_mode(0o640)).unwrap();
    let fresh = Keystore::open(folder.path().join("keys"), false).unwrap();
    let refused = fresh.wallet("payer").err();
    assert!(matches!(
        refused,
        Some(KeystoreError::Open { mode: 0o640, .. })
    ));
}

#[test]
fn what_is_damaged_is_an_error_and_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(&folder, false);
    let damaged = |file: &str, bytes: &[u8]| {
        let path = folder.path().join("keys").join(file);
        write_private(&path, bytes).unwrap();
        let error = keys.wallet("payer").err().unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        fs::remove_file(&path).unwrap();
        error
    };
    let error = damaged("payer.key", b"not hex");
    assert!(matches!(error, KeystoreError::Malformed { .. }), "{error}");
    let error = damaged("mnemonic", b"one two three");
    assert!(matches!(error, KeystoreError::Phrase { .. }), "{error}");
    let error = damaged("mnemonic", &[0xff; 100]);
    assert!(matches!(error, KeystoreError::File { .. }), "{error}");
    let error = damaged("mnemonic", &[b'a'; 70_000]);
    assert!(matches!(error, KeystoreError::TooLarge { .. }), "{error}");
}

/// A link whose target is on a disk that is not mounted is no reason to make a new key.
#[test]
fn a_link_that_leads_nowhere_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("api-key");
    let target = folder.path().join("not-mounted/key");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for outcome in [
        bearer(&link).err(),
        secret(&link).err(),
        private_text(&link).err(),
        key_in(&link).err(),
    ] {
        let text = outcome.unwrap().to_string();
        assert!(
            text.contains("is a link to") && text.contains("not-mounted"),
            "{text}"
        );
    }
    assert_eq!(fs::read_link(&link).unwrap(), target);
    fs::create_dir(folder.path().join("not-mounted")).unwrap();
    write_private(&target, b"lethe-there").unwrap();
    assert_eq!(bearer(&link).unwrap(), "lethe-there");
}

#[test]
fn a_file_that_is_imported_and_is_no_key_is_not_to_be_restored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    write_private(&path, b"nonsense").unwrap();
    let told = key_in(&path).err().unwrap().to_string();
    assert!(
        told.contains("Keystore V3") && !told.contains("backup"),
        "{told}"
    );
}
