//! What verifying a voucher costs: `cargo run --release -p market --example vouchers`.
//!
//! One thread. As the provider does it, then the parts: the two hashes, the
//! signer recovered, and a signature checked against a key that is known.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::hint::black_box;
use std::time::Duration;

use k256::ecdsa::signature::hazmat::PrehashVerifier;
use k256::ecdsa::{Signature, SigningKey, VerifyingKey};
use market::{
    Address, Amount, B256, ChannelConfig, Domain, Durable, SignedVoucher, Voucher, WalletKey,
};

const VOUCHERS: usize = 256;
const ROUNDS: usize = 60;
const SECRET: [u8; 32] = [7; 32];

fn main() {
    let domain = Domain {
        chain_id: 42_161,
        settlement: Address::repeat_byte(9),
    };
    let key = WalletKey::from_bytes(&SECRET).expect("a key");
    let config = ChannelConfig {
        payer: Address::repeat_byte(1),
        payer_authorizer: key.address(),
        receiver: Address::repeat_byte(2),
        receiver_authorizer: Address::repeat_byte(2),
        token: Address::repeat_byte(3),
        withdraw_delay_s: 900,
        salt: B256::ZERO,
    };
    let channel = config.id(&domain);
    let ceilings = (1..).map(Amount::new).take(VOUCHERS);
    let vouchers: Vec<SignedVoucher> = ceilings
        .map(|ceiling| Durable::read_back(Voucher { channel, ceiling }).sign(&domain, &key))
        .collect();
    let known = *SigningKey::from_slice(&SECRET)
        .expect("a key")
        .verifying_key();
    type Step<'a> = (&'static str, Box<dyn Fn(&SignedVoucher) + 'a>);
    let steps: [Step<'_>; 4] = [
        (
            "verify, as the provider does it",
            Box::new(|voucher| {
                voucher.verify(&config, &domain).expect("it is signed");
            }),
        ),
        (
            "hashes: channel id and digest",
            Box::new(|voucher| {
                black_box((config.id(&domain), voucher.voucher.digest(&domain)));
            }),
        ),
        (
            "recover the signer's address",
            Box::new(|voucher| {
                let digest = voucher.voucher.digest(&domain);
                let signer = voucher.signature.recover_address_from_prehash(&digest);
                assert_eq!(signer.expect("it is signed"), key.address());
            }),
        ),
        (
            "verify against a known key (k256)",
            Box::new(|voucher| {
                known_key(&known, voucher, &domain);
            }),
        ),
    ];
    println!("{:<40}{:>12}{:>14}", "step", "time", "per second");
    for (name, step) in steps {
        let best = (0..ROUNDS).map(|_| timed(|| vouchers.iter().for_each(&step)));
        let each = best.min().expect("there are rounds") / u32::try_from(VOUCHERS).expect("few");
        println!("{name:<40}{each:>12.2?}{:>14.0}", 1.0 / each.as_secs_f64());
    }
}

fn known_key(known: &VerifyingKey, voucher: &SignedVoucher, domain: &Domain) {
    let digest = voucher.voucher.digest(domain);
    let (r, s) = (voucher.signature.r(), voucher.signature.s());
    let signature = Signature::from_scalars(r.to_be_bytes::<32>(), s.to_be_bytes::<32>());
    let signature = signature.expect("scalars of a signature");
    known
        .verify_prehash(digest.as_slice(), &signature)
        .expect("it is signed");
}

#[expect(
    clippy::disallowed_methods,
    reason = "measuring time is what this is for"
)]
fn timed(work: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    work();
    start.elapsed()
}
