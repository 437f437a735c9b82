//! What somebody on the way can try, and that it is noticed.
//!
//! Accepted means: the opener yields an end. Cells before the place of an
//! attack may come out, for they are as they were sealed.

use seal::{Cell, EpochKeys, OpenError, Pacing, RequestOpener, ResponseOpener, Suite, ask};

use crate::world::{IDENTITY, NOW, Opener, asked, data, key, keys, node, opened, request};

const CHUNK: usize = 2 + 256 + 16;
const END: usize = 1 + 16;

/// A request of one rung, two cells and an end.
fn recorded(keys: &EpochKeys, suite: Suite) -> (Vec<u8>, ResponseOpener) {
    let (mut sealer, answer) = asked(keys, suite);
    let bytes = request(&mut sealer, b"what was your prompt", &[b"one", b"two"]);
    (bytes, answer)
}

fn error(stream: &mut impl Opener, bytes: &[u8]) -> OpenError {
    let (cells, end) = opened(stream, bytes);
    assert!(!cells.contains(&Cell::End), "{cells:?} is complete");
    assert_eq!(stream.next(), Err(OpenError::Failed));
    assert_eq!(stream.push(b"more"), Err(OpenError::Failed));
    assert_eq!(stream.ended(), Err(OpenError::Failed));
    end.expect_err("an attack went unnoticed")
}

#[test]
fn whichever_bit_of_a_request_is_flipped_it_is_refused() {
    let keys = keys();
    for suite in Suite::ALL {
        let (mut bytes, _) = recorded(&keys, suite);
        let good = data(&opened(&mut RequestOpener::new(&keys, NOW), &bytes).0);
        // Every byte of the head; of the chunks of the slower suite every seventh.
        let head = 7 + if suite == Suite::XWing { 1120 } else { 32 };
        let step = if suite == Suite::XWing { 7 } else { 1 };
        for at in (0..head).chain((head..bytes.len()).step_by(step)) {
            let bit = 1 << (at % 8);
            bytes[at] ^= bit;
            let mut opener = RequestOpener::new(&keys, NOW);
            let (cells, _) = opened(&mut opener, &bytes);
            assert!(!cells.contains(&Cell::End), "byte {at} went unnoticed");
            assert!(good.starts_with(&data(&cells)), "byte {at} changed a cell");
            assert!(opener.respond().is_none());
            bytes[at] ^= bit;
        }
    }
}

#[test]
fn whichever_bit_of_an_answer_is_flipped_it_is_refused() {
    let keys = keys();
    for at in 0..16 + 2 * CHUNK + END {
        let (bytes, mut answer) = recorded(&keys, Suite::X25519);
        let mut wire = answered(&keys, &bytes, &[b"yes", b"no"]).concat();
        wire[at] ^= 1 << (at % 8);
        let (cells, _) = opened(&mut answer, &wire);
        assert!(!cells.contains(&Cell::End), "byte {at} went unnoticed");
        assert!(
            b"yesno".starts_with(&data(&cells)),
            "byte {at} changed a cell"
        );
    }
}

/// An answer: nonce with the first cell, the other cells, the end.
fn answered(keys: &EpochKeys, request: &[u8], cells: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut opener = RequestOpener::new(keys, NOW);
    opened(&mut opener, request).1.unwrap();
    let mut sealer = opener.respond().unwrap();
    let mut pieces: Vec<_> = cells
        .iter()
        .map(|data| sealer.data(data).unwrap().to_vec())
        .collect();
    pieces.push(sealer.end().unwrap().to_vec());
    pieces
}

#[test]
fn a_stream_that_breaks_off_is_never_complete() {
    let keys = keys();
    let (bytes, mut answer) = recorded(&keys, Suite::X25519);
    let cuts = [0, 3, 7, 39, 100, 2048, 2048 + CHUNK, 2048 + 2 * CHUNK];
    let near_the_end = bytes.len() - END..bytes.len();
    for cut in cuts.into_iter().chain(near_the_end) {
        let mut opener = RequestOpener::new(&keys, NOW);
        assert_eq!(error(&mut opener, &bytes[..cut]), OpenError::Truncated);
    }
    let wire = answered(&keys, &bytes, &[b"yes", b"no", b"maybe"]).concat();
    let (cells, end) = opened(&mut answer, &wire[..16 + 2 * CHUNK]);
    assert_eq!(
        (data(&cells).as_slice(), end),
        (b"yesno".as_slice(), Err(OpenError::Truncated))
    );
}

#[test]
fn an_answer_that_breaks_off_anywhere_is_never_complete() {
    let keys = keys();
    let cells: [&[u8]; 4] = [b"yes", b"no", b"maybe", b"so"];
    let boundaries = (0..=4).map(|cells| 16 + cells * CHUNK);
    let between = (0..16 + 4 * CHUNK + END).step_by(97);
    for cut in boundaries.chain(between) {
        let (bytes, mut answer) = recorded(&keys, Suite::X25519);
        let wire = answered(&keys, &bytes, &cells).concat();
        assert_eq!(error(&mut answer, &wire[..cut]), OpenError::Truncated);
    }
}

