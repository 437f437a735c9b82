//! Channel ids, vouchers and signatures against those of the public x402
//! client: `contracts/oracle/vectors.json` was written by its JavaScript code.

use market::{
    Address, Amount, ChannelConfig, ChannelId, Claim, Domain, Durable, Signature, SignedClaim,
    SignedClaimError, SignedVoucher, Voucher, VoucherError, WalletKey, batch_digest,
};
use serde_json::Value;

/// One channel of the vectors, with its chain.
struct Case {
    domain: Domain,
    config: ChannelConfig,
    id: ChannelId,
    vouchers: Vec<Value>,
}

fn vectors() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../contracts/oracle/vectors.json"
    );
    let text = std::fs::read_to_string(path).expect("contracts/oracle/vectors.json is committed");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

/// The text or number at `key`, read as `T`.
fn read<T: core::str::FromStr>(value: &Value, key: &str) -> T {
    let found = &value[key];
    let text = found
        .as_str()
        .map_or_else(|| found.to_string(), str::to_owned);
    text.parse()
        .unwrap_or_else(|_| panic!("vector has {key} = {text}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().expect("a list in the vectors")
}

fn config(value: &Value) -> ChannelConfig {
    ChannelConfig {
        payer: read(value, "payer"),
        payer_authorizer: read(value, "payerAuthorizer"),
        receiver: read(value, "receiver"),
        receiver_authorizer: read(value, "receiverAuthorizer"),
        token: read(value, "token"),
        withdraw_delay_s: read(value, "withdrawDelay"),
        salt: read(value, "salt"),
    }
}

fn cases() -> Vec<Case> {
    let vectors = vectors();
    let settlement: Address = read(&vectors, "settlement");
    let case = |chain: &Value, channel: &Value| Case {
        domain: Domain {
            chain_id: read(chain, "chainId"),
            settlement,
        },
        config: config(&channel["config"]),
        id: read(channel, "channelId"),
        vouchers: list(channel, "vouchers").to_vec(),
    };
    let cases: Vec<Case> = list(&vectors, "chains")
        .iter()
        .flat_map(|chain| list(chain, "channels").iter().map(move |c| (chain, c)))
        .map(|(chain, channel)| case(chain, channel))
        .collect();
    assert!(cases.len() >= 6, "the vectors lost channels");
    assert!(cases.iter().all(|case| case.vouchers.len() >= 3));
    cases
}

/// The key of the vectors that controls `address`.
fn key_of(address: Address) -> WalletKey {
    let vectors = vectors();
    let keys = vectors["keys"].as_object().expect("keys in the vectors");
    let secret: market::B256 = keys
        .values()
        .find(|key| read::<Address>(key, "address") == address)
        .map(|key| read(key, "privateKey"))
        .expect("every signer's key is in the vectors");
    WalletKey::from_bytes(&secret.0).expect("a key of the vectors")
}

fn signed(case: &Case, vector: &Value) -> SignedVoucher {
    SignedVoucher {
        voucher: Voucher {
            channel: case.id,
            ceiling: read(vector, "maxClaimableAmount"),
        },
        signature: read(vector, "signature"),
    }
}

#[test]
fn channel_ids_are_those_of_the_public_client() {
    for case in cases() {
        assert_eq!(case.config.id(&case.domain), case.id);
    }
}

#[test]
fn voucher_digests_are_those_of_the_public_client() {
    for case in cases() {
        for vector in &case.vouchers {
            let digest = signed(&case, vector).voucher.digest(&case.domain);
            assert_eq!(digest, read::<market::B256>(vector, "digest"));
        }
    }
}

#[test]
fn vouchers_of_the_public_client_are_payment() {
    for case in cases() {
        for vector in &case.vouchers {
            let signer: Address = read(vector, "signer");
            assert_eq!(case.config.voucher_signer(), signer);
            assert_eq!(
                signed(&case, vector).verify(&case.config, &case.domain),
                Ok(())
            );
        }
    }
}

#[test]
fn our_signatures_are_the_public_clients_bytes() {
    for case in cases() {
        let key = key_of(case.config.voucher_signer());
        for vector in &case.vouchers {
            let ours = Durable::read_back(signed(&case, vector).voucher).sign(&case.domain, &key);
            assert_eq!(ours.signature, read::<Signature>(vector, "signature"));
        }
    }
}

#[test]
fn a_vouchers_signature_is_worth_nothing_elsewhere() {
    for case in cases() {
        let good = signed(&case, &case.vouchers[0]);

        let mut higher = good;
        higher.voucher.ceiling = good.voucher.ceiling.plus(Amount::new(1)).unwrap();
        assert_eq!(
            higher.verify(&case.config, &case.domain),
            Err(VoucherError::BadSignature)
        );

        let other_chain = Domain {
            chain_id: case.domain.chain_id + 1,
            ..case.domain
        };
        let there = case.config.id(&other_chain);
        assert_ne!(there, case.id);
        assert_eq!(
            good.verify(&case.config, &other_chain),
            Err(VoucherError::OtherChannel {
                expected: there,
                got: case.id
            })
        );
    }
}

/// The one-row batches of the vectors: who sends them needs no key but one for gas.
#[test]
fn signed_claims_of_the_public_client_are_taken() {
    let all = vectors();
    let mut seen = 0;
    for (chain, batch) in list(&all, "chains")
        .iter()
        .flat_map(|chain| list(chain, "claimBatches").iter().map(move |b| (chain, b)))
    {
        let [row] = list(batch, "claims") else {
            continue;
        };
        let id: ChannelId = read(row, "channelId");
        let case = cases().into_iter().find(|case| case.id == id);
        let case = case.expect("the row's channel is in the vectors");
        assert_eq!(case.domain.chain_id, read::<u64>(chain, "chainId"));
        let vector = case
            .vouchers
            .iter()
            .find(|vector| vector["maxClaimableAmount"] == row["maxClaimableAmount"]);
        let claim = Claim {
            config: case.config,
            voucher: signed(&case, vector.expect("its voucher is in the vectors")),
            total: read(row, "totalClaimed"),
        };
        let digest = batch_digest(&[claim], &case.domain);
        assert_eq!(digest, read::<market::B256>(batch, "digest"));
        let given = SignedClaim {
            claim,
            authorization: read(batch, "signature"),
        };
        assert_eq!(given.verify(&case.domain), Ok(()));
        let ours = SignedClaim::sign(
            claim,
            &case.domain,
            &key_of(case.config.receiver_authorizer),
        );
        assert_eq!(ours, given, "signing is deterministic");
        let more = SignedClaim {
            claim: Claim {
                total: Amount::new(250_001),
                ..claim
            },
            ..given
        };
        assert_eq!(
            more.verify(&case.domain),
            Err(SignedClaimError::BadSignature)
        );
        let payer = key_of(case.config.voucher_signer());
        let forged = SignedClaim::sign(claim, &case.domain, &payer);
        assert_eq!(
            forged.verify(&case.domain),
            Err(SignedClaimError::BadSignature)
        );
        seen += 1;
    }
    assert!(seen >= 2, "the vectors lost their batches of one row");
}
