//! What is done with bytes that are anything: by the fuzzer, and by a test
//! with what the fuzzer found worth keeping (`corpus/`).

use market::{Address, Domain, NodeKey, Record, SignedRecord, Timestamp, WalletKey};

const NOW: Timestamp = Timestamp(1_790_000_000);

/// Descriptors: as they come, and as a text that is well signed.
pub(crate) fn descriptor(bytes: &[u8]) {
    let wallet = WalletKey::from_bytes(&[3; 32]).expect("a good key");
    let domain = Domain {
        chain_id: 31337,
        settlement: Address::repeat_byte(4),
    };
    if let Ok(record) = serde_json::from_slice::<SignedRecord>(bytes) {
        let _ = record.open(wallet.address(), &domain, NOW);
    }
    if let Ok(mut record) = serde_json::from_slice::<Record>(bytes) {
        let node = NodeKey::from_bytes(&[5; 32]);
        record.node = node.id();
        let signed = record.sign(&wallet, &node);
        if let Ok(opened) = signed.open(wallet.address(), &domain, NOW) {
            let again = opened.sign(&wallet, &node);
            let again = again.open(wallet.address(), &domain, NOW);
            assert_eq!(again.expect("it was good before"), opened);
        }
    }
}
