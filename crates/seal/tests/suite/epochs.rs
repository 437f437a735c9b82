//! Epoch keys come and go, and their records are believed or not.

use market::{Address, Domain, NodeKey, Timestamp};
use seal::{
    Cell, EPOCH_SECONDS, Epoch, EpochError, EpochKeys, GRACE_SECONDS, KeyListError, OpenError,
    Pacing, RequestOpener, SealError, SignedEpoch, Suite, ask,
};

use crate::world::{IDENTITY, NOW, key, keys, node, opened, request};

const END: Timestamp = Timestamp(1_001 * EPOCH_SECONDS);

fn believed(signed: &SignedEpoch, now: Timestamp) -> Result<(), EpochError> {
    let (node, provider) = (node().id(), IDENTITY.provider);
    signed
        .open(node, provider, &IDENTITY.domain, now)
        .map(|_| ())
}

/// A fresh record, changed and signed again.
fn changed(change: impl FnOnce(&mut Epoch)) -> SignedEpoch {
    let mut epoch = keys().record().read(node().id()).unwrap();
    change(&mut epoch);
    epoch.sign(&node())
}

#[test]
fn a_fresh_record_is_believed_and_offers_both_suites() {
    let keys = keys();
    let key = key(&keys, NOW);
    assert!(Suite::ALL.into_iter().all(|suite| key.offers(suite)));
    assert_eq!(key.strongest(), Suite::XWing);
    assert_eq!((key.epoch(), key.not_after()), (1_000, END));
    assert_eq!(key.hash(), keys.record().hash());
}

#[test]
fn the_record_survives_json() {
    let keys = keys();
    let json = serde_json::to_string(keys.record()).unwrap();
    let read: SignedEpoch = serde_json::from_str(&json).unwrap();
    assert_eq!(&read, keys.record());
    assert!(believed(&read, NOW).is_ok());
}

#[test]
fn a_record_of_another_signer_or_text_is_not_believed() {
    let forged = keys().record().read(node().id()).unwrap();
    let forged = forged.sign(&NodeKey::from_bytes(&[8; 32]));
    let mut edited = keys().record().clone();
    edited.record = edited.record.replace("\"epoch\":1000", "\"epoch\":1001");
    for signed in [forged, edited] {
        let refused = believed(&signed, NOW);
        assert!(matches!(refused, Err(EpochError::BadSignature { .. })));
    }
}

#[test]
fn a_signature_for_something_else_is_no_signature() {
    let mut signed = keys().record().clone();
    signed.signature = node().sign(signed.record.as_bytes()).into();
    let refused = believed(&signed, NOW);
    assert!(matches!(refused, Err(EpochError::BadSignature { .. })));
}

