//! One of each message that is said within a sealed exchange, as JSON: its
//! fields and its bytes, with the keys that signed. For
//! `docs/protocol/messages.json`, which `e2e/seal.sh` compares with
//! what this prints.

#![expect(
    clippy::print_stdout,
    reason = "a program whose output is a published file"
)]

use std::error::Error;

use market::{
    Address, Amount, B256, ChannelConfig, Domain, ModelId, NodeKey, Outcome, Rates, Receipt,
    RequestId, Timestamp, Upstream, Voucher, WalletKey,
};
use serde::Serialize;
use serde_json::{Value, json};
use transport::message::{
    Ask, Failure, FailureKind, FromConsumer, FromProvider, Infer, Reason, ReceiptsAsk, Refusal,
};

const HOT_KEY: [u8; 32] = [7; 32];
const NODE_KEY: [u8; 32] = [1; 32];

const RATES: Rates = Rates {
    input_per_million: Amount::new(400_000_000_000_000_000),
    output_per_million: Amount::new(800_000_000_000_000_000),
};
const MODEL: ModelId = ModelId(B256::repeat_byte(0x44));

fn message<T: Serialize>(who: &str, message: &T) -> Result<Value, Box<dyn Error>> {
    let bytes = hex(&postcard::to_allocvec(message)?);
    let fields = serde_json::to_value(message)?;
    Ok(json!({ "from": who, "fields": fields, "bytes": bytes }))
}

fn hex(bytes: &[u8]) -> String {
    alloy_primitives::hex::encode_prefixed(bytes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let hot_key = WalletKey::from_bytes(&HOT_KEY)?;
    let node_key = NodeKey::from_bytes(&NODE_KEY);
    let domain = Domain {
        chain_id: 31_337,
        settlement: Address::repeat_byte(0x40),
    };
    let channel = ChannelConfig {
        payer: Address::repeat_byte(0x11),
        payer_authorizer: hot_key.address(),
        receiver: Address::repeat_byte(0x22),
        receiver_authorizer: Address::repeat_byte(0x23),
        token: Address::repeat_byte(0x33),
        withdraw_delay_s: 900,
        salt: B256::with_last_byte(5),
    };
    let id = channel.id(&domain);
    let request = RequestId([0x55; 16].into());
    let voucher = Voucher {
        channel: id,
        ceiling: Amount::new(123_456_789_000_000),
    };
    let voucher = voucher.sign(&domain, &hot_key);
    let receipt = Receipt {
        request,
        channel: id,
        sequence: 3,
        model: MODEL,
        rates: RATES,
        upstream: Upstream::OwnEngine,
        input_tokens: 13,
        output_tokens: 12,
        amount: RATES.cost(13, 12)?,
        charged_total: Amount::new(99_000_000_000_000),
        outcome: Outcome::Complete,
        issued_at: Timestamp(1_800_000_000),
    };
    let signed = hex(&receipt.signing_bytes());
    let receipt = receipt.sign(&node_key);
    let request_text = Infer::signed_text(request, id);
    let infer = Infer {
        request,
        channel,
        voucher,
        model: MODEL,
        rates: RATES,
        body: br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#
            .to_vec()
            .into(),
        signature: hot_key.sign_message(request_text.as_bytes()),
    };
    let receipts = ReceiptsAsk::sign(id, 2, &hot_key);
    let token = |byte: u8| postcard::from_bytes(&[byte; 40]);
    let refusal = Refusal {
        reason: Reason::Busy,
        message: "all slots are taken".into(),
        retry_after_ms: Some(1500),
    };
    let failure = Failure {
        kind: FailureKind::Backend,
        message: "it fell silent".into(),
    };
    let chunk = br#"{"choices":[{"delta":{"content":"ice"}}]}"#.to_vec();
    let messages = [
        message("consumer", &Ask::Infer(Box::new(infer)))?,
        message("consumer", &Ask::Receipts(receipts))?,
        message(
            "consumer",
            &FromConsumer::Pay {
                voucher,
                read_tokens: 64,
            },
        )?,
        message("consumer", &FromConsumer::Leave)?,
        message("provider", &FromProvider::Refused(refusal))?,
        message(
            "provider",
            &FromProvider::Begin {
                tokens: vec![token(0x61)?, token(0x62)?],
            },
        )?,
        message(
            "provider",
            &FromProvider::Chunk {
                tokens: 7,
                json: chunk.into(),
            },
        )?,
        message(
            "provider",
            &FromProvider::End {
                receipt: receipt.clone(),
                failure: None,
            },
        )?,
        message(
            "provider",
            &FromProvider::End {
                receipt: receipt.clone(),
                failure: Some(failure),
            },
        )?,
        message(
            "provider",
            &FromProvider::Receipts {
                receipts: vec![receipt],
                running: 1,
            },
        )?,
    ];
    let published = json!({
        "hotKey": hex(&HOT_KEY),
        "nodeKey": hex(&NODE_KEY),
        "nodeId": node_key.id(),
        "chainId": domain.chain_id,
        "settlement": domain.settlement,
        "channelId": id,
        "requestText": request_text,
        "receiptsText": ReceiptsAsk::signed_text(id, 2),
        "receiptBytes": signed,
        "messages": messages,
    });
    println!("{}", serde_json::to_string_pretty(&published)?);
    Ok(())
}
