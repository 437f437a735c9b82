//! Who is who: keys, accounts and channels, the same in every story, so that
//! the signature over a sum is made once and remembered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use market::{
    Address, Amount, B256, ChannelConfig, ChannelId, Domain, Durable, ModelId, NodeKey, Rates,
    Signature, SignedVoucher, Sold, Upstream, Voucher, WalletKey,
};

/// The most consumers, and the most providers, in a town.
pub(crate) const PEOPLE_MAX: usize = 4;

/// MOR.
pub(crate) const MOR: Address = Address::repeat_byte(0x70);

/// Where vouchers count.
pub(crate) const DOMAIN: Domain = Domain {
    chain_id: 31_337,
    settlement: Address::repeat_byte(0x40),
};

/// The delay of all channels.
pub(crate) const DELAY_S: u64 = 900;

struct Keys {
    wallets: Vec<WalletKey>,
    hot: Vec<WalletKey>,
    sellers: Vec<WalletKey>,
    nodes: Vec<NodeKey>,
}

/// A channel of the town.
struct Known {
    id: ChannelId,
    config: ChannelConfig,
    parties: (usize, usize),
}

/// All channels that there can be. An id is a handful of hashes, and is asked
/// for at every event.
static CHANNELS: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let pair = |at: usize| (at / PEOPLE_MAX, at % PEOPLE_MAX);
    let known = |(consumer, provider)| {
        let config = made_up(consumer, provider);
        Known {
            id: config.id(&DOMAIN),
            config,
            parties: (consumer, provider),
        }
    };
    let pairs = (0..PEOPLE_MAX * PEOPLE_MAX).map(pair);
    pairs.map(known).collect()
});

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let wallet = |first: u8| {
        let key = |n| WalletKey::from_bytes(&[first + n; 32]).expect("a number below the order");
        (0..4).map(key).collect()
    };
    Keys {
        wallets: wallet(10),
        hot: wallet(30),
        sellers: wallet(50),
        nodes: (70..74).map(|n| NodeKey::from_bytes(&[n; 32])).collect(),
    }
});

/// A consumer's wallet.
pub(crate) fn wallet(consumer: usize) -> &'static WalletKey {
    &KEYS.wallets[consumer]
}

/// A consumer's key for vouchers.
fn hot(consumer: usize) -> &'static WalletKey {
    &KEYS.hot[consumer]
}

/// A provider's wallet.
pub(crate) fn seller(provider: usize) -> &'static WalletKey {
    &KEYS.sellers[provider]
}

/// A provider's key for receipts.
pub(crate) fn node(provider: usize) -> &'static NodeKey {
    &KEYS.nodes[provider]
}

/// The channel between the two.
pub(crate) fn channel(consumer: usize, provider: usize) -> ChannelConfig {
    CHANNELS[consumer * PEOPLE_MAX + provider].config
}

/// Its id.
pub(crate) fn channel_id(consumer: usize, provider: usize) -> ChannelId {
    CHANNELS[consumer * PEOPLE_MAX + provider].id
}

/// The id of any channel.
pub(crate) fn id_of(config: &ChannelConfig) -> ChannelId {
    let known = CHANNELS.iter().find(|known| known.config == *config);
    known.map_or_else(|| config.id(&DOMAIN), |known| known.id)
}

/// Whose channel it is: the consumer's, the provider's.
pub(crate) fn parties(id: ChannelId) -> Option<(usize, usize)> {
    let known = CHANNELS.iter().find(|known| known.id == id)?;
    Some(known.parties)
}

fn made_up(consumer: usize, provider: usize) -> ChannelConfig {
    ChannelConfig {
        payer: wallet(consumer).address(),
        payer_authorizer: hot(consumer).address(),
        receiver: seller(provider).address(),
        receiver_authorizer: seller(provider).address(),
        token: MOR,
        withdraw_delay_s: DELAY_S,
        salt: B256::ZERO,
    }
}

/// What a provider sells, and for how much.
pub(crate) fn sold(provider: usize) -> Sold {
    let (input, output) = [
        (1_000_000, 1_000_000),
        (300_000, 1_700_000),
        (0, 2_500_000),
        (1, 900_001),
    ][provider % 4];
    Sold {
        model: ModelId(B256::ZERO),
        rates: Rates {
            input_per_million: Amount::new(input),
            output_per_million: Amount::new(output),
        },
        upstream: Upstream::OwnEngine,
    }
}

thread_local! {
    static SIGNED: RefCell<BTreeMap<(ChannelId, Amount), Signature>> = const { RefCell::new(BTreeMap::new()) };
    static VERIFIED: RefCell<BTreeSet<(ChannelId, Amount, [u8; 65])>> = const { RefCell::new(BTreeSet::new()) };
}

/// Signs a voucher of a consumer. Signing is deterministic, so a signature
/// that was made before is the same again.
pub(crate) fn sign(consumer: usize, voucher: Durable<Voucher>) -> SignedVoucher {
    let Voucher { channel, ceiling } = *voucher.get();
    let known = SIGNED.with_borrow(|signed| signed.get(&(channel, ceiling)).copied());
    if let Some(signature) = known {
        let voucher = Voucher { channel, ceiling };
        return SignedVoucher { voucher, signature };
    }
    let signed = voucher.sign(&DOMAIN, hot(consumer));
    SIGNED.with_borrow_mut(|all| all.insert((channel, ceiling), signed.signature));
    signed
}

/// Whether a voucher is what it says; remembered if it is.
pub(crate) fn verifies(voucher: &SignedVoucher, config: &ChannelConfig) -> bool {
    let Voucher { channel, ceiling } = voucher.voucher;
    let key = (channel, ceiling, voucher.signature.as_bytes());
    if channel != id_of(config) {
        return false;
    }
    if VERIFIED.with_borrow(|verified| verified.contains(&key)) {
        return true;
    }
    let verified = voucher.verify(config, &DOMAIN).is_ok();
    if verified {
        VERIFIED.with_borrow_mut(|all| all.insert(key));
    }
    verified
}

/// The same voucher with somebody else's signature.
pub(crate) fn forge(voucher: SignedVoucher) -> SignedVoucher {
    let Voucher { channel, ceiling } = voucher.voucher;
    let other = Durable::read_back(Voucher { channel, ceiling });
    other.sign(&DOMAIN, seller(PEOPLE_MAX - 1))
}
