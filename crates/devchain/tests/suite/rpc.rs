//! The chain over real HTTP, as wallets and libraries speak to it.

use std::time::Duration;

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{ReceiptEnvelope, TxEnvelope};
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::{Block, TransactionReceipt, TransactionRequest};
use alloy::sol_types::{SolCall, SolConstructor, SolValue};
use devchain::Options;
use serde_json::{Value, json};

use crate::client::{
    CHAIN_ID, Draft, GWEI, Rpc, START, Served, address, creation_code, genesis, key, quantity,
};

alloy::sol! {
    contract MorToken {
        constructor(address owner, address holder, uint256 supply);
        function transfer(address to, uint256 amount) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
        function mint(address account, uint256 amount) external;
    }
}

async fn served() -> Served {
    Served::new(&genesis(), Options::default()).await
}

async fn served_with_cheats() -> Served {
    Served::new(
        &genesis(),
        Options {
            cheats: true,
            ..Options::default()
        },
    )
    .await
}

/// Deploys the token from account 0 at nonce 0, all of it to account 0.
async fn token(rpc: &Rpc) -> Address {
    let owner = key(0).address();
    let arguments = MorToken::constructorCall {
        owner,
        holder: owner,
        supply: U256::from(1_000),
    };
    let data = [creation_code("MorToken"), arguments.abi_encode()].concat();
    let draft = Draft {
        to: None,
        data: data.into(),
        gas: 3_000_000,
        ..Draft::default()
    };
    let receipt = rpc.mined(&draft, &key(0)).await;
    assert_eq!(receipt["status"], "0x1");
    address(&receipt["contractAddress"])
}

fn transfer(token: Address, to: Address, amount: u64, nonce: u64) -> Draft {
    let data = MorToken::transferCall {
        to,
        amount: U256::from(amount),
    }
    .abi_encode()
    .into();
    Draft {
        to: Some(token),
        data,
        gas: 100_000,
        nonce,
        ..Draft::default()
    }
}

#[tokio::test]
async fn a_transfer_moves_value_and_pays_the_fee() {
    let served = served().await;
    let rpc = &served.rpc;
    let before = rpc
        .quantity("eth_getBalance", json!([key(0).address(), "latest"]))
        .await;
    let receipt = rpc
        .mined(
            &Draft {
                value: U256::from(7),
                ..Draft::default()
            },
            &key(0),
        )
        .await;

    assert_eq!(receipt["status"], "0x1");
    assert_eq!(quantity(&receipt["gasUsed"]), U256::from(21_000));
    assert_eq!(
        quantity(&receipt["effectiveGasPrice"]),
        U256::from(1_875_000_000_u64)
    );
    let after = rpc
        .quantity("eth_getBalance", json!([key(0).address(), "latest"]))
        .await;
    let fee = U256::from(21_000) * U256::from(1_875_000_000_u64);
    assert_eq!(before - after, U256::from(7) + fee);
    assert_eq!(rpc.quantity("eth_blockNumber", json!([])).await, U256::ONE);
    let nonce = rpc
        .quantity(
            "eth_getTransactionCount",
            json!([key(0).address(), "pending"]),
        )
        .await;
    assert_eq!(nonce, U256::ONE);
}

