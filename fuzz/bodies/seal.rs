//! What is done with bytes that are anything: by the fuzzer, and by a test
//! with what the fuzzer found worth keeping (`corpus/`).

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use alloy_primitives::B256;
use futures_io::{AsyncRead, AsyncWrite};
use market::{Address, Domain, NodeKey, Timestamp};
use ohttp::hpke::{Aead, Kdf, Kem};
use ohttp::{ClientRequest, KeyConfig, Server, SymmetricSuite};
use seal::{
    Admission, Cell, Epoch, EpochKeys, Identity, OpenError, Pacing, RequestOpener, ResponseOpener,
    SignedEpoch, Suite, Token, ask, read_cell,
};

const NOW: Timestamp = Timestamp(1_790_000_000);
const DOMAIN: Domain = Domain {
    chain_id: 31337,
    settlement: Address::repeat_byte(4),
};
const PROVIDER: Address = Address::repeat_byte(5);

fn node() -> &'static NodeKey {
    static NODE: OnceLock<NodeKey> = OnceLock::new();
    NODE.get_or_init(|| NodeKey::from_bytes(&[7; 32]))
}

fn keys() -> &'static EpochKeys {
    static KEYS: OnceLock<EpochKeys> = OnceLock::new();
    let identity = Identity {
        domain: DOMAIN,
        provider: PROVIDER,
    };
    KEYS.get_or_init(|| EpochKeys::from_secret(identity, node(), NOW, &[9; 32]))
}

/// Pushes all of it in pieces and takes all cells; whether there was an end.
/// Both directions are opened in the same way: `step` pushes, if there is
/// something to push, and takes the next cell.
fn read(
    bytes: &[u8],
    piece: usize,
    mut step: impl FnMut(Option<&[u8]>) -> Result<Option<Cell>, OpenError>,
) -> Result<bool, OpenError> {
    let mut has_ended = false;
    for piece in bytes.chunks(piece.max(1)) {
        let mut cell = step(Some(piece))?;
        while let Some(got) = cell {
            assert!(!has_ended, "a cell behind the end");
            has_ended = got == Cell::End;
            cell = step(None)?;
        }
    }
    Ok(has_ended)
}

fn read_request(opener: &mut RequestOpener, bytes: &[u8], piece: usize) -> Result<bool, OpenError> {
    read(bytes, piece, |bytes| {
        bytes.map_or(Ok(()), |bytes| opener.push(bytes))?;
        opener.next()
    })
}

fn read_response(
    opener: &mut ResponseOpener,
    bytes: &[u8],
    piece: usize,
) -> Result<bool, OpenError> {
    read(bytes, piece, |bytes| {
        bytes.map_or(Ok(()), |bytes| opener.push(bytes))?;
        opener.next()
    })
}

/// The size of the pieces that bytes come in, then the bytes.
fn pieces(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&piece, bytes) = bytes.split_first()?;
    Some((usize::from(piece) * 16 + 1, bytes))
}

/// Bytes that come to a provider. A request that opens has its end behind all its cells.
pub(crate) fn request(bytes: &[u8]) {
    let Some((piece, bytes)) = pieces(bytes) else {
        return;
    };
    let mut opener = RequestOpener::new(keys(), NOW);
    let outcome = read_request(&mut opener, bytes, piece);
    let ended = opener.ended();
    assert_eq!(outcome == Ok(true), ended.is_ok());
    if outcome.is_err() {
        assert!(opener.respond().is_none());
        assert_eq!(opener.next(), Err(OpenError::Failed));
    }
}

/// Cells of any content, each behind its length: what a client that is not ours may seal.
fn cells(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut cells = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (cell, rest) = rest.split_at(length);
        if !cell.is_empty() {
            cells.push(cell);
        }
        bytes = rest;
    }
    cells
}

fn write(mut stream: Pin<&mut impl AsyncWrite>, cells: &[&[u8]]) {
    let mut context = Context::from_waker(Waker::noop());
    for cell in cells {
        let written = stream.as_mut().poll_write(&mut context, cell);
        assert!(matches!(written, Poll::Ready(Ok(_))));
    }
    let closed = stream.as_mut().poll_close(&mut context);
    assert!(matches!(closed, Poll::Ready(Ok(()))));
}

/// The X25519 entry of the record, without the length in front.
fn x25519_entry() -> &'static [u8] {
    static ENTRY: OnceLock<Vec<u8>> = OnceLock::new();
    ENTRY.get_or_init(|| {
        let read = keys().record().read(node().id());
        let mut list = read.expect("a fresh record is good").keys;
        list.truncate(2 + 1 + 2 + 32 + 2 + 8);
        list.split_off(2)
    })
}

/// Cells that are sealed to the provider's key as they should be, and are anything.
/// The hash of the record is put where an opening has it, so that the fuzzer gets behind it.
pub(crate) fn request_cells(bytes: &[u8]) {
    let Some((piece, bytes)) = pieces(bytes) else {
        return;
    };
    let mut first = Vec::new();
    let mut cells = cells(bytes);
    if let Some(opening) = cells.first_mut() {
        first.extend_from_slice(opening);
        if let Some(named) = first.get_mut(4..36) {
            named.copy_from_slice(keys().record().hash().as_slice());
        }
        *opening = &first;
    }
    let client = ClientRequest::from_encoded_config(x25519_entry()).expect("a good entry");
    let mut wire = Vec::new();
    let mut request = client.encapsulate_stream(&mut wire).expect("a good key");
    write(Pin::new(&mut request), &cells);
    drop(request);
    let mut opener = RequestOpener::new(keys(), NOW);
    let outcome = read_request(&mut opener, &wire, piece);
    assert_ne!(outcome, Err(OpenError::Rejected), "it was sealed well");
    assert_eq!(outcome == Ok(true), opener.ended().is_ok());
}

