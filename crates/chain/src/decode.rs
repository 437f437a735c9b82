//! Calls and events of the market's contracts by name, as people read them.
//!
//! From the committed ABIs, so what is known here is what was compiled. Pure.
//! Anybody can send anything to a contract: what does not decode has no name.

use std::collections::BTreeMap;

use alloy::dyn_abi::{DynSolValue, EventExt, JsonAbiExt};
use alloy::json_abi::{JsonAbi, Param};
use alloy::primitives::{Address, Log, hex};
use serde::Serialize;

use crate::artifact::{self, Artifact};
use crate::profile::{CALL_AGGREGATOR, Network};

/// The longest input that is decoded, in bytes: entries may lie over each other.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a text or a string of bytes that are shown.
const SHOWN_BYTES_MAX: usize = 512;
/// Entries of a list that are shown.
const ENTRIES_MAX: usize = 32;

/// A call or an event by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decoded {
    /// The contract's name.
    pub contract: &'static str,
    /// The function's or event's.
    pub name: String,
    /// In the order of the source.
    pub arguments: Vec<Argument>,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// As in the source.
    pub name: String,
    /// Its type in Solidity.
    pub kind: String,
    /// What it is.
    pub value: Shown,
}

/// A value in writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// A number in decimals, an address, bytes in hexadecimals, a text.
    Text(String),
    /// A list; what is too long for it is counted at its end.
    List(Vec<Shown>),
    /// The fields of a struct.
    Fields(Vec<Argument>),
}

/// The contracts of one network.
#[derive(Debug)]
pub(crate) struct Contracts(BTreeMap<Address, (&'static str, &'static JsonAbi)>);

impl Contracts {
    pub(crate) fn of(network: &Network) -> Self {
        let tokens = network
            .tokens
            .iter()
            .filter(|token| token.address != network.mor);
        let tokens = tokens.map(|token| (Some(token.address), "UsdToken", &artifact::USD));
        let known = [
            (Some(network.mor), "MorToken", &artifact::MOR),
            (Some(network.registry), "Registry", &artifact::REGISTRY),
            (
                Some(network.settlement),
                "BatchSettlement",
                &artifact::SETTLEMENT,
            ),
            (
                network.collectors.allowance,
                "AllowanceCollector",
                &artifact::ALLOWANCE_COLLECTOR,
            ),
            (
                network.collectors.eip3009,
                "Eip3009Collector",
                &artifact::EIP3009_COLLECTOR,
            ),
            (
                Some(CALL_AGGREGATOR),
                "CallAggregator",
                &artifact::CALL_AGGREGATOR,
            ),
        ];
        let all = known.into_iter().chain(tokens);
        let all = all.filter_map(|(address, name, artifact)| {
            let artifact: &'static Artifact = artifact;
            Some((address?, (name, &artifact.abi)))
        });
        Self(all.collect())
    }

    /// Their names.
    pub(crate) fn names(&self) -> BTreeMap<Address, &'static str> {
        self.0
            .iter()
            .map(|(address, (name, _))| (*address, *name))
            .collect()
    }

    /// A call of one of them.
    pub(crate) fn call(&self, to: Address, input: &[u8]) -> Option<Decoded> {
        let (contract, abi) = self.0.get(&to)?;
        let (selector, arguments) = input.split_first_chunk::<4>()?;
        let function = abi.functions().find(|f| f.selector() == *selector)?;
        if arguments.len() > INPUT_BYTES_MAX {
            return None;
        }
        let values = function.abi_decode_input(arguments).ok()?;
        Some(Decoded {
            contract,
            name: function.name.clone(),
            arguments: named(&function.inputs, &values),
        })
    }

    /// An event of one of them.
    pub(crate) fn event(&self, log: &Log) -> Option<Decoded> {
        let (contract, abi) = self.0.get(&log.address)?;
        let topic = log.data.topics().first()?;
        let event = abi.events().find(|event| event.selector() == *topic)?;
        if log.data.data.len() > INPUT_BYTES_MAX {
            return None;
        }
        let values = event.decode_log(&log.data).ok()?;
        let (mut indexed, mut body) = (values.indexed.iter(), values.body.iter());
        let arguments = event.inputs.iter().filter_map(|input| {
            let value = match input.indexed {
                true => indexed.next(),
                false => body.next(),
            };
            Some(Argument {
                name: input.name.clone(),
                kind: input.ty.clone(),
                value: shown(&input.components, value?),
            })
        });
        Some(Decoded {
            contract,
            name: event.name.clone(),
            arguments: arguments.collect(),
        })
    }
}

