//! Why a contract refused, by the name that its ABI gives the error.
//!
//! What a contract returns is anyone's text: it is bounded and made printable.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use alloy::dyn_abi::{DynSolValue, ErrorExt};
use alloy::json_abi;
use alloy::primitives::{Selector, U256};
use alloy::sol_types::{Panic, PanicKind, Revert, SolError};
use market::LedgerError;

use crate::artifact;
use crate::bindings::Permit2;

/// How much of a contract's own words is shown.
const REASON_MAX: usize = 256;

/// Every error of our contracts and of Permit2, by selector.
static ERRORS: LazyLock<BTreeMap<Selector, json_abi::Error>> = LazyLock::new(|| {
    let ours = artifact::all()
        .into_iter()
        .flat_map(|artifact| artifact.abi.errors().cloned());
    let foreign = Permit2::abi::errors().into_values().flatten();
    ours.chain(foreign)
        .map(|error| (error.selector(), error))
        .collect()
});

/// What a revert says: `Name`, or `Name(field: value, …)`, or its own words.
pub(crate) fn reason(data: &[u8]) -> String {
    let Some(selector) = data.first_chunk::<4>() else {
        return "reverted without a reason".to_owned();
    };
    if let Ok(Revert { reason }) = Revert::abi_decode(data) {
        return printable(&reason, REASON_MAX);
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return panicked(panic.code);
    }
    match ERRORS.get(&Selector::from(*selector)) {
        Some(error) => named(error, data),
        None => format!("unknown error {}", Selector::from(*selector)),
    }
}

/// The same as the market's error.
pub(crate) fn refused(data: &[u8]) -> LedgerError {
    LedgerError::Refused {
        reason: reason(data),
    }
}

/// `text` without control characters, and not longer than `max` characters.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(max).map(clean).collect();
    if text.chars().nth(max).is_some() {
        shown.push('…');
    }
    shown
}

fn panicked(code: U256) -> String {
    let kind = u32::try_from(code).ok().and_then(PanicKind::from_number);
    match kind {
        Some(kind) => format!("Panic({code:#04x}: {})", kind.as_str()),
        None => format!("Panic({code:#x})"),
    }
}

fn named(error: &json_abi::Error, data: &[u8]) -> String {
    let Ok(decoded) = error.decode_error(data) else {
        return error.name.clone();
    };
    if decoded.body.is_empty() {
        return error.name.clone();
    }
    let fields: Vec<String> = error
        .inputs
        .iter()
        .zip(&decoded.body)
        .map(|(input, value)| format!("{}: {}", input.name, shown(value)))
        .collect();
    printable(
        &format!("{}({})", error.name, fields.join(", ")),
        REASON_MAX,
    )
}

fn shown(value: &DynSolValue) -> String {
    match value {
        DynSolValue::Uint(number, _) => number.to_string(),
        DynSolValue::Address(address) => address.to_string(),
        DynSolValue::FixedBytes(word, _) => word.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, hex};
    use alloy::sol_types::SolValue;

    use super::*;

    fn of<T: SolValue>(signature: &str, arguments: T) -> Vec<u8>
    where
        for<'a> <T::SolType as alloy::sol_types::SolType>::Token<'a>:
            alloy::sol_types::abi::TokenSeq<'a>,
    {
        let selector = alloy::primitives::keccak256(signature);
        [&selector[..4], &arguments.abi_encode_params()].concat()
    }

    #[test]
    fn errors_are_named_as_in_the_abi() {
        for (data, expected) in [
            (
                of("WithdrawDelayNotElapsed()", ()),
                "WithdrawDelayNotElapsed",
            ),
            (of("EmptyBatch()", ()), "EmptyBatch"),
            (
                of(
                    "ProviderStakeTooLow(uint256,uint256)",
                    (U256::from(1), U256::from(200)),
                ),
                "ProviderStakeTooLow(amount: 1, minAmount: 200)",
            ),
            (
                of(
                    "ERC20InsufficientBalance(address,uint256,uint256)",
                    (Address::ZERO, U256::from(5), U256::from(6)),
                ),
                "ERC20InsufficientBalance(sender: 0x0000000000000000000000000000000000000000, balance: 5, needed: 6)",
            ),
            (
                of("SignatureExpired(uint256)", (U256::from(9),)),
                "SignatureExpired(signatureDeadline: 9)",
            ),
            (
                of("Error(string)", ("ERC20: insufficient allowance",)),
                "ERC20: insufficient allowance",
            ),
            (
                of("Panic(uint256)", (U256::from(0x11),)),
                "Panic(0x11: arithmetic underflow or overflow)",
            ),
            (of("Panic(uint256)", (U256::from(0xabc),)), "Panic(0xabc)"),
            (hex!("deadbeef").to_vec(), "unknown error 0xdeadbeef"),
            (Vec::new(), "reverted without a reason"),
            (vec![1, 2], "reverted without a reason"),
        ] {
            assert_eq!(reason(&data), expected);
        }
    }

    #[test]
    fn a_contracts_words_cannot_flood_or_draw() {
        let reason = reason(&of(
            "Error(string)",
            (format!("\u{1b}[2J{}", "x".repeat(9999)),),
        ));
        assert!(
            reason.chars().count() <= REASON_MAX + 1,
            "{} long",
            reason.len()
        );
        assert!(!reason.contains('\u{1b}'));
    }

    #[test]
    fn arguments_cut_short_leave_the_name() {
        let data = of("ProviderStakeTooLow(uint256,uint256)", (U256::from(1),));
        assert_eq!(reason(&data), "ProviderStakeTooLow");
    }

    proptest::proptest! {
        #[test]
        fn no_revert_data_is_too_strange(data: Vec<u8>) {
            proptest::prop_assert!(!reason(&data).is_empty());
        }
    }
}
