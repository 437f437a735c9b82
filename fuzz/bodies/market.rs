//! What is done with bytes that are anything: by the fuzzer, and by a test
//! with what the fuzzer found worth keeping (`corpus/`).

use market::{
    Address, Certificate, Domain, Heard, Host, LoadBook, LoadDigest, NodeKey, Record,
    SignedCertificate, SignedRecord, Timestamp, WalletKey,
};

const NOW: Timestamp = Timestamp(1_790_000_000);

const DOMAIN: Domain = Domain {
    chain_id: 31337,
    settlement: Address::repeat_byte(4),
};

/// Descriptors and certificates of hosts: as they come, and as a text that is well signed.
pub(crate) fn descriptor(bytes: &[u8]) {
    let wallet = WalletKey::from_bytes(&[3; 32]).expect("a good key");
    let (domain, own) = (DOMAIN, Host::own(wallet.address()));
    if let Ok(record) = serde_json::from_slice::<SignedRecord>(bytes) {
        let _ = record.open(own, &domain, NOW);
    }
    if let Ok(mut record) = serde_json::from_slice::<Record>(bytes) {
        let node = NodeKey::from_bytes(&[5; 32]);
        record.node = node.id();
        let signed = record.sign(&wallet, &node);
        if let Ok(opened) = signed.open(own, &domain, NOW) {
            let again = opened.sign(&wallet, &node);
            let again = again.open(own, &domain, NOW);
            assert_eq!(again.expect("it was good before"), opened);
        }
    }
    if let Ok(signed) = serde_json::from_slice::<SignedCertificate>(bytes) {
        let _ = signed.open(own.provider, &domain, NOW);
    }
    if let Ok(mut certificate) = serde_json::from_slice::<Certificate>(bytes) {
        (certificate.provider, certificate.settlement) = (own.provider, domain.settlement);
        certificate.chain_id = domain.chain_id;
        if let Ok(signed) = certificate.sign(&wallet) {
            let opened = signed.open(own.provider, &domain, certificate.issued_at);
            assert_eq!(opened.expect("it was signed"), certificate);
        }
    }
}

/// Load digests: as they come, and well signed.
pub(crate) fn load(bytes: &[u8]) {
    let node = NodeKey::from_bytes(&[5; 32]);
    let heard = |bytes: &[u8], now| LoadBook::new(DOMAIN).hear(bytes, |_| Some(node.id()), now);
    let _ = heard(bytes, NOW);
    if let Ok(digest) = LoadDigest::read(bytes) {
        let signed = digest.sign(&DOMAIN, &node);
        assert_eq!(signed.len(), bytes.len());
        assert_eq!(LoadDigest::read(&signed).as_ref(), Ok(&digest));
        assert_eq!(heard(&signed, digest.issued_at), Ok(Heard::New));
    }
}
