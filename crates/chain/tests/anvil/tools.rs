//! The lines for `cast` against cast itself.

use std::process::Command;

use chain::{Call, ModelEntry, Network};
use market::{Address, Amount, B256, ChannelConfig, Claim, Durable, U256, Voucher, WalletKey};

/// What cast makes of the line's arguments.
fn encoded_by_cast(call: &Call) -> String {
    let cast = std::env::var_os("CAST").expect("CAST=path of cast is needed");
    let line = call.cast();
    let arguments = line
        .strip_prefix(&format!("cast send {} ", call.to))
        .expect("a cast send line");
    let output = Command::new("sh")
        .env("CAST", cast)
        .arg("-c")
        .arg(format!("\"$CAST\" calldata {arguments}"))
        .output()
        .expect("a shell");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn cast_makes_the_same_bytes_of_every_line() {
    let network = Network::local();
    let domain = network.domain();
    let key = WalletKey::from_bytes(&[7; 32]).expect("a key");
    let config = ChannelConfig {
        payer: Address::repeat_byte(0x11),
        payer_authorizer: key.address(),
        receiver: Address::repeat_byte(0x13),
        receiver_authorizer: Address::repeat_byte(0x14),
        token: network.mor,
        withdraw_delay_s: 900,
        salt: B256::repeat_byte(0x16),
    };
    let amount = Amount::new(u128::MAX);
    let voucher = Voucher {
        channel: config.id(&domain),
        ceiling: amount,
    };
    let claim = Claim {
        config,
        voucher: Durable::read_back(voucher).sign(&domain, &key),
        total: Amount::new(4),
    };
    let model = ModelEntry {
        owner: key.address(),
        base: B256::repeat_byte(1),
        ipfs_cid: B256::ZERO,
        fee: U256::ZERO,
        stake: amount,
        name: "it's a $(model), \"quoted\"".to_owned(),
        tags: vec!["a b".to_owned(), "c".to_owned()],
    };
    let endpoint = "node.example:7001".to_owned();
    for call in [
        Call::approve(network.mor, network.registry, U256::MAX),
        Call::transfer(network.mor, config.receiver, amount),
        Call::register_provider(&network, config.receiver, amount, endpoint),
        Call::register_model(&network, model),
        Call::deposit(
            &network,
            &config,
            amount,
            config.receiver,
            vec![0xab; 40].into(),
        ),
        Call::claim(&network, &[claim, claim]),
        Call::settle(&network, config.receiver, config.token),
        Call::initiate_withdraw(&network, &config, amount),
        Call::finalize_withdraw(&network, &config),
        Call::refund(&network, &config, amount),
    ] {
        assert_eq!(
            encoded_by_cast(&call),
            call.data.to_string(),
            "{}",
            call.cast()
        );
    }
}