fn named(params: &[Param], values: &[DynSolValue]) -> Vec<Argument> {
    let both = params.iter().zip(values);
    both.map(|(param, value)| Argument {
        name: param.name.clone(),
        kind: param.ty.clone(),
        value: shown(&param.components, value),
    })
    .collect()
}

/// `components`: the fields of a struct, or of the structs in a list.
fn shown(components: &[Param], value: &DynSolValue) -> Shown {
    match value {
        DynSolValue::Tuple(values) | DynSolValue::CustomStruct { tuple: values, .. } => {
            Shown::Fields(named(components, values))
        }
        DynSolValue::Array(values) | DynSolValue::FixedArray(values) => {
            let entries = values.iter().take(ENTRIES_MAX);
            let mut list: Vec<_> = entries.map(|value| shown(components, value)).collect();
            if values.len() > ENTRIES_MAX {
                list.push(Shown::Text(format!(
                    "and {} more",
                    values.len() - ENTRIES_MAX
                )));
            }
            Shown::List(list)
        }
        DynSolValue::Bool(value) => Shown::Text(value.to_string()),
        DynSolValue::Int(value, _) => Shown::Text(value.to_string()),
        DynSolValue::Uint(value, _) => Shown::Text(value.to_string()),
        DynSolValue::Address(value) => Shown::Text(value.to_string()),
        DynSolValue::FixedBytes(word, size) => Shown::Text(hex::encode_prefixed(&word[..*size])),
        DynSolValue::Function(value) => Shown::Text(hex::encode_prefixed(value)),
        DynSolValue::Bytes(bytes) => Shown::Text(bytes_shown(bytes)),
        DynSolValue::String(text) => Shown::Text(text_shown(text)),
    }
}

/// Bytes in hexadecimals, and how many are left out.
pub(crate) fn bytes_shown(bytes: &[u8]) -> String {
    match bytes.get(..SHOWN_BYTES_MAX) {
        Some(first) if bytes.len() > SHOWN_BYTES_MAX => format!(
            "{}… ({} bytes in all)",
            hex::encode_prefixed(first),
            bytes.len()
        ),
        _ => hex::encode_prefixed(bytes),
    }
}