#[tokio::test]
async fn a_block_commits_to_its_transactions_and_receipts() {
    let served = served().await;
    let rpc = &served.rpc;
    let token = token(rpc).await;
    rpc.mined(&transfer(token, key(1).address(), 5, 1), &key(0))
        .await;

    let block = rpc
        .get("eth_getBlockByNumber", json!(["latest", true]))
        .await;
    let block: Block = serde_json::from_value(block).unwrap();
    assert_eq!(block.header.hash, block.header.inner.hash_slow());
    let transactions: Vec<TxEnvelope> = block
        .transactions
        .txns()
        .map(|tx| tx.inner.inner().clone())
        .collect();
    assert_eq!(
        block.header.transactions_root,
        calculate_transaction_root(&transactions)
    );
    let receipts = rpc.get("eth_getBlockReceipts", json!(["latest"])).await;
    let receipts: Vec<TransactionReceipt> = serde_json::from_value(receipts).unwrap();
    let receipts: Vec<ReceiptEnvelope> = receipts
        .into_iter()
        .map(|receipt| receipt.inner.into_primitives_receipt())
        .collect();
    assert_eq!(
        block.header.receipts_root,
        calculate_receipt_root(&receipts)
    );
    assert_eq!(block.header.logs_bloom, *receipts[0].logs_bloom());

    let parent = rpc
        .get(
            "eth_getBlockByHash",
            json!([block.header.parent_hash, false]),
        )
        .await;
    assert_eq!(parent["number"], "0x1");
    let tx = rpc
        .get(
            "eth_getTransactionByBlockHashAndIndex",
            json!([block.header.hash, "0x0"]),
        )
        .await;
    assert_eq!(tx["blockNumber"], "0x2");
}

#[tokio::test]
async fn logs_are_found_by_range_address_topic_and_block() {
    let served = served().await;
    let rpc = &served.rpc;
    let token = token(rpc).await;
    for (nonce, to) in [(1, 1), (2, 2), (3, 1)] {
        rpc.mined(&transfer(token, key(to).address(), nonce, nonce), &key(0))
            .await;
    }
    let event = keccak256("Transfer(address,address,uint256)");
    let to = |index: usize| key(index).address().into_word();
    let head = rpc.head().await;
    for (filter, found) in [
        (json!({"fromBlock": "0x0"}), 5),
        (
            json!({"fromBlock": "earliest", "toBlock": "latest", "address": token}),
            5,
        ),
        (
            json!({"fromBlock": "0x2", "toBlock": "0x3", "topics": [event]}),
            2,
        ),
        (
            json!({"fromBlock": "0x0", "topics": [event, null, to(1)]}),
            2,
        ),
        (
            json!({"fromBlock": "0x0", "topics": [[event], [], [to(1), to(2)]]}),
            3,
        ),
        (
            json!({"fromBlock": "0x0", "address": [Address::ZERO, key(1).address()]}),
            0,
        ),
        (json!({"blockHash": head, "topics": [event]}), 1),
        (json!({}), 1),
        (json!({"fromBlock": "0x4", "toBlock": "0x999"}), 1),
    ] {
        let logs = rpc.get("eth_getLogs", json!([filter])).await;
        assert_eq!(logs.as_array().unwrap().len(), found, "{filter}");
    }
    let (code, message) = rpc
        .error(
            "eth_getLogs",
            json!([{"fromBlock": "0x3", "toBlock": "0x1"}]),
        )
        .await;
    assert_eq!(code, -32602);
    assert!(
        message.contains("fromBlock 3 is after toBlock 1"),
        "{message}"
    );
}

#[tokio::test]
async fn an_estimate_is_the_smallest_limit_that_works() {
    let served = served().await;
    let rpc = &served.rpc;
    let token = token(rpc).await;
    let draft = transfer(token, key(1).address(), 5, 1);
    let request = json!({"from": key(0).address(), "to": token, "data": draft.data});
    let estimate: u64 = rpc.quantity("eth_estimateGas", json!([request])).await.to();

    let short = Draft {
        gas: estimate - 1,
        ..draft.clone()
    };
    assert_eq!(rpc.mined(&short, &key(0)).await["status"], "0x0");
    let enough = Draft {
        gas: estimate,
        nonce: 2,
        ..draft
    };
    assert_eq!(rpc.mined(&enough, &key(0)).await["status"], "0x1");
    let plain = json!({"from": key(0).address(), "to": key(3).address(), "value": "0x1"});
    assert_eq!(
        rpc.quantity("eth_estimateGas", json!([plain])).await,
        U256::from(21_000)
    );
}