#[test]
fn cells_in_another_order_are_refused() {
    let keys = keys();
    let (bytes, _) = recorded(&keys, Suite::X25519);
    let (front, cells) = bytes.split_at(2048);
    let (one, rest) = cells.split_at(CHUNK);
    let (two, end) = rest.split_at(CHUNK);
    for wrong in [
        [front, two, one, end].concat(),
        [front, one, one, two, end].concat(),
        [front, two, end].concat(),
        [front, end].concat(),
        [front, one, two, two, end].concat(),
    ] {
        let mut opener = RequestOpener::new(&keys, NOW);
        assert_eq!(error(&mut opener, &wrong), OpenError::Rejected);
    }
}

#[test]
fn cells_of_another_stream_are_refused() {
    let keys = keys();
    for suite in Suite::ALL {
        let (one, mut first) = recorded(&keys, suite);
        let (two, mut second) = recorded(&keys, suite);
        // The cells of one, or its end, behind the opening of two.
        for at in [2048, 2048 + CHUNK, two.len() - END] {
            let spliced = [&one[..at], &two[at..]].concat();
            let mut opener = RequestOpener::new(&keys, NOW);
            assert_eq!(error(&mut opener, &spliced), OpenError::Rejected);
        }
        // The answers, swapped.
        let one = answered(&keys, &one, &[b"one"]).concat();
        let two = answered(&keys, &two, &[b"two"]).concat();
        assert_eq!(error(&mut first, &two), OpenError::Rejected);
        assert_eq!(error(&mut second, &one), OpenError::Rejected);
    }
}

#[test]
fn an_answer_cannot_be_mixed_from_two_to_the_same_request() {
    let keys = keys();
    let (bytes, mut answer) = recorded(&keys, Suite::X25519);
    let one = answered(&keys, &bytes, &[b"one", b"two"]);
    let two = answered(&keys, &bytes, &[b"one", b"two"]);
    let mixed = [&one[0], &two[1], &two[2]].map(Vec::as_slice).concat();
    assert_eq!(error(&mut answer, &mixed), OpenError::Rejected);
}

#[test]
fn a_request_cannot_be_played_back_as_an_answer() {
    let keys = keys();
    let (bytes, mut answer) = recorded(&keys, Suite::X25519);
    let echoed = [&[0; 16], &bytes[2048..]].concat();
    assert_eq!(error(&mut answer, &echoed), OpenError::Rejected);
}

#[test]
fn what_follows_the_end_is_refused() {
    let keys = keys();
    let (bytes, _) = recorded(&keys, Suite::X25519);
    let more = [bytes.as_slice(), b"more"].concat();
    let mut opener = RequestOpener::new(&keys, NOW);
    assert_eq!(error(&mut opener, &more), OpenError::Trailing { bytes: 4 });

    let mut opener = RequestOpener::new(&keys, NOW);
    opened(&mut opener, &bytes).1.unwrap();
    assert_eq!(opener.next(), Ok(None));
    assert_eq!(opener.push(b""), Ok(()));
    assert_eq!(opener.push(b"x"), Err(OpenError::Trailing { bytes: 1 }));
}

#[test]
fn keys_of_another_provider_open_nothing() {
    let keys = keys();
    let others = EpochKeys::new(IDENTITY, &node(), NOW);
    for suite in Suite::ALL {
        let (bytes, _) = recorded(&keys, suite);
        let mut opener = RequestOpener::new(&others, NOW);
        assert_eq!(error(&mut opener, &bytes), OpenError::Rejected);
    }
}

#[test]
fn a_request_by_another_record_of_the_same_keys_is_refused() {
    // As if a provider, or somebody with its node key, showed one consumer a record of its own.
    let keys = keys();
    let mut shown = keys.record().read(node().id()).unwrap();
    shown.previous = [9; 32].into();
    let shown = shown.sign(&node());
    let key = shown
        .open(node().id(), IDENTITY.provider, &IDENTITY.domain, NOW)
        .unwrap();
    let (mut sealer, _) = ask(&key, Suite::X25519, Pacing::Fast, NOW).unwrap();
    let bytes = sealer.opening(b"prompt").unwrap();
    let mut opener = RequestOpener::new(&keys, NOW);
    assert_eq!(error(&mut opener, &bytes), OpenError::OtherRecord);
}