fn text_shown(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(SHOWN_BYTES_MAX);
    format!("{}… ({} bytes in all)", &text[..cut], text.len())
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, Bytes, U256, aliases::U40};
    use alloy::sol_types::{SolCall, SolEvent};

    use super::*;
    use crate::bindings::{Erc20, Market, Settlement};

    fn contracts() -> Contracts {
        Contracts::of(&Network::local())
    }

    fn text(text: impl ToString) -> Shown {
        Shown::Text(text.to_string())
    }

    fn config() -> Settlement::ChannelConfig {
        Settlement::ChannelConfig {
            payer: Address::repeat_byte(1),
            payerAuthorizer: Address::repeat_byte(2),
            receiver: Address::repeat_byte(3),
            receiverAuthorizer: Address::repeat_byte(4),
            token: Address::repeat_byte(5),
            withdrawDelay: U40::from(900),
            salt: B256::repeat_byte(6),
        }
    }

    fn claim(rows: usize) -> Bytes {
        let row = Settlement::VoucherClaim {
            voucher: Settlement::Voucher {
                channel: config(),
                maxClaimableAmount: 7,
            },
            signature: vec![9; 65].into(),
            totalClaimed: 8,
        };
        let call = Settlement::claimCall {
            voucherClaims: vec![row; rows],
        };
        call.abi_encode().into()
    }

    #[test]
    fn a_call_has_its_name_and_its_arguments() {
        let network = Network::local();
        let call = Erc20::transferCall {
            to: Address::repeat_byte(1),
            value: U256::from(12),
        };
        let decoded = contracts().call(network.mor, &call.abi_encode()).unwrap();
        assert_eq!(
            (decoded.contract, decoded.name.as_str()),
            ("MorToken", "transfer")
        );
        let [to, value] = &decoded.arguments[..] else {
            panic!("{decoded:?}");
        };
        assert_eq!(
            (to.kind.as_str(), &to.value),
            ("address", &text(Address::repeat_byte(1)))
        );
        assert_eq!((value.kind.as_str(), &value.value), ("uint256", &text(12)));
        let call = Market::providerRegisterCall {
            provider: Address::repeat_byte(1),
            amount: U256::from(3),
            endpoint: "x".repeat(SHOWN_BYTES_MAX + 1),
        };
        let decoded = contracts()
            .call(network.registry, &call.abi_encode())
            .unwrap();
        let Shown::Text(endpoint) = &decoded.arguments[2].value else {
            panic!("{decoded:?}");
        };
        assert!(endpoint.ends_with("x… (513 bytes in all)"), "{endpoint}");
    }

    #[test]
    fn structs_and_lists_show_what_is_in_them() {
        let network = Network::local();
        let decoded = contracts().call(network.settlement, &claim(2)).unwrap();
        let Shown::List(rows) = &decoded.arguments[0].value else {
            panic!("{decoded:?}");
        };
        let Shown::Fields(row) = &rows[1] else {
            panic!("{rows:?}");
        };
        assert_eq!(
            (row[2].name.as_str(), &row[2].value),
            ("totalClaimed", &text(8))
        );
        let Shown::Fields(voucher) = &row[0].value else {
            panic!("{row:?}");
        };
        let Shown::Fields(channel) = &voucher[0].value else {
            panic!("{voucher:?}");
        };
        assert_eq!(
            (channel[5].name.as_str(), &channel[5].value),
            ("withdrawDelay", &text(900))
        );

        let many = contracts()
            .call(network.settlement, &claim(ENTRIES_MAX + 3))
            .unwrap();
        let Shown::List(rows) = &many.arguments[0].value else {
            panic!("{many:?}");
        };
        assert_eq!(rows.last(), Some(&text("and 3 more")));
    }

    #[test]
    fn an_event_has_its_arguments_in_order_indexed_or_not() {
        let network = Network::local();
        let event = Settlement::Deposited {
            channelId: B256::repeat_byte(1),
            sender: Address::repeat_byte(2),
            amount: 3,
            newBalance: 4,
        };
        let log = Log {
            address: network.settlement,
            data: event.encode_log_data(),
        };
        let decoded = contracts().event(&log).unwrap();
        let values: Vec<_> = decoded
            .arguments
            .iter()
            .map(|one| (one.name.as_str(), &one.value))
            .collect();
        assert_eq!(decoded.name, "Deposited");
        assert_eq!(
            values,
            [
                ("channelId", &text(B256::repeat_byte(1))),
                ("sender", &text(Address::repeat_byte(2))),
                ("amount", &text(3)),
                ("newBalance", &text(4)),
            ]
        );
        let created = Settlement::ChannelCreated {
            channelId: B256::repeat_byte(1),
            config: config(),
        };
        let log = Log {
            address: network.settlement,
            data: created.encode_log_data(),
        };
        let decoded = contracts().event(&log).unwrap();
        let Shown::Fields(fields) = &decoded.arguments[1].value else {
            panic!("{decoded:?}");
        };
        assert_eq!(fields[0].name, "payer");
    }

    #[test]
    fn what_is_not_known_or_broken_has_no_name() {
        let (contracts, network) = (contracts(), Network::local());
        let whole = claim(1);
        assert_eq!(contracts.call(Address::repeat_byte(9), &whole), None);
        assert_eq!(contracts.call(network.settlement, &[]), None);
        assert_eq!(
            contracts.call(network.settlement, b"\x01\x02\x03\x04"),
            None
        );
        // The last 31 bytes are padding.
        for cut in 5..whole.len() - 31 {
            assert_eq!(
                contracts.call(network.settlement, &whole[..cut]),
                None,
                "{cut}"
            );
        }
        let huge = [whole.as_ref(), &vec![0; INPUT_BYTES_MAX]].concat();
        assert_eq!(contracts.call(network.settlement, &huge), None);
        let log = Log::new_unchecked(network.settlement, vec![B256::ZERO], Bytes::new());
        assert_eq!(contracts.event(&log), None);
    }
}
