//! The committed artifacts of the contracts: ABI and bytecode.

use std::sync::LazyLock;

use alloy::json_abi::JsonAbi;
use alloy::primitives::Bytes;
use serde::Deserialize;

/// One compiled contract.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Artifact {
    /// Functions, events and errors.
    pub(crate) abi: JsonAbi,
    /// What creates it; constructor arguments follow.
    pub(crate) bytecode: Bytes,
    /// What stands on the chain afterwards.
    pub(crate) deployed_bytecode: Bytes,
}

macro_rules! artifacts {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(pub(crate) static $name: LazyLock<Artifact> = LazyLock::new(|| {
            let text = include_str!(concat!("../../../contracts/artifacts/", $file, ".json"));
            serde_json::from_str(text).expect("a committed artifact, parsed by every test run")
        });)*

        /// All of them.
        pub(crate) fn all() -> Vec<&'static Artifact> {
            vec![$(&*$name),*]
        }
    };
}

artifacts! {
    SETTLEMENT = "BatchSettlement",
    ALLOWANCE_COLLECTOR = "AllowanceCollector",
    EIP3009_COLLECTOR = "Eip3009Collector",
    CALL_AGGREGATOR = "CallAggregator",
    REGISTRY = "Registry",
    MOR = "MorToken",
    USD = "UsdToken",
}
