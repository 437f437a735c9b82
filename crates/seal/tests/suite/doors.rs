//! Who is let in: tokens, replays, and the order in which things are said.

use market::Timestamp;
use seal::{
    Admission, PAD_CELLS_MAX, REPLAYS_MAX, Replays, RequestOpener, SealError, Suite, TOKEN_SECONDS,
    TOKENS_PER_ISSUE_MAX, Token, WINDOW_SECONDS, is_fresh,
};

use crate::world::{NOW, asked, keys};

#[test]
fn a_token_lets_in_once_and_for_a_while() {
    let mut admission = Admission::new();
    let tokens = admission.issue(NOW, 3);
    assert_eq!(tokens.len(), 3);
    assert!(admission.admit(&tokens[0], NOW));
    assert!(!admission.admit(&tokens[0], NOW), "spent");
    assert!(admission.admit(&tokens[1], NOW.after_s(TOKEN_SECONDS - 1)));
    assert!(!admission.admit(&tokens[2], NOW.after_s(TOKEN_SECONDS)));
}

#[test]
fn a_changed_or_foreign_token_lets_nobody_in() {
    let mut admission = Admission::new();
    let token = admission.issue(NOW, 1)[0];
    for at in 0..Token::BYTES {
        for bit in 0..8 {
            let mut bytes = token.to_bytes();
            bytes[at] ^= 1 << bit;
            assert!(!admission.admit(&Token::from_bytes(bytes), NOW));
        }
    }
    let foreign = Admission::new().issue(NOW, 1)[0];
    assert!(!admission.admit(&foreign, NOW));
    assert!(admission.admit(&token, NOW));
}

#[test]
fn tokens_are_handed_out_in_bounded_numbers() {
    assert_eq!(
        Admission::new().issue(NOW, 10_000).len(),
        TOKENS_PER_ISSUE_MAX
    );
}

#[test]
fn replays_are_refused_and_with_no_room_everything_new_is() {
    let mut replays = Replays::new();
    let request = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    for number in 0..REPLAYS_MAX {
        assert!(replays.first(request(number), NOW));
    }
    let stale = NOW.after_s(2 * WINDOW_SECONDS);
    assert!(!replays.first(request(REPLAYS_MAX), stale), "no room");
    assert!(replays.knows(&request(0)) && !replays.first(request(0), stale));
    assert!(replays.first(request(REPLAYS_MAX), stale.after_s(1)));
    assert!(!replays.knows(&request(0)), "what is stale makes room");
    // A clock that is set back makes none.
    assert!(!replays.first(request(REPLAYS_MAX), NOW));
}

#[test]
fn clocks_may_differ_by_the_window_and_no_more() {
    let apart = |seconds| {
        let other = NOW.after_s(seconds);
        (is_fresh(NOW, other), is_fresh(other, NOW))
    };
    assert_eq!(apart(0), (true, true));
    assert_eq!(apart(WINDOW_SECONDS), (true, true));
    assert_eq!(apart(WINDOW_SECONDS + 1), (false, false));
    assert!(!is_fresh(Timestamp(u64::MAX), NOW));
}

#[test]
fn a_request_is_opened_once_then_goes_on_then_ends() {
    let keys = keys();
    let (mut sealer, _) = asked(&keys, Suite::X25519);
    let out_of_turn = |outcome: Result<_, SealError>| {
        assert!(matches!(outcome, Err(SealError::OutOfTurn)));
    };
    out_of_turn(sealer.data(b"early").map(drop));
    out_of_turn(sealer.end().map(drop));
    sealer.opening(b"now").unwrap();
    out_of_turn(sealer.opening(b"again").map(drop));
    sealer.end().unwrap();
    out_of_turn(sealer.data(b"late").map(drop));
    out_of_turn(sealer.end().map(drop));
}

#[test]
fn nobody_answers_half_an_opening() {
    let keys = keys();
    let (mut sealer, _) = asked(&keys, Suite::X25519);
    let bytes = sealer.opening(&[1; 50_000]).unwrap();
    let mut opener = RequestOpener::new(&keys, NOW);
    opener.push(&bytes[..17_000]).unwrap();
    assert_eq!(opener.next(), Ok(None));
    assert!(opener.respond().is_none());
    opener.push(&bytes[17_000..]).unwrap();
    assert!(opener.next().unwrap().is_some());
    assert!(opener.respond().is_some());
}

#[test]
fn nobody_answers_what_was_not_opened() {
    let keys = keys();
    let (mut sealer, _) = asked(&keys, Suite::X25519);
    let bytes = sealer.opening(b"now").unwrap();
    let mut opener = RequestOpener::new(&keys, NOW);
    assert!(opener.respond().is_none());
    opener.push(&bytes).unwrap();
    assert!(opener.respond().is_none());
    opener.next().unwrap();
    let mut answer = opener.respond().unwrap();
    answer.end().unwrap();
    assert!(matches!(answer.data(b"late"), Err(SealError::OutOfTurn)));
}

#[test]
fn padding_hides_lengths_and_is_bounded() {
    let keys = keys();
    let (mut sealer, _) = asked(&keys, Suite::X25519);
    let bytes = sealer.opening(b"now").unwrap();
    let mut opener = RequestOpener::new(&keys, NOW);
    opener.push(&bytes).unwrap();
    opener.next().unwrap();
    let mut answer = opener.respond().unwrap();
    for (cells, due) in [(1, 0), (2, 1), (4, 0), (1, 7), (235, 5), (1, 255), (3, 253)] {
        answer.pad(cells).unwrap();
        assert_eq!(answer.padding_due(), due, "behind {cells} cells more");
        answer.pad(due).unwrap();
    }
    let cells = PAD_CELLS_MAX + 1;
    assert!(matches!(
        answer.pad(cells),
        Err(SealError::TooMuchPadding { .. })
    ));
}
