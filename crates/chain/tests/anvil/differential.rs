//! The same deeds on the contracts and on the ledger in memory.

use std::collections::BTreeMap;

use chain::{EvmLedger, Network};
use market::{Amount, Ledger, MemoryLedger, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::deeds::{Channels, Deed, EVERYBODY, Outcome, Row, Who, perform, picture};
use crate::node::{Anvil, GRANT};

/// Both ledgers, seen from everybody.
struct Twins {
    anvil: Anvil,
    evm: BTreeMap<Who, EvmLedger>,
    memory: MemoryLedger,
    channels: Channels,
}

impl Twins {
    async fn new() -> Self {
        let anvil = Anvil::with_contracts().await;
        let network = Network::local();
        let usd = network.tokens[1].address;
        let domain = network.domain();
        let memory = MemoryLedger::new(domain, network.mor, Timestamp(1_000_000));
        let mut evm = BTreeMap::new();
        for who in EVERYBODY {
            evm.insert(who, anvil.ledger(who.account()).await);
            for token in [network.mor, usd] {
                memory.mint(token, who.address(), GRANT).expect("minted");
            }
        }
        Self {
            anvil,
            evm,
            memory,
            channels: Channels::new(domain, network.mor, usd),
        }
    }

    async fn wait(&self, seconds: u64) {
        self.memory.advance(seconds);
        self.anvil.advance(seconds).await;
    }

    /// Does it on both; both must agree on how it went and on what is then so.
    async fn perform(&self, who: Who, deed: Deed) -> Outcome {
        let memory = self.memory.of(who.address());
        let (evm, channels) = (&self.evm[&who], &self.channels);
        let expected = perform(&memory, channels, &deed).await;
        let outcome = perform(evm, channels, &deed).await;
        assert_eq!(outcome, expected, "outcome of {who:?}: {deed:?}");
        assert_eq!(
            picture(evm, channels).await,
            picture(&memory, channels).await,
            "state after {who:?}: {deed:?}"
        );
        outcome
    }
}

fn refused(name: &str) -> Outcome {
    Err(name.to_owned())
}

fn row(channel: usize, signer: Who, ceiling: u128, total: u128) -> Row {
    Row {
        channel,
        ceiling,
        signer,
        total,
    }
}

fn claim(rows: &[Row]) -> Deed {
    Deed::Claim {
        rows: rows.to_vec(),
    }
}

#[tokio::test]
async fn a_provider_comes_to_market() {
    let twins = Twins::new().await;
    let provider = Who::Provider;
    let bid = |price| Deed::PostBid {
        owner: Who::Provider,
        base: 1,
        price,
    };

    let early = twins.perform(provider, bid(5)).await;
    assert_eq!(early, refused("MarketplaceProviderNotFound"));
    let poor = Deed::RegisterProvider { stake: 199 };
    assert_eq!(
        twins.perform(provider, poor).await,
        refused("ProviderStakeTooLow")
    );
    let rich = Deed::RegisterProvider { stake: 10_001 };
    let outcome = twins.perform(provider, rich).await.unwrap_err();
    assert!(outcome.ends_with("needs 10001"), "{outcome}");
    let fair = Deed::RegisterProvider { stake: 200 };
    assert_eq!(twins.perform(provider, fair).await, Ok(()));
    let more = Deed::RegisterProvider { stake: 0 };
    assert_eq!(twins.perform(provider, more).await, Ok(()));

    assert_eq!(
        twins.perform(provider, bid(5)).await,
        refused("MarketplaceModelNotFound")
    );
    let cheap = Deed::RegisterModel { base: 1, stake: 99 };
    assert_eq!(
        twins.perform(provider, cheap).await,
        refused("ModelStakeTooLow")
    );
    let model = Deed::RegisterModel {
        base: 1,
        stake: 100,
    };
    assert_eq!(twins.perform(provider, model.clone()).await, Ok(()));

    let name = "MarketplaceBidPricePerSecondInvalid";
    assert_eq!(twins.perform(provider, bid(0)).await, refused(name));
    assert_eq!(twins.perform(provider, bid(1_000_001)).await, refused(name));
    assert_eq!(twins.perform(provider, bid(5)).await, Ok(()));
    assert_eq!(twins.perform(provider, bid(6)).await, Ok(()));
    let other = Deed::RegisterModel {
        base: 2,
        stake: 150,
    };
    assert_eq!(twins.perform(Who::Stranger, other).await, Ok(()));
}

#[tokio::test]
async fn money_goes_in_over_and_back() {
    let twins = Twins::new().await;
    let deposit = |channel, amount| Deed::Deposit { channel, amount };
    for channel in [0, 1] {
        assert_eq!(
            twins.perform(Who::Payer, deposit(channel, 0)).await,
            refused("ZeroDeposit")
        );
        assert_eq!(
            twins.perform(Who::Payer, deposit(channel, 1_000)).await,
            Ok(())
        );
        assert_eq!(
            twins.perform(Who::Payer, deposit(channel, 500)).await,
            Ok(())
        );
        let outcome = twins
            .perform(Who::Payer, deposit(channel, 8_501))
            .await
            .unwrap_err();
        assert!(outcome.ends_with("needs 8501"), "{outcome}");
    }
    assert_eq!(
        twins.perform(Who::Payer, deposit(2, 5)).await,
        refused("WithdrawDelayOutOfRange")
    );

    // Channel 0 takes the hot key's word, channel 1 the payer's own.
    let good = [row(0, Who::HotKey, 400, 300), row(1, Who::Payer, 200, 200)];
    for (who, rows, expected) in [
        (Who::Provider, vec![], refused("EmptyBatch")),
        (
            Who::Stranger,
            good.to_vec(),
            refused("NotAuthorizedToClaim"),
        ),
        (
            Who::Provider,
            vec![good[0], row(1, Who::HotKey, 200, 200)],
            refused("InvalidSignature"),
        ),
        (
            Who::Provider,
            vec![good[0], row(1, Who::Payer, 200, 201)],
            refused("ClaimExceedsCeiling"),
        ),
        (
            Who::Claimer,
            vec![row(0, Who::HotKey, 1_501, 1_501)],
            refused("ClaimExceedsBalance"),
        ),
        (Who::Claimer, good.to_vec(), Ok(())),
        // An old claim is passed over, whoever signed it.
        (Who::Provider, vec![row(0, Who::Stranger, 300, 300)], Ok(())),
    ] {
        let deed = claim(&rows);
        assert_eq!(twins.perform(who, deed).await, expected, "{rows:?}");
    }
    for usd in [false, true] {
        let settle = Deed::Settle {
            receiver: Who::Provider,
            usd,
        };
        assert_eq!(twins.perform(Who::Stranger, settle.clone()).await, Ok(()));
        assert_eq!(twins.perform(Who::Stranger, settle).await, Ok(()));
    }

    let refund = |amount| Deed::Refund { channel: 1, amount };
    assert_eq!(
        twins.perform(Who::Stranger, refund(5)).await,
        refused("NotAuthorizedToRefund")
    );
    assert_eq!(
        twins.perform(Who::Claimer, refund(0)).await,
        refused("ZeroRefund")
    );
    assert_eq!(twins.perform(Who::Claimer, refund(100)).await, Ok(()));
    assert_eq!(twins.perform(Who::Provider, refund(100_000)).await, Ok(()));
}

#[tokio::test]
async fn the_payer_can_always_leave() {
    let twins = Twins::new().await;
    let deposit = Deed::Deposit {
        channel: 0,
        amount: 1_000,
    };
    let leave = |amount| Deed::InitiateWithdraw { channel: 0, amount };
    let finish = Deed::FinalizeWithdraw { channel: 0 };
    assert_eq!(twins.perform(Who::Payer, deposit).await, Ok(()));

    assert_eq!(
        twins.perform(Who::Payer, finish.clone()).await,
        refused("WithdrawalNotPending")
    );
    assert_eq!(
        twins.perform(Who::Payer, leave(0)).await,
        refused("NothingToWithdraw")
    );
    assert_eq!(
        twins.perform(Who::HotKey, leave(1_001)).await,
        refused("WithdrawAmountExceedsAvailable")
    );
    assert_eq!(twins.perform(Who::HotKey, leave(900)).await, Ok(()));
    assert_eq!(
        twins.perform(Who::Payer, leave(1)).await,
        refused("WithdrawalAlreadyPending")
    );
    assert_eq!(
        twins.perform(Who::Provider, finish.clone()).await,
        refused("NotAuthorizedToFinalizeWithdraw")
    );
    assert_eq!(
        twins.perform(Who::Payer, finish.clone()).await,
        refused("WithdrawDelayNotElapsed")
    );

    // The provider claims what it was promised while the payer waits.
    let last = claim(&[row(0, Who::HotKey, 300, 300)]);
    assert_eq!(twins.perform(Who::Provider, last).await, Ok(()));
    twins.wait(1_000).await;
    assert_eq!(twins.perform(Who::Payer, finish).await, Ok(()));

    let domain = twins.channels.domain;
    let state = twins.evm[&Who::Payer]
        .channel(twins.channels.configs[0].id(&domain))
        .await
        .expect("the channel is there");
    assert_eq!(state.balance, Amount::new(300));
    assert_eq!(state.withdrawal, None);
}

#[tokio::test]
async fn who_leaves_the_market_has_the_stakes_back() {
    let twins = Twins::new().await;
    let (provider, stranger) = (Who::Provider, Who::Stranger);
    let register = Deed::RegisterProvider { stake: 250 };
    let model = Deed::RegisterModel {
        base: 1,
        stake: 120,
    };
    let bid = Deed::PostBid {
        owner: provider,
        base: 1,
        price: 5,
    };
    let delete = |of, nonce| Deed::DeleteBid { of, base: 1, nonce };
    let drop_model = Deed::DeregisterModel {
        owner: provider,
        base: 1,
    };
    let leave = Deed::DeregisterProvider;
    let not_yours = || refused("InsufficientRightsForOperation");
    for (who, deed, expected) in [
        (provider, leave.clone(), refused("ProviderNotFound")),
        (provider, drop_model.clone(), not_yours()),
        (provider, register.clone(), Ok(())),
        (stranger, register, Ok(())),
        (provider, model.clone(), Ok(())),
        (provider, bid.clone(), Ok(())),
        (stranger, bid, Ok(())),
        (provider, leave.clone(), refused("ProviderHasActiveBids")),
        (provider, drop_model.clone(), refused("ModelHasActiveBids")),
        (stranger, drop_model.clone(), not_yours()),
        (stranger, delete(provider, 0), not_yours()),
        (
            provider,
            delete(provider, 7),
            refused("MarketplaceActiveBidNotFound"),
        ),
        (provider, delete(provider, 0), Ok(())),
        (
            provider,
            delete(provider, 0),
            refused("MarketplaceActiveBidNotFound"),
        ),
        // The stranger still bids for it.
        (provider, drop_model.clone(), refused("ModelHasActiveBids")),
        (provider, leave.clone(), Ok(())),
        (provider, leave, refused("ProviderHasAlreadyDeregistered")),
        (stranger, delete(stranger, 0), Ok(())),
        (provider, drop_model.clone(), Ok(())),
        (provider, drop_model, refused("ModelHasAlreadyDeregistered")),
        // A stake that came back does not count twice.
        (
            provider,
            Deed::RegisterModel { base: 1, stake: 99 },
            refused("ModelStakeTooLow"),
        ),
        (provider, model, Ok(())),
    ] {
        assert_eq!(
            twins.perform(who, deed.clone()).await,
            expected,
            "{who:?} {deed:?}"
        );
    }
}

#[tokio::test]
async fn a_signed_claim_is_taken_from_anybody() {
    let twins = Twins::new().await;
    let deposit = Deed::Deposit {
        channel: 0,
        amount: 500,
    };
    assert_eq!(twins.perform(Who::Payer, deposit).await, Ok(()));
    let signed = |row, by| Deed::ClaimSigned { row, by };
    let good = row(0, Who::HotKey, 400, 300);
    for (deed, expected) in [
        (signed(good, Who::Provider), refused("InvalidSignature")),
        (
            signed(row(0, Who::Payer, 400, 300), Who::Claimer),
            refused("InvalidSignature"),
        ),
        (
            signed(row(0, Who::HotKey, 200, 300), Who::Claimer),
            refused("ClaimExceedsCeiling"),
        ),
        (
            signed(row(0, Who::HotKey, 600, 501), Who::Claimer),
            refused("ClaimExceedsBalance"),
        ),
        (signed(good, Who::Claimer), Ok(())),
        // Once more changes nothing.
        (signed(good, Who::Claimer), Ok(())),
    ] {
        assert_eq!(
            twins.perform(Who::Stranger, deed.clone()).await,
            expected,
            "{deed:?}"
        );
    }
}

/// Deeds at random, most of them possible.
fn random_deed(random: &mut StdRng) -> (Who, Deed) {
    let channel = random.random_range(0..2);
    let amount = random.random_range(0..400);
    let signer = if random.random_bool(0.9) {
        [Who::HotKey, Who::Payer][channel]
    } else {
        Who::Stranger
    };
    let total = random.random_range(1..900);
    let any = EVERYBODY[random.random_range(0..EVERYBODY.len())];
    let or_any = |random: &mut StdRng, who| if random.random_bool(0.9) { who } else { any };
    match random.random_range(0..10) {
        0..3 => (Who::Payer, Deed::Deposit { channel, amount }),
        3..6 => {
            let ceiling = total + random.random_range(0..50);
            let rows = [row(channel, signer, ceiling, total)];
            (or_any(random, Who::Claimer), claim(&rows))
        }
        6 => {
            let settle = Deed::Settle {
                receiver: Who::Provider,
                usd: channel == 1,
            };
            (any, settle)
        }
        7 => (Who::Payer, Deed::InitiateWithdraw { channel, amount }),
        8 => (
            or_any(random, Who::Payer),
            Deed::FinalizeWithdraw { channel },
        ),
        _ => (
            or_any(random, Who::Provider),
            Deed::Refund { channel, amount },
        ),
    }
}

#[tokio::test]
async fn random_deeds_come_out_alike() {
    for seed in 0..3 {
        let twins = Twins::new().await;
        let mut random = StdRng::seed_from_u64(seed);
        let mut done = 0;
        for _ in 0..60 {
            if random.random_bool(0.1) {
                twins.wait(1_000).await;
            }
            let (who, deed) = random_deed(&mut random);
            done += usize::from(twins.perform(who, deed).await.is_ok());
        }
        assert!(done > 15, "seed {seed}: only {done} deeds were possible");
    }
}