/// Bytes that come to a consumer: as they are, and sealed by its provider.
pub(crate) fn response(bytes: &[u8]) {
    let Some((piece, bytes)) = pieces(bytes) else {
        return;
    };
    // A provider whose keys are at hand.
    static CONFIG: OnceLock<KeyConfig> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let symmetric = vec![SymmetricSuite::new(Kdf::HkdfSha256, Aead::Aes128Gcm)];
        KeyConfig::derive(1, Kem::X25519Sha256, symmetric, &[3; 32]).expect("a good key")
    });
    let list = KeyConfig::encode_list(&[config]).expect("a short list");
    let opened = signed(list).open(node().id(), PROVIDER, &DOMAIN, NOW);
    let key = opened.expect("a good record");

    let exchange = || {
        let sealing = ask(&key, Suite::X25519, Pacing::Fast, NOW);
        let (mut sealer, opener) = sealing.expect("it is offered");
        (sealer.opening(b"prompt").expect("it is short"), opener)
    };
    let (_, mut opener) = exchange();
    let outcome = read_response(&mut opener, bytes, piece);
    assert_ne!(outcome, Ok(true), "nobody sealed it");
    assert!(opener.ended().is_err());

    let (request, mut opener) = exchange();
    let server = Server::new(config.clone()).expect("a private key");
    let mut request = server.decapsulate_stream(&request[..]);
    let mut context = Context::from_waker(Waker::noop());
    let read = Pin::new(&mut request).poll_read(&mut context, &mut [0; 4096]);
    assert!(matches!(read, Poll::Ready(Ok(1..))));
    let mut wire = Vec::new();
    let mut answer = request.response(&mut wire).expect("it was opened");
    write(Pin::new(&mut answer), &cells(bytes));
    drop(answer);
    let outcome = read_response(&mut opener, &wire, piece);
    assert_ne!(outcome, Err(OpenError::Rejected), "it was sealed well");
    assert_eq!(outcome == Ok(true), opener.ended().is_ok());
}

fn signed(keys: Vec<u8>) -> SignedEpoch {
    Epoch {
        version: 1,
        chain_id: DOMAIN.chain_id,
        settlement: DOMAIN.settlement,
        provider: PROVIDER,
        node: node().id(),
        epoch: 1,
        not_before: NOW,
        not_after: NOW.after_s(60),
        keys,
        previous: B256::ZERO,
    }
    .sign(node())
}

/// Epoch records: as they come, as a text that is well signed, and as a list of keys.
pub(crate) fn epoch(bytes: &[u8]) {
    let opened = |record: &SignedEpoch| record.open(node().id(), PROVIDER, &DOMAIN, NOW);
    if let Ok(record) = serde_json::from_slice::<SignedEpoch>(bytes) {
        let _ = opened(&record);
    }
    if let Ok(text) = str::from_utf8(bytes) {
        let tagged = [b"lethe epoch v1\n", bytes].concat();
        let record = SignedEpoch {
            record: text.into(),
            signature: node().sign(&tagged).into(),
        };
        let _ = opened(&record);
    }
    if let Ok(key) = opened(&signed(bytes.to_vec())) {
        assert!(key.offers(Suite::X25519));
        // A key that is none may turn up only here; it must not break anything.
        if let Ok((mut sealer, _)) = ask(&key, key.strongest(), Pacing::Fast, NOW) {
            sealer.opening(b"prompt").expect("it is short");
        }
    }
}

/// One cell: what is read is what was written, and there is no other way to write it.
pub(crate) fn cell(bytes: &[u8]) {
    if let Ok((kind, data)) = read_cell(bytes) {
        let mut again = vec![kind as u8];
        let length = u16::try_from(data.len()).expect("a length of two bytes");
        again.extend_from_slice(&length.to_be_bytes());
        again.extend_from_slice(data);
        again.resize(bytes.len(), 0);
        assert_eq!(again, bytes);
    }
}

/// Tokens that were never handed out, and changed ones.
pub(crate) fn token(bytes: &[u8]) {
    let mut admission = Admission::new();
    let issued = admission.issue(NOW, 1)[0];
    for chunk in bytes.chunks(Token::BYTES) {
        let mut token = issued.to_bytes();
        for (byte, change) in token.iter_mut().zip(chunk) {
            *byte ^= change;
        }
        if token != issued.to_bytes() {
            assert!(!admission.admit(&Token::from_bytes(token), NOW));
        }
        let mut foreign = [0; Token::BYTES];
        foreign[..chunk.len()].copy_from_slice(chunk);
        assert!(!admission.admit(&Token::from_bytes(foreign), NOW));
    }
    assert!(admission.admit(&issued, NOW));
    assert!(!admission.admit(&issued, NOW));
}
