//! Keeping, going on, forgetting; what lies on disk; and every way in which it
//! may be damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use market::Timestamp;

use super::*;

const MARKER: &str = "a heron stands in the reeds";

/// An age identity in a file costs no second of work, as a passphrase does.
fn identity(folder: &Path) -> (PathBuf, Key) {
    use age::secrecy::ExposeSecret;
    let own = age::x25519::Identity::generate();
    let path = folder.join(format!("{}.txt", own.to_public()));
    write_private(&path, own.to_string().expose_secret().as_bytes()).unwrap();
    let key = Key::from_file(&path, &Passphrase::Typed).unwrap();
    (path, key)
}

fn passphrase(folder: &Path, text: &str) -> Passphrase {
    let path = folder.join("passphrase");
    write_private(&path, text.as_bytes()).unwrap();
    Passphrase::File(path)
}

fn said(content: &str) -> Conversation {
    let mut conversation = Conversation::begin("m".into(), Timestamp(1));
    for role in [Role::User, Role::Assistant] {
        conversation.messages.push(Message {
            role,
            content: content.to_owned(),
        });
    }
    conversation
}

/// A folder in which one conversation is kept.
struct Desk {
    folder: tempfile::TempDir,
    chats: Chats,
    key: Key,
    conversation: Conversation,
    kept: Kept,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chats = Chats::in_folder(folder.path().join("chats"));
        let (_, key) = identity(folder.path());
        let conversation = said(MARKER);
        let mut kept = chats.begin();
        chats.save(&conversation, &mut kept, &key).unwrap();
        Self {
            folder,
            chats,
            key,
            conversation,
            kept,
        }
    }

    fn path(&self) -> PathBuf {
        self.chats.path(&self.conversation.id)
    }

    fn reopened(&self) -> Result<Conversation, HistoryError> {
        let opened = self.chats.open(&self.conversation.id, &self.key);
        opened.map(|(conversation, _)| conversation)
    }
}

#[test]
fn what_is_kept_is_found_again_and_lies_encrypted() {
    let mut desk = Desk::new();
    assert_eq!(desk.reopened().unwrap(), desk.conversation);
    desk.conversation.messages.extend(said("more").messages);
    let (first, mut kept) = (fs::read(desk.path()).unwrap(), desk.kept);
    desk.chats
        .save(&desk.conversation, &mut kept, &desk.key)
        .unwrap();
    desk.kept = kept;
    assert_eq!(desk.reopened().unwrap(), desk.conversation);

    let second = fs::read(desk.path()).unwrap();
    assert_ne!(first, second);
    for bytes in [first, second] {
        assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
        let marker = MARKER.as_bytes();
        assert!(!bytes.windows(marker.len()).any(|window| window == marker));
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&desk.path()), mode(&desk.chats.folder)),
        (0o600, 0o700)
    );
}

#[test]
fn a_passphrase_opens_what_it_keeps_and_another_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let chats = Chats::in_folder(folder.path().join("chats"));
    let right = passphrase(folder.path(), "correct horse\nsecond lines do not count\n");
    assert!(chats.key(&right).unwrap().is_none());
    let key = chats.key_or_new(&right).unwrap();
    let conversation = said(MARKER);
    chats.save(&conversation, &mut chats.begin(), &key).unwrap();
    let before = fs::read(chats.key_path()).unwrap();

    for other in ["wrong", "correct horse "] {
        let wrong = passphrase(folder.path(), other);
        for refused in [
            chats.key(&wrong).map(drop),
            chats.key_or_new(&wrong).map(drop),
        ] {
            assert!(
                matches!(
                    refused,
                    Err(HistoryError::Key(KeyError::WrongPassphrase { .. }))
                ),
                "{other:?}"
            );
        }
    }
    assert!(matches!(
        chats.key(&passphrase(folder.path(), "\n")),
        Err(HistoryError::Key(KeyError::Empty))
    ));
    assert_eq!(fs::read(chats.key_path()).unwrap(), before);

    let again = passphrase(folder.path(), "correct horse");
    let key = chats.key(&again).unwrap().unwrap();
    assert_eq!(chats.open(&conversation.id, &key).unwrap().0, conversation);
}

#[test]
fn another_key_does_not_open_it() {
    let desk = Desk::new();
    let (_, other) = identity(desk.folder.path());
    assert!(matches!(
        desk.chats.open(&desk.conversation.id, &other),
        Err(HistoryError::OtherKey { .. })
    ));
}

#[test]
fn recipients_alone_keep_but_do_not_open() {
    let desk = Desk::new();
    let (own, key) = identity(desk.folder.path());
    let recipient = own.file_stem().unwrap().to_str().unwrap();
    let path = desk.folder.path().join("recipients");
    fs::write(&path, format!("# mine\n\n{recipient}\n")).unwrap();
    let public = Key::from_file(&path, &Passphrase::Typed).unwrap();
    let conversation = said(MARKER);
    let mut kept = desk.chats.begin();
    desk.chats.save(&conversation, &mut kept, &public).unwrap();
    desk.chats.save(&conversation, &mut kept, &public).unwrap();
    assert!(matches!(
        desk.chats.open(&conversation.id, &public),
        Err(HistoryError::Key(KeyError::RecipientsOnly))
    ));
    assert_eq!(
        desk.chats.open(&conversation.id, &key).unwrap().0,
        conversation
    );
}