#[test]
fn a_record_for_somebody_or_somewhere_else_is_not_believed() {
    let elsewhere = Domain {
        chain_id: 1,
        ..IDENTITY.domain
    };
    let signed = keys().record().clone();
    let refused = signed.open(node().id(), IDENTITY.provider, &elsewhere, NOW);
    assert!(matches!(
        refused,
        Err(EpochError::Mismatch {
            field: "chainId",
            ..
        })
    ));
    for (field, signed) in [
        ("provider", changed(|epoch| epoch.provider = Address::ZERO)),
        (
            "settlement",
            changed(|epoch| epoch.settlement = Address::ZERO),
        ),
        (
            "node",
            changed(|epoch| epoch.node = NodeKey::from_bytes(&[8; 32]).id()),
        ),
    ] {
        match believed(&signed, NOW) {
            Err(EpochError::Mismatch { field: got, .. }) => assert_eq!(got, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn a_record_out_of_its_time_is_not_believed() {
    let keys = keys();
    let early = Timestamp(NOW.0 - 121);
    for (now, is_believed) in [
        (early, false),
        (early.after_s(1), true),
        (Timestamp(END.0 - 1), true),
        (END, false),
    ] {
        match believed(keys.record(), now) {
            Ok(()) => assert!(is_believed),
            Err(EpochError::Stale { .. }) => assert!(!is_believed),
            Err(other) => panic!("{other}"),
        }
    }
    let long = changed(|epoch| epoch.not_after = epoch.not_before.after_s(EPOCH_SECONDS + 1));
    let refused = believed(&long, NOW);
    assert!(
        matches!(refused, Err(EpochError::TooLong { seconds }) if seconds == EPOCH_SECONDS + 1)
    );
}

#[test]
fn a_record_of_another_form_is_not_believed() {
    let later = changed(|epoch| epoch.version = 2);
    assert!(matches!(
        believed(&later, NOW),
        Err(EpochError::UnknownVersion { got: 2 })
    ));
    let signed = |text: &str| SignedEpoch {
        record: text.into(),
        signature: node()
            .sign(&[b"lethe epoch v1\n", text.as_bytes()].concat())
            .into(),
    };
    assert!(matches!(
        believed(&signed("{}"), NOW),
        Err(EpochError::Malformed(_))
    ));
    let long = signed(&" ".repeat(16 * 1024 + 1));
    assert!(matches!(
        believed(&long, NOW),
        Err(EpochError::TooLarge { bytes: 16_385 })
    ));
}

#[test]
fn a_list_of_keys_is_read_strictly_and_what_is_new_is_passed_over() {
    let list = keys().record().read(node().id()).unwrap().keys;
    let x25519 = list[..2 + 1 + 2 + 32 + 2 + 8].to_vec();
    let judged = |list: Vec<u8>| match believed(&changed(|epoch| epoch.keys = list), NOW) {
        Ok(()) => Ok(()),
        Err(EpochError::Keys(error)) => Err(error),
        Err(other) => panic!("{other}"),
    };
    assert!(judged(x25519.clone()).is_ok());
    let unknown_kem = [&[0, 5, 9, 0xff, 0xff, 1, 2], x25519.as_slice()].concat();
    assert!(judged(unknown_kem).is_ok());
    assert!(matches!(judged(vec![]), Err(KeyListError::NoCommonSuite)));
    assert!(matches!(
        judged(list[x25519.len()..].to_vec()),
        Err(KeyListError::NoCommonSuite)
    ));
    let twice = [x25519.as_slice(), &x25519].concat();
    assert!(matches!(
        judged(twice),
        Err(KeyListError::Twice {
            suite: Suite::X25519
        })
    ));
    for cut in 1..x25519.len() {
        let refused = judged(x25519[..cut].to_vec());
        assert!(
            matches!(refused, Err(KeyListError::Length { entry: 0 })),
            "cut at {cut}"
        );
    }
    let only_chacha = [&[0, 41], &x25519[2..37], &[0, 4, 0, 1, 0, 3]].concat();
    assert!(matches!(
        judged(only_chacha),
        Err(KeyListError::NoCommonSuite)
    ));
    let many = [9, 0xff, 0xff].repeat(0);
    let many = [[0, 3, 9, 0xff, 0xff].repeat(17), many].concat();
    assert!(matches!(judged(many), Err(KeyListError::TooMany)));
}

#[test]
fn a_provider_without_x_wing_is_asked_with_x25519_only() {
    let list = keys().record().read(node().id()).unwrap().keys;
    let signed = changed(|epoch| epoch.keys = list[..47].to_vec());
    let key = signed
        .open(node().id(), IDENTITY.provider, &IDENTITY.domain, NOW)
        .unwrap();
    assert_eq!(key.strongest(), Suite::X25519);
    let refused = ask(&key, Suite::XWing, Pacing::Fast, NOW).err();
    assert!(matches!(
        refused,
        Some(SealError::NotOffered {
            suite: Suite::XWing
        })
    ));
    assert!(ask(&key, Suite::X25519, Pacing::Fast, NOW).is_ok());
}

#[test]
fn keys_are_made_new_when_their_epoch_is_over_and_no_sooner() {
    let mut keys = keys();
    let first = keys.record().clone();
    assert!(!keys.refresh(&node(), Timestamp(END.0 - 1)));
    assert_eq!(keys.record(), &first);
    assert!(keys.refresh(&node(), END));
    let second = keys.record().read(node().id()).unwrap();
    assert_eq!((second.epoch, second.previous), (1_001, first.hash()));
    assert_eq!(
        (second.not_before, second.not_after),
        (END, END.after_s(EPOCH_SECONDS))
    );
    assert!(!keys.refresh(&node(), END));
}

#[test]
fn the_last_keys_open_for_the_grace_and_then_never_again() {
    for suite in Suite::ALL {
        let mut keys = keys();
        let last = Timestamp(END.0 - 1);
        let (mut sealer, _) = ask(&key(&keys, last), suite, Pacing::Fast, last).unwrap();
        let bytes = request(&mut sealer, b"late", &[]);
        keys.refresh(&node(), END);
        let (cells, end) = opened(&mut RequestOpener::new(&keys, END.after_s(60)), &bytes);
        assert_eq!((cells.last(), end), (Some(&Cell::End), Ok(())));

        let over = END.after_s(GRACE_SECONDS);
        let refused = opened(&mut RequestOpener::new(&keys, over), &bytes).1;
        assert!(matches!(refused, Err(OpenError::UnknownKey { .. })));
        keys.refresh(&node(), over);
        // They are gone, not only hidden: a clock that is set back brings nothing back.
        let refused = opened(&mut RequestOpener::new(&keys, END), &bytes).1;
        assert!(matches!(refused, Err(OpenError::UnknownKey { .. })));
    }
}

#[test]
fn keys_that_nobody_refreshes_stop_opening() {
    let keys = keys();
    let last = Timestamp(END.0 - 1);
    let (mut sealer, _) = ask(&key(&keys, last), Suite::X25519, Pacing::Fast, last).unwrap();
    let bytes = sealer.opening(b"late").unwrap();
    let over = END.after_s(GRACE_SECONDS);
    let refused = opened(&mut RequestOpener::new(&keys, over), &bytes).1;
    assert!(matches!(refused, Err(OpenError::UnknownKey { .. })));
}

#[test]
fn after_a_long_sleep_the_old_keys_are_gone_at_once() {
    let mut keys = keys();
    let last = Timestamp(END.0 - 1);
    let (mut sealer, _) = ask(&key(&keys, last), Suite::X25519, Pacing::Fast, last).unwrap();
    let bytes = sealer.opening(b"late").unwrap();
    assert!(keys.refresh(&node(), END.after_s(3 * EPOCH_SECONDS)));
    assert_eq!(keys.epoch(), 1_004);
    let refused = opened(&mut RequestOpener::new(&keys, END), &bytes).1;
    assert!(matches!(refused, Err(OpenError::UnknownKey { .. })));
}

#[test]
fn nothing_is_sealed_to_a_key_that_is_over() {
    let key = key(&keys(), NOW);
    let refused = ask(&key, Suite::X25519, Pacing::Fast, END).err();
    assert!(
        matches!(refused, Some(SealError::Expired { not_after, now }) if (not_after, now) == (END, END))
    );
}

#[test]
fn two_starts_have_different_keys() {
    let keys = || {
        EpochKeys::new(IDENTITY, &node(), NOW)
            .record()
            .read(node().id())
            .unwrap()
            .keys
    };
    assert_ne!(keys(), keys());
}

/// Two ways to be something, if the type can be serialised or copied; then
/// nobody can say which is meant, and this does not compile.
trait CannotBeSaved<Way> {
    const HOLDS: bool = true;
}

struct BySerde;
struct ByCopy;
struct ByText;

impl<T: ?Sized> CannotBeSaved<()> for T {}
impl<T: ?Sized + serde::Serialize> CannotBeSaved<BySerde> for T {}
impl<T: Clone> CannotBeSaved<ByCopy> for T {}
impl<T: ?Sized + core::fmt::Debug> CannotBeSaved<ByText> for T {}

#[test]
fn keys_cannot_be_saved_copied_or_printed() {
    const { assert!(<EpochKeys as CannotBeSaved<_>>::HOLDS) };
}