#[test]
fn a_request_from_another_time_is_refused() {
    let keys = keys();
    let key = key(&keys, NOW);
    for (sealed_at, is_taken) in [
        (0, true),
        (120, true),
        (121, false),
        (240, true),
        (241, false),
    ] {
        let issued_at = NOW.after_s(sealed_at);
        let opened_at = NOW.after_s(if sealed_at < 130 { 0 } else { 120 });
        let (mut sealer, _) = ask(&key, Suite::X25519, Pacing::Paced, issued_at).unwrap();
        let bytes = sealer.opening(b"prompt").unwrap();
        let mut opener = RequestOpener::new(&keys, opened_at);
        opener.push(&bytes).unwrap();
        let stale = OpenError::Stale {
            issued_at,
            now: opened_at,
        };
        assert_eq!(opener.next().is_ok(), is_taken);
        assert!(
            is_taken || opener.next() == Err(OpenError::Failed),
            "{stale}"
        );

        // The same, later: a replay.
        let mut opener = RequestOpener::new(&keys, issued_at.after_s(121));
        let now = issued_at.after_s(121);
        assert_eq!(
            error(&mut opener, &bytes),
            OpenError::Stale { issued_at, now }
        );
    }
}

#[test]
fn a_replay_is_known_before_anything_is_computed() {
    let keys = keys();
    let mut replays = seal::Replays::new();
    for suite in Suite::ALL {
        let (bytes, _) = recorded(&keys, suite);
        let head = 7 + if suite == Suite::XWing { 1120 } else { 32 };
        let mut opener = RequestOpener::new(&keys, NOW);
        opener.push(&bytes[..head - 1]).unwrap();
        assert_eq!(opener.encapsulated(), None);
        opener.push(&bytes[head - 1..]).unwrap();
        let encapsulated = opener.encapsulated().unwrap();
        assert!(!replays.knows(&encapsulated));
        assert!(opener.next().unwrap().is_some());
        assert!(replays.first(opener.encapsulated().unwrap(), NOW));

        let mut opener = RequestOpener::new(&keys, NOW);
        opener.push(&bytes[..head]).unwrap();
        assert_eq!(opener.encapsulated(), Some(encapsulated));
        assert!(replays.knows(&encapsulated));
        assert!(!replays.first(encapsulated, NOW));
    }
}

#[test]
fn sizes_that_cannot_be_are_refused_by_their_length_alone() {
    let keys = keys();
    let (bytes, _) = recorded(&keys, Suite::X25519);
    let front = &bytes[..2048];
    let refused = |front: &[u8], length: &[u8]| {
        let mut opener = RequestOpener::new(&keys, NOW);
        error(&mut opener, &[front, length].concat())
    };
    assert_eq!(
        refused(front, &[0x41, 0x11]),
        OpenError::ChunkLength { bytes: 0x111 }
    );
    assert_eq!(
        refused(front, &[0x7f, 0xff]),
        OpenError::ChunkLength { bytes: 0x3fff }
    );
    // 272 in four bytes, and in eight; 40 in one.
    assert_eq!(refused(front, &[0x80, 0, 1, 0x10]), OpenError::LengthForm);
    assert_eq!(
        refused(front, &[0xc0, 0, 0, 0, 0, 0, 1, 0x10]),
        OpenError::LengthForm
    );
    assert_eq!(refused(front, &[40]), OpenError::LengthForm);
    // The first chunk: any that an opening can have, no more.
    assert_eq!(
        refused(&front[..39], &[0x7f, 0xff]),
        OpenError::ChunkLength { bytes: 0x3fff }
    );
    // An end in the middle of the opening.
    let mut opener = RequestOpener::new(&keys, NOW);
    let ended = [&front[..39], &[0; 17]].concat();
    assert_eq!(error(&mut opener, &ended), OpenError::Truncated);
}

#[test]
fn a_header_for_other_keys_or_ciphers_is_refused_at_once() {
    let keys = keys();
    let (bytes, _) = recorded(&keys, Suite::X25519);
    for (at, byte) in [(0, 0x55), (2, 0x10), (4, 2), (6, 2)] {
        let mut header = bytes[..7].to_vec();
        header[at] = byte;
        let mut opener = RequestOpener::new(&keys, NOW);
        let refused = opener.push(&header).unwrap_err();
        match at {
            0 => assert_eq!(refused, OpenError::UnknownKey { key_id: 0x55 }),
            _ => assert!(matches!(refused, OpenError::NotOffered { .. }), "{refused}"),
        }
        assert_eq!(opener.encapsulated(), None);
    }
}

#[test]
fn what_waits_to_be_opened_is_bounded() {
    let keys = keys();
    let (bytes, mut answer) = recorded(&keys, Suite::X25519);
    let mut opener = RequestOpener::new(&keys, NOW);
    opener.push(&bytes).unwrap();
    let limit = seal::BACKLOG_BYTES_MAX;
    let flood = vec![0; limit];
    assert_eq!(opener.push(&flood), Err(OpenError::Backlog { limit }));
    assert_eq!(answer.push(&flood), Ok(()));
    assert_eq!(answer.push(&[0]), Err(OpenError::Backlog { limit }));
}