#[test]
fn a_write_that_was_cut_off_leaves_the_old_one() {
    let mut desk = Desk::new();
    let whole = fs::read(desk.path()).unwrap();
    let partial = desk.path().with_extension("partial");
    fs::write(&partial, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(desk.reopened().unwrap(), desk.conversation);
    assert_eq!(desk.chats.ids().unwrap(), [desk.conversation.id.clone()]);

    desk.conversation.messages.extend(said("after").messages);
    desk.chats
        .save(&desk.conversation, &mut desk.kept, &desk.key)
        .unwrap();
    assert!(!partial.exists());
    assert_eq!(desk.reopened().unwrap(), desk.conversation);
}

#[test]
fn damage_anywhere_is_named_and_never_read_as_something_else() {
    let desk = Desk::new();
    let whole = fs::read(desk.path()).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(desk.path(), bytes).unwrap();
        // In the part that says to which key it is, damage looks like another key.
        let refused = matches!(
            desk.reopened(),
            Err(HistoryError::Damaged { .. } | HistoryError::OtherKey { .. })
        );
        assert!(refused, "{what}");
    };
    for length in (0..whole.len()).step_by(61).chain([whole.len() - 1]) {
        refused(&whole[..length], &format!("cut to {length}"));
    }
    for at in (0..whole.len()).step_by(37) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        refused(&changed, &format!("byte {at} changed"));
    }
    let mut longer = whole.clone();
    longer.push(0);
    refused(&longer, "a byte more");
    fs::write(desk.path(), &whole).unwrap();
    assert_eq!(desk.reopened().unwrap(), desk.conversation);
}

#[test]
fn one_file_in_the_place_of_another_is_noticed() {
    let desk = Desk::new();
    let other = said("other");
    desk.chats
        .save(&other, &mut desk.chats.begin(), &desk.key)
        .unwrap();
    fs::copy(desk.chats.path(&other.id), desk.path()).unwrap();
    let error = desk.reopened().unwrap_err();
    assert!(matches!(error, HistoryError::Damaged { .. }), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let desk = Desk::new();
    let file = fs::File::options().write(true).open(desk.path()).unwrap();
    file.set_len(FILE_BYTES_MAX as u64 + 1).unwrap();
    assert!(matches!(desk.reopened(), Err(HistoryError::TooLong { .. })));
    let mut long = said("x");
    long.messages[0].content = "x".repeat(FILE_BYTES_MAX);
    assert!(matches!(
        desk.chats.save(&long, &mut desk.chats.begin(), &desk.key),
        Err(HistoryError::TooLong { .. })
    ));
    assert!(!desk.chats.path(&long.id).exists());
}

#[test]
fn two_at_once_do_not_overwrite_each_other() {
    let mut desk = Desk::new();
    let id = &desk.conversation.id;
    let (mut theirs, mut kept) = desk.chats.open(id, &desk.key).unwrap();
    theirs.messages.extend(said("theirs").messages);
    desk.chats.save(&theirs, &mut kept, &desk.key).unwrap();
    assert!(matches!(
        desk.chats
            .save(&desk.conversation, &mut desk.kept, &desk.key),
        Err(HistoryError::Changed { .. })
    ));
    assert_eq!(desk.reopened().unwrap(), theirs);
}

#[test]
fn what_is_forgotten_is_gone_and_stays_gone() {
    let mut desk = Desk::new();
    let id = desk.conversation.id.clone();
    desk.chats.forget(&id).unwrap();
    assert!(desk.chats.ids().unwrap().is_empty());
    assert!(matches!(desk.reopened(), Err(HistoryError::Unknown { .. })));
    assert!(matches!(
        desk.chats.forget(&id),
        Err(HistoryError::Unknown { .. })
    ));
    // Who still had it open does not bring it back.
    assert!(matches!(
        desk.chats
            .save(&desk.conversation, &mut desk.kept, &desk.key),
        Err(HistoryError::Changed { .. })
    ));
    assert!(desk.chats.ids().unwrap().is_empty());
}

#[test]
fn files_of_keys_say_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let (good, _) = identity(folder.path());
    let text = fs::read_to_string(&good).unwrap();
    let path = folder.path().join("keys");
    let refused = |text: &[u8]| {
        write_private(&path, text).unwrap();
        Key::from_file(&path, &Passphrase::Typed)
            .map(drop)
            .unwrap_err()
    };
    let second = format!("# mine\n{text}x\n");
    assert!(matches!(
        refused(second.as_bytes()),
        KeyError::NotAKey { line: 2, .. }
    ));
    assert!(!refused(second.as_bytes()).to_string().contains("1Q"));
    assert!(matches!(
        refused(b"\xff\xfe"),
        KeyError::NotAKey { line: 1, .. }
    ));
    assert!(matches!(refused(b"# none\n"), KeyError::NoKey { .. }));
    assert!(matches!(
        refused(&[b'#'; 70_000]),
        KeyError::TooLarge { .. }
    ));
    fs::set_permissions(&good, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        Key::from_file(&good, &Passphrase::Typed),
        Err(KeyError::Readable { mode: 0o640, .. })
    ));
    let nowhere = Key::from_file(&folder.path().join("none"), &Passphrase::Typed);
    assert!(matches!(nowhere, Err(KeyError::File { .. })));
}

#[test]
fn a_damaged_key_file_is_named_and_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let chats = Chats::in_folder(folder.path().join("chats"));
    let typed = passphrase(folder.path(), "p");
    fs::create_dir(&chats.folder).unwrap();
    let damaged = b"age-encryption.org/v1\n-> scrypt AAAA 18\n";
    write_private(&chats.key_path(), damaged).unwrap();
    assert!(matches!(
        chats.key_or_new(&typed),
        Err(HistoryError::Key(KeyError::Damaged { .. }))
    ));
    assert_eq!(fs::read(chats.key_path()).unwrap(), damaged);
}
