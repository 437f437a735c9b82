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
    Address, Amount, B256, ChannelConfig, ChannelId, Domain, Durable, ModelId, NodeKey, Outcome,
    Rates, Receipt, RequestId, Timestamp, Upstream, Voucher, WalletKey,
};
use serde::Serialize;
use serde_json::{Value, json};
use transport::message::{
    Ask, Failure, FailureKind, FromConsumer, FromProvider, Infer, Reason, ReceiptsAsk, Refusal,
};

const HOT_KEY: [u8; 32] = [7; 32];
const NODE_KEY: [u8; 32] = [1; 32];

/// Receipts up to this one are there.
const RECEIPTS_AFTER: u64 = 2;

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

/// Who speaks, and over which channel.
struct Scene {
    hot_key: WalletKey,
    node_key: NodeKey,
    domain: Domain,
    channel: ChannelConfig,
    request: RequestId,
}

impl Scene {
    fn new() -> Result<Self, Box<dyn Error>> {
        let hot_key = WalletKey::from_bytes(&HOT_KEY)?;
        Ok(Self {
            channel: ChannelConfig {
                payer: Address::repeat_byte(0x11),
                payer_authorizer: hot_key.address(),
                receiver: Address::repeat_byte(0x22),
                receiver_authorizer: Address::repeat_byte(0x23),
                token: Address::repeat_byte(0x33),
                withdraw_delay_s: 900,
                salt: B256::with_last_byte(5),
            },
            hot_key,
            node_key: NodeKey::from_bytes(&NODE_KEY),
            domain: Domain {
                chain_id: 31_337,
                settlement: Address::repeat_byte(0x40),
            },
            request: RequestId([0x55; 16].into()),
        })
    }

    fn id(&self) -> ChannelId {
        self.channel.id(&self.domain)
    }

    fn receipt(&self) -> Result<Receipt, Box<dyn Error>> {
        Ok(Receipt {
            request: self.request,
            channel: self.id(),
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
        })
    }

    fn of_consumer(&self) -> Result<Vec<Value>, Box<dyn Error>> {
        let voucher = Voucher {
            channel: self.id(),
            ceiling: Amount::new(123_456_789_000_000),
        };
        let voucher = Durable::read_back(voucher).sign(&self.domain, &self.hot_key);
        let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let text = Infer::signed_text(self.request, self.id());
        let infer = Infer {
            request: self.request,
            channel: self.channel,
            voucher,
            model: MODEL,
            rates: RATES,
            body: body.to_vec().into(),
            signature: self.hot_key.sign_message(text.as_bytes()),
        };
        let receipts = ReceiptsAsk::sign(self.id(), RECEIPTS_AFTER, &self.hot_key);
        let pay = FromConsumer::Pay {
            voucher,
            read_tokens: 64,
        };
        Ok(vec![
            message("consumer", &Ask::Infer(Box::new(infer)))?,
            message("consumer", &Ask::Receipts(receipts))?,
            message("consumer", &pay)?,
            message("consumer", &FromConsumer::Leave)?,
        ])
    }

    fn of_provider(&self) -> Result<Vec<Value>, Box<dyn Error>> {
        let token = |byte: u8| postcard::from_bytes(&[byte; 40]);
        let receipt = Durable::read_back(self.receipt()?).sign(&self.node_key);
        let messages = [
            FromProvider::Refused(Refusal {
                reason: Reason::Busy,
                message: "all slots are taken".into(),
                retry_after_ms: Some(1500),
            }),
            FromProvider::Begin {
                tokens: vec![token(0x61)?, token(0x62)?],
            },
            FromProvider::Chunk {
                tokens: 7,
                json: br#"{"choices":[{"delta":{"content":"ice"}}]}"#.to_vec().into(),
            },
            FromProvider::End {
                receipt: receipt.clone(),
                failure: None,
            },
            FromProvider::End {
                receipt: receipt.clone(),
                failure: Some(Failure {
                    kind: FailureKind::Backend,
                    message: "it fell silent".into(),
                }),
            },
            FromProvider::Receipts {
                receipts: vec![receipt],
                running: 1,
            },
        ];
        messages
            .iter()
            .map(|said| message("provider", said))
            .collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let scene = Scene::new()?;
    let messages = [scene.of_consumer()?, scene.of_provider()?].concat();
    let published = json!({
        "hotKey": hex(&HOT_KEY),
        "nodeKey": hex(&NODE_KEY),
        "nodeId": scene.node_key.id(),
        "chainId": scene.domain.chain_id,
        "settlement": scene.domain.settlement,
        "channelId": scene.id(),
        "requestText": Infer::signed_text(scene.request, scene.id()),
        "receiptsText": ReceiptsAsk::signed_text(scene.id(), RECEIPTS_AFTER),
        "receiptBytes": hex(&scene.receipt()?.signing_bytes()),
        "messages": messages,
    });
    println!("{}", serde_json::to_string_pretty(&published)?);
    Ok(())
}
