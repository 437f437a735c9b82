//! Streams of server-sent events: well formed, odd, and broken.

use bytes::Bytes;
use openai::sse::{self, Decoder, Event, SseError};
use proptest::prelude::*;

/// How a stream ends: whole, or within an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Half,
}
use End::{Half, Whole};

type Case = (&'static [u8], &'static [&'static [u8]], End);

/// Input, the data of its events, how it ends.
const CASES: [Case; 76] = [
    // Line ends.
    (b"data: a\n\n", &[b"a"], Whole),
    (b"data: a\r\n\r\n", &[b"a"], Whole),
    (b"data: a\r\r", &[b"a"], Whole),
    (b"data: a\n\r\n", &[b"a"], Whole),
    (b"data: a\r\n\n", &[b"a"], Whole),
    (b"data: a\r\n\r", &[b"a"], Whole),
    (b"data: a\n\ndata: b\n\n", &[b"a", b"b"], Whole),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", &[b"a", b"b"], Whole),
    (b"data: a\r\rdata: b\r\r", &[b"a", b"b"], Whole),
    (b"data: a\n\n\n\n\ndata: b\n\n", &[b"a", b"b"], Whole),
    (b"\n\n\ndata: a\n\n", &[b"a"], Whole),
    (b"\r\n\r\ndata: a\n\n", &[b"a"], Whole),
    (b"\rdata: a\n\n", &[b"a"], Whole),
    (b"data: a\n\n\r\n\r\n", &[b"a"], Whole),
    // The space after the colon.
    (b"data:a\n\n", &[b"a"], Whole),
    (b"data:  a\n\n", &[b" a"], Whole),
    (b"data:\ta\n\n", &[b"\ta"], Whole),
    (b"data: a \n\n", &[b"a "], Whole),
    (b"data:{\"a\":1}\n\n", &[b"{\"a\":1}"], Whole),
    (b"data: a:b\n\n", &[b"a:b"], Whole),
    (b"data::\n\n", &[b":"], Whole),
    // Several lines, empty lines.
    (b"data: a\ndata: b\n\n", &[b"a\nb"], Whole),
    (b"data: a\ndata: b\ndata: c\n\n", &[b"a\nb\nc"], Whole),
    (b"data: {\ndata: }\n\n", &[b"{\n}"], Whole),
    (b"data\n\n", &[b""], Whole),
    (b"data:\n\n", &[b""], Whole),
    (b"data: \n\n", &[b""], Whole),
    (b"data\ndata\n\n", &[b"\n"], Whole),
    (b"data:\ndata: a\n\n", &[b"\na"], Whole),
    (b"data: a\ndata:\n\n", &[b"a\n"], Whole),
    // Comments.
    (b": hello\n\n", &[], Whole),
    (b":\n\n", &[], Whole),
    (b":\n:\n:\n", &[], Whole),
    (b": OPENROUTER PROCESSING\n\ndata: a\n\n", &[b"a"], Whole),
    (b": c\ndata: a\n: d\n\n", &[b"a"], Whole),
    (b"data: a\n: c\ndata: b\n\n", &[b"a\nb"], Whole),
    (b":data: no\n\ndata: a\n\n", &[b"a"], Whole),
    (b": ping - 2026\r\n\r\n", &[], Whole),
    (b": unfinished", &[], Whole),
    // A byte order mark.
    (b"\xef\xbb\xbfdata: a\n\n", &[b"a"], Whole),
    (b"\xef\xbb\xbf\ndata: a\n\n", &[b"a"], Whole),
    (b"\xef\xbb\xbf: c\n\n", &[], Whole),
    (b"\xef\xbb\xbf", &[], Whole),
    (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", &[b"a"], Whole),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", &[], Whole),
    // Other fields.
    (b"event: error\ndata: a\n\n", &[b"a"], Whole),
    (b"data: a\nevent: x\n\n", &[b"a"], Whole),
    (b"event: ping\n\ndata: a\n\n", &[b"a"], Whole),
    (b"id: 1\ndata: a\n\n", &[b"a"], Whole),
    (b"retry: 10\n\ndata: a\n\n", &[b"a"], Whole),
    (b"Data: no\n\n", &[], Whole),
    (b" data: no\n\n", &[], Whole),
    (b"datax: no\n\n", &[], Whole),
    (b"dat: no\n\n", &[], Whole),
    (b"{\"error\":\"not an event\"}\n\n", &[], Whole),
    (b"HTTP/1.1 200 OK\r\n\r\ndata: a\n\n", &[b"a"], Whole),
    (b"<html>\n\n", &[], Whole),
    // Bytes that are no text pass as they are; the JSON reader refuses them.
    (b"data: \xff\xfe\n\n", &[b"\xff\xfe"], Whole),
    (b"data: \xf0\x9f\x98\x80\n\n", &["😀".as_bytes()], Whole),
    (b"data: \xe2\x80\xa8\n\n", &["\u{2028}".as_bytes()], Whole),
    (b"data: a\0b\n\n", &[b"a\0b"], Whole),
    (b"data: \xc2\x85\n\n", &["\u{85}".as_bytes()], Whole),
    (b"data: a\x0bb\x0c\n\n", &[b"a\x0bb\x0c"], Whole),
    // The end of the stream.
    (b"", &[], Whole),
    (b"data: [DONE]\n\n", &[b"[DONE]"], Whole),
    (
        b"data: [DONE]\n\ndata: [DONE]\n\n",
        &[b"[DONE]", b"[DONE]"],
        Whole,
    ),
    (
        b"data: [DONE]\n\ndata: late\n\n",
        &[b"[DONE]", b"late"],
        Whole,
    ),
    // Half an event.
    (b"d", &[], Half),
    (b"data", &[], Half),
    (b"data: a", &[], Half),
    (b"data: a\n", &[], Half),
    (b"data: a\r\n", &[], Half),
    (b"data: a\n\ndata: b", &[b"a"], Half),
    (b"data: a\n\ndata: {\"b\":1}\n", &[b"a"], Half),
    (b"data: a\ndata: b\n", &[], Half),
    (b"data: a\n: c", &[], Half),
];

fn decode(pieces: &[&[u8]], limit: usize) -> (Vec<Event>, Result<(), SseError>) {
    let mut decoder = Decoder::with_limit(limit);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    (events, decoder.finish())
}

fn check(pieces: &[&[u8]], case: &Case) {
    let (events, ended) = decode(pieces, 1024);
    let data: Vec<&[u8]> = events.iter().map(|event| &event.data[..]).collect();
    let input = String::from_utf8_lossy(case.0);
    assert_eq!(data, case.1, "events of {input:?}");
    assert_eq!(
        ended.is_ok(),
        case.2 == Whole,
        "end of {input:?}: {ended:?}"
    );
}

#[test]
fn every_stream_reads_as_the_rules_say() {
    for case in &CASES {
        check(&[case.0], case);
    }
}

#[test]
fn where_the_input_is_cut_changes_nothing() {
    for case in &CASES {
        let bytes: Vec<&[u8]> = case.0.chunks(1).collect();
        check(&bytes, case);
        for at in 0..=case.0.len() {
            let (head, tail) = case.0.split_at(at);
            check(&[head, b"", tail], case);
        }
    }
}

#[test]
fn an_event_keeps_its_name_to_itself() {
    let (events, _) = decode(
        &[b"event: error\ndata: a\n\ndata: b\n\nevent: x\n\ndata: c\n\n"],
        1024,
    );
    let names: Vec<Option<&[u8]>> = events.iter().map(|event| event.name.as_deref()).collect();
    assert_eq!(names, [Some(&b"error"[..]), None, None]);
}

#[test]
fn what_does_not_end_is_refused() {
    let long = "x".repeat(101);
    let endless = [
        format!("data: {long}\n\n"),
        format!("data: {long}"),
        format!("data: {long}\ndata: y\n\n"),
        format!("event: {long}\ndata: y\n\n"),
        format!(": {long}"),
        format!(": {long}\n\n"),
        "data: 0123456789\n".repeat(20),
        "x".repeat(10_000),
        "data: y\ndata: ".repeat(60),
    ];
    for text in &endless {
        for size in [1, 7, text.len()] {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let (_, ended) = decode(&pieces, 100);
            assert_eq!(
                ended,
                Err(SseError::TooLong { limit: 100 }),
                "{size} bytes a piece: {text:.30}"
            );
        }
    }
}

#[test]
fn comments_without_end_take_no_memory() {
    let mut decoder = Decoder::with_limit(100);
    for _ in 0..10_000 {
        decoder.push(b": keep-alive\n\n");
        assert_eq!(decoder.next(), Ok(None));
    }
    decoder.push(b"data: a\n\n");
    assert!(decoder.next().unwrap().is_some());
}

#[test]
fn a_written_event_cannot_be_broken_out_of() {
    let json = b"{\"a\":1,\r\n\n\rdata: {}\n\n\"b\":2}";
    let (events, ended) = decode(&[&sse::encode(json)], 1024);
    assert_eq!(ended, Ok(()));
    assert_eq!(events.len(), 1);
    assert!(!events[0].data.contains(&b'\n'));
}

#[test]
fn done_is_known_by_its_data() {
    for (data, done) in [
        ("[DONE]", true),
        (" [DONE] ", true),
        ("[DONE", false),
        ("", false),
        ("\"[DONE]\"", false),
    ] {
        let event = Event {
            name: None,
            data: Bytes::from_static(data.as_bytes()),
        };
        assert_eq!(event.is_done(), done, "{data:?}");
    }
    let (events, _) = decode(&[&sse::DONE], 100);
    assert!(events[0].is_done());
    assert_eq!(decode(&[&sse::KEEP_ALIVE], 100), (vec![], Ok(())));
}

/// Pieces of streams, so that chance finds the interesting ones.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(b"data: ".to_vec()),
        Just(b"data:".to_vec()),
        Just(b"data".to_vec()),
        Just(b"event: x".to_vec()),
        Just(b": c".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(b"\xef\xbb\xbf".to_vec()),
        Just("é😀".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_cutting_of_the_same_bytes_gives_the_same_events(
        bytes in soup(),
        cuts in prop::collection::vec(0usize..12, 0..80),
    ) {
        let whole = decode(&[&bytes], 1 << 20);
        let (mut rest, mut pieces) = (&bytes[..], Vec::new());
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        prop_assert_eq!(decode(&pieces, 1 << 20), whole);
    }

    #[test]
    fn what_is_written_is_read(texts in prop::collection::vec("[^\r\n]{1,40}", 0..10)) {
        let stream: Vec<u8> = texts.iter().flat_map(|text| sse::encode(text.as_bytes())).collect();
        let (events, ended) = decode(&[&stream], 1 << 20);
        prop_assert_eq!(ended, Ok(()));
        let read: Vec<&[u8]> = events.iter().map(|event| &event.data[..]).collect();
        let written: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        prop_assert_eq!(read, written);
    }
}
