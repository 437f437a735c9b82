//! What was sealed is opened, whatever the sizes and however it is cut.

use bytes::Bytes;
use proptest::prelude::*;
use seal::{Cell, EpochKeys, OpenError, RequestOpener, Suite};

use crate::world::{NOW, Opener, asked, data, keys};

/// One set of keys for all cases: making them is what takes time.
fn one() -> &'static EpochKeys {
    static KEYS: std::sync::OnceLock<EpochKeys> = std::sync::OnceLock::new();
    KEYS.get_or_init(keys)
}

/// All cells of a stream that comes in pieces of these sizes, over and over.
fn piecewise(
    stream: &mut impl Opener,
    mut bytes: &[u8],
    sizes: &[usize],
) -> Result<Vec<Cell>, OpenError> {
    let mut cells = Vec::new();
    for size in sizes.iter().cycle() {
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        stream.push(piece)?;
        while let Some(cell) = stream.next()? {
            cells.push(cell);
        }
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    stream.ended().map(|()| cells)
}

fn suites() -> impl Strategy<Value = Suite> {
    prop_oneof![Just(Suite::X25519), Just(Suite::XWing)]
}

fn content(bytes: core::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    (bytes, any::<u8>()).prop_map(|(bytes, seed)| {
        let byte = |at: usize| seed.wrapping_add(at.to_le_bytes()[0]);
        (0..bytes).map(byte).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_is_lost_whatever_the_sizes_and_the_cuts(
        suite in suites(),
        opening in content(0..40_000),
        later in prop::collection::vec(content(1..900), 0..4),
        answer in prop::collection::vec(content(0..900), 0..8),
        sizes in prop::collection::vec(1usize..5_000, 1..6),
    ) {
        let (mut sealer, mut answered) = asked(one(), suite);
        let mut wire = sealer.opening(&opening).unwrap().to_vec();
        for piece in &later {
            wire.extend_from_slice(&sealer.data(piece).unwrap());
        }
        wire.extend_from_slice(&sealer.end().unwrap());

        let mut opener = RequestOpener::new(one(), NOW);
        let cells = piecewise(&mut opener, &wire, &sizes).unwrap();
        prop_assert_eq!(data(&cells), [opening, later.concat()].concat());
        prop_assert_eq!(cells.last(), Some(&Cell::End));

        let mut sealer = opener.respond().unwrap();
        let mut wire: Vec<Bytes> = Vec::new();
        for piece in &answer {
            wire.push(sealer.data(piece).unwrap());
            wire.push(sealer.keep_alive().unwrap());
        }
        wire.push(sealer.pad(sealer.padding_due()).unwrap());
        wire.push(sealer.end().unwrap());
        let cells = piecewise(&mut answered, &wire.concat(), &sizes).unwrap();
        prop_assert_eq!(data(&cells), answer.concat());
        let cells = cells.len() - 1;
        prop_assert!(cells == 0 || cells.is_power_of_two(), "{} cells", cells);
    }

    #[test]
    fn bytes_that_nobody_sealed_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..6_000),
        sizes in prop::collection::vec(1usize..3_000, 1..4),
    ) {
        let mut opener = RequestOpener::new(one(), NOW);
        prop_assert!(piecewise(&mut opener, &bytes, &sizes).is_err());
        prop_assert!(opener.respond().is_none());
        let (_sealer, mut answered) = asked(one(), Suite::X25519);
        prop_assert!(piecewise(&mut answered, &bytes, &sizes).is_err());
    }
}

#[test]
fn a_long_request_in_single_bytes_is_opened_as_quickly_as_it_comes() {
    let (mut sealer, _) = asked(one(), Suite::X25519);
    let prompt = vec![5; 400_000];
    let mut wire = sealer.opening(&prompt).unwrap().to_vec();
    wire.extend_from_slice(&sealer.end().unwrap());
    let mut opener = RequestOpener::new(one(), NOW);
    // Half a million pieces: with work that grows with what is there, for ever.
    let cells = piecewise(&mut opener, &wire, &[1]).unwrap();
    assert_eq!(data(&cells), prompt);
}

#[test]
fn the_longest_request_is_opened_and_a_longer_one_is_not_sealed() {
    let longest = seal::opening_data_max(Suite::XWing);
    let (mut sealer, _) = asked(one(), Suite::XWing);
    assert!(matches!(
        sealer.opening(&vec![0; longest + 1]),
        Err(seal::SealError::TooLong { bytes, limit }) if bytes == longest + 1 && limit == longest
    ));
    let prompt = vec![9; longest];
    let mut wire = sealer.opening(&prompt).unwrap().to_vec();
    assert_eq!(wire.len(), 20 << 20);
    wire.extend_from_slice(&sealer.end().unwrap());
    let mut opener = RequestOpener::new(one(), NOW);
    let cells = piecewise(&mut opener, &wire, &[70_000]).unwrap();
    assert!(data(&cells) == prompt);
}