#[tokio::test]
async fn a_revert_carries_its_reason_and_its_data() {
    let served = served().await;
    let rpc = &served.rpc;
    let token = token(rpc).await;
    let mint = MorToken::mintCall {
        account: key(1).address(),
        amount: U256::ONE,
    };
    let data = Bytes::from(mint.abi_encode());
    let request = json!({"from": key(1).address(), "to": token, "data": data});
    let custom = [
        &keccak256("MorTokenCallerCannotMint(address)")[..4],
        &key(1).address().abi_encode(),
    ]
    .concat();
    for method in ["eth_call", "eth_estimateGas"] {
        let error = rpc.ask(method, json!([request])).await.unwrap_err();
        assert_eq!(error["code"], 3, "{error}");
        assert_eq!(error["message"], "execution reverted");
        assert_eq!(error["data"], json!(Bytes::from(custom.clone())));
    }
    let receipt = rpc
        .mined(
            &Draft {
                to: Some(token),
                data,
                gas: 100_000,
                ..Draft::default()
            },
            &key(1),
        )
        .await;
    assert_eq!(receipt["status"], "0x0");
    assert_eq!(receipt["logs"], json!([]));

    // revert("no") written by hand: an init code that reverts with Error(string).
    let reason = [
        &keccak256("Error(string)")[..4],
        &("no".to_owned(),).abi_encode_params(),
    ]
    .concat();
    let length = u8::try_from(reason.len()).unwrap();
    let code = [
        &[
            0x60, length, 0x60, 12, 0x60, 0, 0x39, 0x60, length, 0x60, 0, 0xfd,
        ][..],
        &reason,
    ]
    .concat();
    let (code, message) = rpc
        .error("eth_call", json!([{"data": Bytes::from(code)}]))
        .await;
    assert_eq!((code, message.as_str()), (3, "execution reverted: no"));
    let (code, message) = rpc.error("eth_call", json!([{"data": "0xfe"}])).await;
    assert_eq!(
        (code, message.as_str()),
        (-32000, "invalid opcode: INVALID")
    );
    let endless = json!([{"data": "0x5b600056"}]);
    let (_, message) = rpc.error("eth_estimateGas", endless.clone()).await;
    assert_eq!(message, "gas required exceeds allowance (30000000)");
    let mut greedy = endless;
    greedy[0]["gas"] = json!("0xffffffffffffffff");
    let (_, message) = rpc.error("eth_call", greedy).await;
    assert_eq!(message, "out of gas");
}

#[tokio::test]
async fn what_is_not_taken_is_refused_in_geths_words() {
    let served = served().await;
    let rpc = &served.rpc;
    rpc.mined(&Draft::default(), &key(0)).await;
    let next = Draft {
        nonce: 1,
        ..Draft::default()
    };
    let rich = U256::from(10).pow(U256::from(30));
    for (draft, message) in [
        (
            Draft {
                nonce: 0,
                value: U256::ONE,
                ..next.clone()
            },
            "nonce too low: next nonce 1, tx nonce 0",
        ),
        (
            Draft {
                nonce: 0,
                ..next.clone()
            },
            "nonce too low: next nonce 1, tx nonce 0",
        ),
        (
            Draft {
                chain_id: 1,
                ..next.clone()
            },
            "invalid chain id for signer: have 1 want 31337",
        ),
        (
            Draft {
                value: rich,
                ..next.clone()
            },
            "insufficient funds for gas * price + value: balance ",
        ),
        (
            Draft {
                gas: 20_999,
                ..next.clone()
            },
            "intrinsic gas too low: gas 20999, minimum needed 21000",
        ),
        (
            Draft {
                gas: 30_000_001,
                ..next.clone()
            },
            "exceeds block gas limit: tx gas 30000001, block gas limit 30000000",
        ),
        (
            Draft {
                max_fee: 1,
                tip: 1,
                ..next.clone()
            },
            "max fee per gas less than block base fee: address 0x",
        ),
        (
            Draft {
                tip: 11 * GWEI,
                ..next.clone()
            },
            "max priority fee per gas higher than max fee per gas: address 0x",
        ),
        (
            Draft {
                to: None,
                gas: 9_000_000,
                data: vec![0; 49_153].into(),
                ..next.clone()
            },
            "max initcode size exceeded: code size 49153, limit 49152",
        ),
        (
            Draft {
                gas: 22_000,
                data: vec![1; 100].into(),
                ..next.clone()
            },
            "intrinsic gas too low: gas 22000, minimum needed 22600",
        ),
        (
            Draft {
                gas: 22_700,
                data: vec![1; 100].into(),
                ..next.clone()
            },
            "insufficient gas for floor data gas cost: gas 22700, minimum needed 25000",
        ),
        (
            Draft {
                data: vec![0; 128 * 1024].into(),
                gas: 9_000_000,
                ..next.clone()
            },
            "oversized data: transaction size ",
        ),
        (
            Draft {
                nonce: u64::MAX,
                ..next.clone()
            },
            "nonce has max value: address 0x",
        ),
    ] {
        let error = rpc.send(&draft.signed(&key(0)).0).await.expect_err(message);
        assert_eq!(error["code"], -32000, "{error}");
        let got = error["message"].as_str().unwrap();
        assert!(got.starts_with(message), "{got}");
    }
    for raw in ["0x", "0x00", "0x1234", "0x02c0", "0x03c0"] {
        let (code, message) = rpc.error("eth_sendRawTransaction", json!([raw])).await;
        assert_eq!(code, -32000);
        assert!(
            message.starts_with("failed to decode transaction: "),
            "{message}"
        );
    }
    assert_eq!(rpc.quantity("eth_blockNumber", json!([])).await, U256::ONE);
}

