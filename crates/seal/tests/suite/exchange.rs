//! Exchanges that go well.

use seal::{Cell, LADDER_BYTES, Pacing, RequestOpener, Suite};

use crate::world::{NOW, asked, data, keys, opened, request};

#[test]
fn what_was_sealed_is_opened_in_both_directions() {
    for suite in Suite::ALL {
        let keys = keys();
        let (mut sealer, mut answer) = asked(&keys, suite);
        let bytes = request(
            &mut sealer,
            b"what was your prompt",
            &[b"voucher", &[7; 600]],
        );

        let mut opener = RequestOpener::new(&keys, NOW);
        let (cells, end) = opened(&mut opener, &bytes);
        assert_eq!(end, Ok(()));
        let Some(Cell::Opening(opening)) = cells.first() else {
            panic!("{cells:?} begins with no opening");
        };
        assert_eq!(opening.data, b"what was your prompt".as_slice());
        assert_eq!((opening.issued_at, opening.pacing), (NOW, Pacing::Fast));
        assert_eq!(
            data(&cells[1..]),
            [b"voucher".as_slice(), &[7; 600]].concat()
        );
        assert_eq!(cells.last(), Some(&Cell::End));

        let mut sealer = opener.respond().unwrap();
        assert!(opener.respond().is_none(), "one request, one answer");
        let pieces = [
            sealer.data(b"forget").unwrap(),
            sealer.keep_alive().unwrap(),
            sealer.data(&[1; 254]).unwrap(),
            sealer.pad(2).unwrap(),
            sealer.end().unwrap(),
        ];
        let (cells, end) = opened(&mut answer, &pieces.concat());
        assert_eq!(end, Ok(()));
        assert_eq!(data(&cells), [b"forget".as_slice(), &[1; 254]].concat());
        assert_eq!(cells.len(), 7);
        assert_eq!(cells[1], Cell::KeepAlive);
    }
}

#[test]
fn an_opening_is_as_long_as_its_rung() {
    let keys = keys();
    for suite in Suite::ALL {
        for (bytes, rung) in [(0, 0), (700, 0), (2_000, 1), (30_000, 2), (1_000_000, 5)] {
            let (mut sealer, _) = asked(&keys, suite);
            let opening = sealer.opening(&vec![1; bytes]).unwrap();
            assert_eq!(opening.len(), LADDER_BYTES[rung]);
        }
    }
}

#[test]
fn both_sides_may_move_between_threads() {
    fn moves<T: Send + Sync>() {}
    moves::<seal::RequestSealer>();
    moves::<seal::RequestOpener>();
    moves::<seal::ResponseSealer>();
    moves::<seal::ResponseOpener>();
    moves::<seal::EpochKeys>();
    moves::<seal::EpochKey>();
}
