//! What is done with bytes that are anything: by the fuzzer, and by a test
//! with what the fuzzer found worth keeping (`corpus/`).

use market::{Address, Domain, SignedRecord, Timestamp, WalletKey};

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
    if let Ok(text) = str::from_utf8(bytes) {
        let record = SignedRecord {
            record: text.into(),
            signature: wallet.sign_message(bytes),
        };
        if let Ok(opened) = record.open(wallet.address(), &domain, NOW) {
            let again = opened.sign(&wallet);
            let again = again.open(wallet.address(), &domain, NOW);
            assert_eq!(again.expect("it was good before"), opened);
        }
    }
}
