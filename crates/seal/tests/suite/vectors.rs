//! The published exchanges of `docs/protocol/vectors` open as they say: with
//! this crate, and their answers with HPKE and AES alone.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Nonce};
use hmac::{Hmac, Mac};
use hpke::aead::AesGcm128;
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, Kem, OpModeR, setup_receiver};
use market::{NodeKey, Timestamp};
use seal::{Cell, CellKind, EpochKeys, RequestOpener, SignedEpoch, read_cell};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::world::{IDENTITY, data, opened};

const PUBLISHED: [(&str, &str); 3] = [
    (
        "x25519",
        include_str!("../../../../docs/protocol/vectors/x25519.json"),
    ),
    (
        "x-wing",
        include_str!("../../../../docs/protocol/vectors/x-wing.json"),
    ),
    (
        "x25519-long",
        include_str!("../../../../docs/protocol/vectors/x25519-long.json"),
    ),
];

struct Vector(Value);

impl Vector {
    fn bytes(&self, field: &str) -> Vec<u8> {
        alloy_primitives::hex::decode(self.0[field].as_str().unwrap()).unwrap()
    }

    fn now(&self) -> Timestamp {
        serde_json::from_value(self.0["now"].clone()).unwrap()
    }

    fn node(&self) -> NodeKey {
        NodeKey::from_bytes(&self.bytes("nodeSecret").try_into().unwrap())
    }

    fn keys(&self) -> EpochKeys {
        let secret = self.bytes("secret").try_into().unwrap();
        EpochKeys::from_secret(IDENTITY, &self.node(), self.now(), &secret)
    }

    /// All data of the cells that are listed, and how many they are.
    fn cells(&self, field: &str) -> (Vec<u8>, usize) {
        let cells = self.0[field].as_array().unwrap();
        let data = cells.iter().filter_map(|cell| cell["data"].as_str());
        let data = data.flat_map(|text| alloy_primitives::hex::decode(text).unwrap());
        (data.collect(), cells.len())
    }
}

fn published() -> impl Iterator<Item = (&'static str, Vector)> {
    let read = |text| Vector(serde_json::from_str(text).unwrap());
    PUBLISHED
        .into_iter()
        .map(move |(name, text)| (name, read(text)))
}

#[test]
fn published_records_are_those_of_their_keys() {
    for (name, vector) in published() {
        let epoch: SignedEpoch = serde_json::from_value(vector.0["epoch"].clone()).unwrap();
        assert_eq!(&epoch, vector.keys().record(), "{name}");
        assert_eq!(epoch.hash().as_slice(), vector.bytes("epochHash"), "{name}");
        let node = vector.node().id();
        assert_eq!(node.0.as_slice(), vector.bytes("node"), "{name}");
        let opened = epoch.open(node, IDENTITY.provider, &IDENTITY.domain, vector.now());
        assert!(opened.is_ok(), "{name}");
    }
}

#[test]
fn published_requests_open_as_they_say() {
    for (name, vector) in published() {
        let keys = vector.keys();
        let mut opener = RequestOpener::new(&keys, vector.now());
        let (cells, end) = opened(&mut opener, &vector.bytes("request"));
        assert_eq!(end, Ok(()), "{name}");
        assert_eq!(
            (data(&cells), cells.len()),
            vector.cells("requestCells"),
            "{name}"
        );
        assert!(matches!(cells[0], Cell::Opening(_)), "{name}");
        let hash = opener.encapsulated().unwrap();
        assert_eq!(hash.as_slice(), vector.bytes("encapsulatedHash"), "{name}");
    }
}

#[test]
fn published_answers_open_with_nothing_of_ours() {
    for (name, vector) in published() {
        let said = match vector.0["suite"].as_str().unwrap() {
            "x25519" => answer::<X25519HkdfSha256>(&vector, "lethe vector x25519\n"),
            "x-wing" => answer::<XWing>(&vector, "lethe vector x-wing\n"),
            other => panic!("{name}: suite {other}"),
        };
        assert_eq!(said, vector.cells("responseCells"), "{name}");
    }
}

/// The data of a recorded answer and the number of its cells, its end included.
fn answer<K: Kem>(vector: &Vector, label: &str) -> (Vec<u8>, usize) {
    let request = vector.bytes("request");
    let enc_bytes = if label.contains("wing") { 1120 } else { 32 };
    let (header, enc) = (&request[..7], &request[7..7 + enc_bytes]);
    let info = [b"message/bhttp chunked request\0", header].concat();
    let secret = [label.as_bytes(), &vector.bytes("secret")].concat();
    let (private, _) = K::derive_keypair(&Sha256::digest(secret));
    let context = setup_receiver::<AesGcm128, HkdfSha256, K>(
        &OpModeR::Base,
        &private,
        &K::EncappedKey::from_bytes(enc).unwrap(),
        &info,
    )
    .unwrap();
    let mut exported = [0; 16];
    context
        .export(b"message/bhttp chunked response", &mut exported)
        .unwrap();

    let response = vector.bytes("response");
    let (nonce, mut chunks) = response.split_at(16);
    let extracted = hmac(&[enc, nonce].concat(), &exported);
    let key = hmac(&extracted, b"key\x01");
    let base = hmac(&extracted, b"nonce\x01");
    let cipher = Aes128Gcm::new_from_slice(&key[..16]).unwrap();
    let mut said = Vec::new();
    for count in 0u8.. {
        let is_last = chunks[0] == 0;
        let (length, aad): (usize, &[u8]) = match is_last {
            true => (1, b"final"),
            false => (2, b""),
        };
        let chunk = if is_last { 17 } else { 2 + 256 + 16 };
        let mut nonce = <[u8; 12]>::try_from(&base[..12]).unwrap();
        nonce[11] ^= count;
        let msg = &chunks[length..chunk];
        let nonce = Nonce::from(nonce);
        let cell = cipher.decrypt(&nonce, Payload { msg, aad }).unwrap();
        chunks = &chunks[chunk..];
        if is_last {
            assert!(cell.is_empty() && chunks.is_empty());
            return (said, usize::from(count) + 1);
        }
        if let (CellKind::Data, data) = read_cell(&cell).unwrap() {
            said.extend_from_slice(data);
        }
    }
    unreachable!("a short answer ends")
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().into()
}
