//! Every call as a line for Foundry's `cast`: what this program does with
//! money, a user can do without it.

use alloy::dyn_abi::{DynSolValue, JsonAbiExt};
use alloy::json_abi::Function;
use alloy::primitives::Selector;

use crate::artifact;
use crate::call::Call;

impl Call {
    /// The call as a `cast send` line. The node's URL and the key are the
    /// user's to add (`--rpc-url`, `--account` or `--interactive`).
    pub fn cast(&self) -> String {
        format!("cast send {} {}", self.to, self.arguments())
    }

    /// Signature and arguments, quoted for a shell; the raw bytes where the
    /// call isn't one of ours or a text has characters that a terminal acts on.
    fn arguments(&self) -> String {
        self.readable().unwrap_or_else(|| self.data.to_string())
    }

    fn readable(&self) -> Option<String> {
        let (selector, arguments) = self.data.split_first_chunk::<4>()?;
        let function = function(Selector::from(*selector))?;
        let values = function.abi_decode_input(arguments).ok()?;
        let mut words = vec![quoted(&function.signature())?];
        for value in &values {
            words.push(quoted(&shown(value, false)?)?);
        }
        Some(words.join(" "))
    }
}

fn function(selector: Selector) -> Option<Function> {
    artifact::all()
        .into_iter()
        .find_map(|artifact| artifact.abi.function_by_selector(selector).cloned())
}

/// A value as cast reads it; texts in quotes if they are part of a list.
fn shown(value: &DynSolValue, nested: bool) -> Option<String> {
    let list = |values: &[DynSolValue]| -> Option<String> {
        let shown: Option<Vec<String>> = values.iter().map(|value| shown(value, true)).collect();
        Some(shown?.join(","))
    };
    match value {
        DynSolValue::Bool(truth) => Some(truth.to_string()),
        DynSolValue::Uint(number, _) => Some(number.to_string()),
        DynSolValue::Address(address) => Some(address.to_string()),
        DynSolValue::FixedBytes(word, size) => {
            Some(alloy::primitives::hex::encode_prefixed(&word[..*size]))
        }
        DynSolValue::Bytes(bytes) => Some(alloy::primitives::hex::encode_prefixed(bytes)),
        DynSolValue::String(text) if nested => {
            // cast has no way to write these inside a list.
            (!text.contains(['"', '\\'])).then(|| format!("\"{text}\""))
        }
        DynSolValue::String(text) => Some(text.clone()),
        DynSolValue::Array(values) | DynSolValue::FixedArray(values) => {
            Some(format!("[{}]", list(values)?))
        }
        DynSolValue::Tuple(values) | DynSolValue::CustomStruct { tuple: values, .. } => {
            Some(format!("({})", list(values)?))
        }
        _ => None,
    }
}

/// One shell word.
fn quoted(text: &str) -> Option<String> {
    if text.chars().any(char::is_control) || text.starts_with('-') {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Some(text.to_owned());
    }
    Some(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, U256};
    use market::{
        Amount, BidId, ChannelConfig, Claim, Durable, ModelId, SignedClaim, Voucher, WalletKey,
    };

    use super::*;
    use crate::call::ModelEntry;
    use crate::profile::Network;

    fn config() -> ChannelConfig {
        ChannelConfig {
            payer: Address::repeat_byte(0x11),
            payer_authorizer: Address::repeat_byte(0x12),
            receiver: Address::repeat_byte(0x13),
            receiver_authorizer: Address::repeat_byte(0x14),
            token: Address::repeat_byte(0x15),
            withdraw_delay_s: 900,
            salt: B256::repeat_byte(0x16),
        }
    }

    #[test]
    fn every_money_action_has_its_line() {
        let network = Network::local();
        let config = config();
        let amount = Amount::new(5_000_000);
        let voucher = Voucher {
            channel: config.id(&network.domain()),
            ceiling: amount,
        };
        let key = WalletKey::from_bytes(&[7; 32]).unwrap();
        let claim = Claim {
            config,
            voucher: Durable::read_back(voucher).sign(&network.domain(), &key),
            total: Amount::new(4_000_000),
        };
        let collector = network.collectors.allowance.unwrap();
        let lines: Vec<String> = [
            Call::approve(network.mor, collector, U256::from(5)),
            Call::deposit(&network, &config, amount, collector, vec![1, 2].into()),
            Call::claim(&network, &[claim]),
            Call::settle(&network, config.receiver, config.token),
            Call::initiate_withdraw(&network, &config, amount),
            Call::finalize_withdraw(&network, &config),
            Call::refund(&network, &config, amount),
            Call::claim_signed(&network, &SignedClaim::sign(claim, &network.domain(), &key)),
            Call::delete_bid(&network, BidId(B256::repeat_byte(0x17))),
            Call::deregister_model(&network, ModelId(B256::repeat_byte(0x18))),
            Call::deregister_provider(&network, config.receiver),
            Call::transfer(network.mor, config.payer, amount),
        ]
        .iter()
        .map(Call::cast)
        .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn texts_are_quoted_or_given_as_bytes() {
        let network = Network::local();
        let model = |name: &str, tag: &str| {
            Call::register_model(
                &network,
                ModelEntry {
                    owner: Address::ZERO,
                    base: B256::ZERO,
                    ipfs_cid: B256::ZERO,
                    fee: U256::ZERO,
                    stake: Amount::ZERO,
                    name: name.to_owned(),
                    tags: vec![tag.to_owned()],
                },
            )
            .cast()
        };
        assert!(model("it's", "a b").ends_with(r#" 0 0 'it'\''s' '["a b"]'"#));
        for (name, tag) in [("\u{1b}[2J", "a"), ("a", "say \"hi\""), ("--help", "a")] {
            assert!(model(name, tag).contains(" 0x"), "{name} {tag}");
            assert!(!model(name, tag).contains(tag) || tag == "a");
            assert!(!model(name, tag).contains('\''), "{name} {tag}");
        }
    }

    #[test]
    fn an_unknown_call_is_given_as_bytes() {
        let call = Call {
            to: Address::ZERO,
            data: vec![0xde, 0xad, 0xbe, 0xef].into(),
        };
        assert_eq!(
            call.cast(),
            "cast send 0x0000000000000000000000000000000000000000 0xdeadbeef"
        );
    }
}