#[tokio::test]
async fn a_transaction_waits_for_the_one_before_it() {
    let served = served().await;
    let rpc = &served.rpc;
    let (second, hash) = Draft {
        nonce: 1,
        ..Draft::default()
    }
    .signed(&key(0));
    rpc.send(&second).await.unwrap();
    assert_eq!(
        rpc.get("eth_getTransactionReceipt", json!([hash])).await,
        Value::Null
    );
    let waiting = rpc.get("eth_getTransactionByHash", json!([hash])).await;
    assert_eq!(waiting["blockNumber"], Value::Null);
    let nonce = json!([key(0).address(), "pending"]);
    assert_eq!(
        rpc.quantity("eth_getTransactionCount", nonce.clone()).await,
        U256::ZERO
    );

    rpc.mined(&Draft::default(), &key(0)).await;
    let receipt = rpc.get("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(receipt["blockNumber"], "0x2");
    assert_eq!(
        rpc.quantity("eth_getTransactionCount", nonce).await,
        U256::from(2)
    );
}

#[tokio::test]
async fn a_replacement_must_pay_a_tenth_more() {
    let served = served().await;
    let rpc = &served.rpc;
    let draft = Draft {
        nonce: 1,
        ..Draft::default()
    };
    rpc.send(&draft.signed(&key(0)).0).await.unwrap();
    let cheap = Draft {
        max_fee: 11 * GWEI - 1,
        tip: 2 * GWEI,
        ..draft.clone()
    };
    let error = rpc.send(&cheap.signed(&key(0)).0).await.unwrap_err();
    assert_eq!(error["message"], "replacement transaction underpriced");
    let error = rpc.send(&draft.signed(&key(0)).0).await.unwrap_err();
    assert_eq!(error["message"], "already known");
    let better = Draft {
        max_fee: 11 * GWEI,
        tip: 2 * GWEI,
        ..draft.clone()
    };
    let (raw, hash) = better.signed(&key(0));
    rpc.send(&raw).await.unwrap();
    rpc.mined(&Draft::default(), &key(0)).await;
    assert_eq!(
        rpc.get("eth_getTransactionReceipt", json!([hash])).await["status"],
        "0x1"
    );
    let gone = rpc
        .get("eth_getTransactionByHash", json!([draft.signed(&key(0)).1]))
        .await;
    assert_eq!(gone, Value::Null);
}

#[tokio::test]
async fn a_tenth_more_rounded_down_replaces_as_wallets_offer_it() {
    let served = served().await;
    let rpc = &served.rpc;
    let offer = |price| Draft {
        nonce: 1,
        max_fee: price,
        tip: price,
        ..Draft::default()
    };
    let (old, tenth_more) = (1_124_359_167, 1_236_795_083);
    rpc.send(&offer(old).signed(&key(0)).0).await.unwrap();
    let cheap = offer(tenth_more - 1).signed(&key(0)).0;
    let error = rpc.send(&cheap).await.unwrap_err();
    assert_eq!(error["message"], "replacement transaction underpriced");
    rpc.send(&offer(tenth_more).signed(&key(0)).0)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_block_on_the_beat_takes_the_best_tips_first() {
    let hour = Duration::from_secs(3_600);
    let options = Options {
        block_time: Some(hour),
        cheats: true,
        ..Options::default()
    };
    let served = Served::new(&genesis(), options).await;
    let rpc = &served.rpc;
    let mut hashes = Vec::new();
    for (sender, nonce, tip) in [(0, 0, 1), (0, 1, 9), (1, 0, 2), (2, 0, 3)] {
        let draft = Draft {
            nonce,
            tip: tip * GWEI,
            ..Draft::default()
        };
        let (raw, hash) = draft.signed(&key(sender));
        rpc.send(&raw).await.unwrap();
        hashes.push(hash);
    }
    assert_eq!(rpc.quantity("eth_blockNumber", json!([])).await, U256::ZERO);
    let nonce = rpc
        .quantity(
            "eth_getTransactionCount",
            json!([key(0).address(), "pending"]),
        )
        .await;
    assert_eq!(nonce, U256::from(2));
    rpc.get("evm_mine", json!([])).await;
    let block = rpc.get("eth_getBlockByNumber", json!(["0x1", false])).await;
    assert_eq!(
        block["transactions"],
        json!([hashes[3], hashes[2], hashes[0], hashes[1]])
    );
    let last = rpc
        .get("eth_getTransactionReceipt", json!([hashes[1]]))
        .await;
    assert_eq!(quantity(&last["cumulativeGasUsed"]), U256::from(84_000));
    assert_eq!(
        rpc.quantity("eth_getBlockTransactionCountByNumber", json!(["0x1"]))
            .await,
        U256::from(4)
    );
}

#[tokio::test]
async fn blocks_are_made_on_the_beat() {
    let block_time = Some(Duration::ZERO);
    let served = Served::new(
        &genesis(),
        Options {
            block_time,
            ..Options::default()
        },
    )
    .await;
    let (raw, hash) = Draft::default().signed(&key(0));
    served.rpc.send(&raw).await.unwrap();
    // Ends because blocks come by themselves; the test runner's patience is the limit.
    while served
        .rpc
        .get("eth_getTransactionReceipt", json!([hash]))
        .await
        .is_null()
    {}
    let block = served.rpc.quantity("eth_blockNumber", json!([])).await;
    while served.rpc.quantity("eth_blockNumber", json!([])).await == block {}
}

#[tokio::test]
async fn alloy_drives_it() {
    let served = served().await;
    let signer = key(0);
    let provider = ProviderBuilder::new()
        .wallet(signer.clone())
        .connect_http(served.rpc.url.parse().unwrap());
    let to = key(1).address();
    let before = provider.get_balance(to).await.unwrap();
    let transfer = TransactionRequest::default()
        .with_to(to)
        .with_value(U256::from(9));
    let receipt = provider
        .send_transaction(transfer)
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    assert!(receipt.status());
    assert_eq!(
        provider.get_balance(to).await.unwrap(),
        before + U256::from(9)
    );

    let owner = signer.address();
    let arguments = MorToken::constructorCall {
        owner,
        holder: owner,
        supply: U256::from(10),
    };
    let code = [creation_code("MorToken"), arguments.abi_encode()].concat();
    let deploy = TransactionRequest::default().with_deploy_code(code);
    let receipt = provider
        .send_transaction(deploy)
        .await
        .unwrap()
        .get_receipt()
        .await
        .unwrap();
    let call = MorToken::balanceOfCall { account: owner }.abi_encode();
    let call = TransactionRequest::default()
        .with_to(receipt.contract_address.unwrap())
        .with_input(call);
    let answer = provider.call(call).await.unwrap();
    assert_eq!(U256::abi_decode(&answer).unwrap(), U256::from(10));
    assert_eq!(provider.get_chain_id().await.unwrap(), CHAIN_ID);
}

#[tokio::test]
async fn time_and_accounts_are_moved_only_where_that_is_allowed() {
    let honest = served().await;
    for method in [
        "evm_mine",
        "anvil_setBalance",
        "evm_snapshot",
        "evm_increaseTime",
    ] {
        let (code, message) = honest.rpc.error(method, json!([])).await;
        assert_eq!(code, -32601);
        assert!(message.contains(method), "{message}");
    }
    let served = served_with_cheats().await;
    let rpc = &served.rpc;
    let time = async || {
        let block = rpc
            .get("eth_getBlockByNumber", json!(["latest", false]))
            .await;
        quantity(&block["timestamp"]).to::<u64>()
    };
    rpc.get("evm_mine", json!([])).await;
    assert_eq!(time().await, START + 10);
    assert_eq!(rpc.get("evm_increaseTime", json!([100])).await, 100);
    rpc.get("anvil_mine", json!(["0x1"])).await;
    assert_eq!(time().await, START + 110);
    rpc.get("evm_setNextBlockTimestamp", json!([START + 1_000]))
        .await;
    rpc.get("evm_mine", json!([])).await;
    assert_eq!(time().await, START + 1_000);
    rpc.get("anvil_mine", json!(["0x3", "0xa"])).await;
    assert_eq!(time().await, START + 1_021);
    let (code, _) = rpc.error("evm_setNextBlockTimestamp", json!([5])).await;
    assert_eq!(code, -32602);
    let (code, message) = rpc.error("anvil_mine", json!(["0xffffff"])).await;
    assert_eq!(
        (code, message.as_str()),
        (-32005, "block count is 16777215, at most 10000 is allowed")
    );

    let there = Address::repeat_byte(7);
    rpc.get("anvil_setBalance", json!([there, "0x5"])).await;
    assert_eq!(
        rpc.quantity("eth_getBalance", json!([there])).await,
        U256::from(5)
    );
    // Returns slot 1: PUSH1 1 SLOAD PUSH1 0 MSTORE PUSH1 32 PUSH1 0 RETURN.
    rpc.get("anvil_setCode", json!([there, "0x60015460005260206000f3"]))
        .await;
    assert_eq!(
        rpc.get("eth_getCode", json!([there, "latest"])).await,
        "0x60015460005260206000f3"
    );
    rpc.get(
        "anvil_setStorageAt",
        json!([there, "0x1", B256::repeat_byte(9)]),
    )
    .await;
    assert_eq!(
        rpc.get("eth_call", json!([{"to": there}])).await,
        json!(B256::repeat_byte(9))
    );
    assert_eq!(
        rpc.get("eth_getStorageAt", json!([there, "0x1", "latest"]))
            .await,
        json!(B256::repeat_byte(9))
    );
    let state = json!({there.to_string(): {"stateDiff": {B256::with_last_byte(1).to_string(): B256::repeat_byte(3)}}});
    let call = rpc
        .get("eth_call", json!([{"to": there}, "latest", state]))
        .await;
    assert_eq!(call, json!(B256::repeat_byte(3)));
    assert_eq!(
        rpc.get("eth_call", json!([{"to": there}])).await,
        json!(B256::repeat_byte(9))
    );
}

#[tokio::test]
async fn going_back_forgets_what_came_after() {
    let served = served_with_cheats().await;
    let rpc = &served.rpc;
    let head = rpc.head().await;
    let snapshot = rpc.get("evm_snapshot", json!([])).await;
    let receipt = rpc
        .mined(
            &Draft {
                value: U256::from(7),
                ..Draft::default()
            },
            &key(0),
        )
        .await;
    assert_ne!(rpc.head().await, head);
    assert_eq!(rpc.get("evm_revert", json!([snapshot])).await, true);
    assert_eq!(rpc.head().await, head);
    let hash = &receipt["transactionHash"];
    assert_eq!(
        rpc.get("eth_getTransactionReceipt", json!([hash])).await,
        Value::Null
    );
    assert_eq!(rpc.get("evm_revert", json!([snapshot])).await, false);
    rpc.mined(
        &Draft {
            value: U256::from(7),
            ..Draft::default()
        },
        &key(0),
    )
    .await;
}

/// Returns what the storage slot 0 has, and adds one to it.
const COUNTS: &str = "0x6000548060010160005560005260206000f3";

#[tokio::test]
async fn the_latest_states_are_kept_and_older_ones_are_refused() {
    const KEPT: u64 = 128;
    let served = served_with_cheats().await;
    let rpc = &served.rpc;
    let counter = Address::repeat_byte(9);
    rpc.get("anvil_setCode", json!([counter, COUNTS])).await;
    let to = key(1).address();
    let before = rpc.quantity("eth_getBalance", json!([to, "0x0"])).await;
    for nonce in 0..3 {
        let draft = Draft {
            to: Some(counter),
            gas: 100_000,
            nonce: 2 * nonce,
            ..Draft::default()
        };
        rpc.mined(&draft, &key(0)).await;
        let draft = Draft {
            value: U256::from(7),
            nonce: 2 * nonce + 1,
            ..Draft::default()
        };
        rpc.mined(&draft, &key(0)).await;
    }
    let shown = json!(rpc.get("eth_getBlockByNumber", json!(["0x3", false])).await["hash"]);
    for (block, count, paid) in [
        (json!("0x0"), 0, 0),
        (json!("0x1"), 1, 0),
        (json!("0x2"), 1, 7),
        (json!("0x3"), 2, 7),
        (json!({"blockHash": shown}), 2, 7),
        (json!({"blockNumber": "0x5"}), 3, 14),
        (json!("0x6"), 3, 21),
        (json!("safe"), 3, 21),
        (json!("pending"), 3, 21),
    ] {
        let count = U256::from(count);
        let call = json!([{"to": counter}, block]);
        let called = rpc.quantity("eth_call", call).await;
        assert_eq!(called, count, "{block}");
        let slot = json!([counter, "0x0", block]);
        assert_eq!(
            rpc.quantity("eth_getStorageAt", slot).await,
            count,
            "{block}"
        );
        let balance = rpc.quantity("eth_getBalance", json!([to, block])).await;
        assert_eq!(balance - before, U256::from(paid), "{block}");
    }
    let nonce = json!([key(0).address(), "0x4"]);
    assert_eq!(
        rpc.quantity("eth_getTransactionCount", nonce).await,
        U256::from(4)
    );
    // Returns the block's number and time.
    let seen = json!([{"data": "0x436000524260205260406000f3"}, "0x4"]);
    let header = rpc.get("eth_getBlockByNumber", json!(["0x4", false])).await;
    let expected = (U256::from(4), quantity(&header["timestamp"])).abi_encode();
    assert_eq!(
        rpc.get("eth_call", seen).await,
        json!(Bytes::from(expected))
    );

    rpc.get("anvil_mine", json!([KEPT - 6 + 1])).await;
    let latest = KEPT + 1;
    rpc.get("eth_getBalance", json!([to, "0x1"])).await;
    let (code, message) = rpc.error("eth_getBalance", json!([to, "0x0"])).await;
    assert_eq!(code, -32000);
    let refusal = format!(
        "the state at block 0 is no longer kept: ask at one of the {KEPT} before the latest, or at \"latest\" (block {latest})"
    );
    assert_eq!(message, refusal);
    let (_, message) = rpc.error("eth_call", json!([{"to": to}, "0x100"])).await;
    assert_eq!(
        message,
        format!("header not found: block 256 is not on this chain, whose latest block is {latest}")
    );
}

#[tokio::test]
async fn going_back_and_editing_keep_the_earlier_states_right() {
    let served = served_with_cheats().await;
    let rpc = &served.rpc;
    let who = Address::repeat_byte(5);
    let at = async |block: &str| rpc.quantity("eth_getBalance", json!([who, block])).await;
    for balance in ["0x1", "0x2"] {
        rpc.get("evm_mine", json!([])).await;
        rpc.get("anvil_setBalance", json!([who, balance])).await;
    }
    let snapshot = rpc.get("evm_snapshot", json!([])).await;
    rpc.get("evm_mine", json!([])).await;
    rpc.get("anvil_setBalance", json!([who, "0x3"])).await;
    assert_eq!(at("0x2").await, U256::from(2));
    rpc.get("evm_revert", json!([snapshot])).await;
    for (block, balance) in [("0x0", 0), ("0x1", 1), ("0x2", 2), ("latest", 2)] {
        assert_eq!(at(block).await, U256::from(balance), "{block}");
    }
}

#[tokio::test]
async fn a_call_sees_the_present_time() {
    let served = served_with_cheats().await;
    let rpc = &served.rpc;
    // Returns the block's number and time.
    let code = "0x436000524260205260406000f3";
    for (block, number, time) in [("latest", 0_u64, START + 10), ("pending", 1, START + 10)] {
        let answer = rpc.get("eth_call", json!([{"data": code}, block])).await;
        let expected = (U256::from(number), U256::from(time)).abi_encode();
        assert_eq!(answer, json!(Bytes::from(expected)), "{block}");
    }
}

#[tokio::test]
async fn filters_tell_what_is_new() {
    let served = served().await;
    let rpc = &served.rpc;
    let token = token(rpc).await;
    let blocks = rpc.get("eth_newBlockFilter", json!([])).await;
    let logs = rpc.get("eth_newFilter", json!([{"address": token}])).await;
    assert_eq!(
        rpc.get("eth_getFilterChanges", json!([blocks])).await,
        json!([])
    );
    rpc.mined(&transfer(token, key(1).address(), 5, 1), &key(0))
        .await;
    let head = rpc.head().await;
    assert_eq!(
        rpc.get("eth_getFilterChanges", json!([blocks])).await,
        json!([head])
    );
    let found = rpc.get("eth_getFilterChanges", json!([logs])).await;
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(
        rpc.get("eth_getFilterChanges", json!([logs])).await,
        json!([])
    );
    assert_eq!(rpc.get("eth_uninstallFilter", json!([logs])).await, true);
    assert_eq!(
        rpc.error("eth_getFilterChanges", json!([logs])).await,
        (-32000, "filter not found".to_owned())
    );
}

#[tokio::test]
async fn fees_follow_the_base_fee() {
    let served = served().await;
    let rpc = &served.rpc;
    assert_eq!(
        rpc.quantity("eth_gasPrice", json!([])).await,
        U256::from(1_875_000_000_u64)
    );
    rpc.mined(
        &Draft {
            tip: 3 * GWEI,
            ..Draft::default()
        },
        &key(0),
    )
    .await;
    let history = rpc
        .get("eth_feeHistory", json!(["0x5", "latest", [10.0, 50.0]]))
        .await;
    assert_eq!(history["oldestBlock"], "0x0");
    assert_eq!(
        history["baseFeePerGas"],
        json!(["0x3b9aca00", "0x342770c0", "0x2da4d8cd"])
    );
    assert_eq!(history["gasUsedRatio"], json!([0.0, 0.0007]));
    assert_eq!(
        history["reward"],
        json!([["0x0", "0x0"], ["0xb2d05e00", "0xb2d05e00"]])
    );
    let (code, message) = rpc
        .error("eth_feeHistory", json!(["0x1", "latest", [50.0, 10.0]]))
        .await;
    assert_eq!(code, -32602);
    assert!(message.contains("ascending"), "{message}");
}
