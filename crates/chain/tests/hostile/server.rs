//! A JSON-RPC server of a small made-up chain, in the mood that a test gives it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::sol_types::SolValue;
use chain::Network;
use market::{Address, B256, ChannelConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How it treats who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Takes the connection, and says nothing.
    Silent,
    /// HTTP 429, with the seconds to wait.
    Limiting(u64),
    /// HTTP 502 and a page.
    Broken,
    /// Half an answer.
    Garbage,
}

/// What it says.
#[derive(Debug, Clone)]
pub(crate) struct Says {
    pub(crate) mood: Mood,
    pub(crate) chain_id: u64,
    pub(crate) head: u64,
    /// Blocks from here on are of another fork.
    pub(crate) fork_at: u64,
    pub(crate) channel_balance: u128,
    /// Channels with the block of their creation.
    pub(crate) channels: Vec<(ChannelConfig, u64)>,
    /// Withdrawals with their block, by a number that tells them apart.
    pub(crate) withdrawals: Vec<(u128, u64)>,
    /// The most blocks in one range of logs.
    pub(crate) range_max: u64,
    /// The contract that logs are said to be of, whatever was asked.
    pub(crate) logs_of: Option<Address>,
    /// What every token says of itself.
    pub(crate) symbol: String,
    pub(crate) decimals: u128,
    /// How often each method was asked.
    pub(crate) asked: BTreeMap<String, u32>,
}

/// It stops when this is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    says: Arc<Mutex<Says>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        // A second test of the process finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!(
            "http://{}/secret-key",
            listener.local_addr().expect("bound")
        );
        let says = Arc::new(Mutex::new(Says {
            mood: Mood::Well,
            chain_id: 31_337,
            head: 1_000,
            fork_at: u64::MAX,
            channel_balance: 500,
            channels: Vec::new(),
            withdrawals: Vec::new(),
            range_max: u64::MAX,
            logs_of: None,
            symbol: "FOO".to_owned(),
            decimals: 6,
            asked: BTreeMap::new(),
        }));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&says);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self {
            url,
            says,
            _tasks: tasks,
        }
    }

    pub(crate) fn says(&self) -> MutexGuard<'_, Says> {
        self.says.lock().expect("no test panicked in here")
    }

    pub(crate) fn asked(&self, method: &str) -> u32 {
        self.says().asked.get(method).copied().unwrap_or_default()
    }
}

async fn serve(mut socket: TcpStream, says: Arc<Mutex<Says>>) {
    let Some(request) = read(&mut socket).await else {
        return;
    };
    let (mood, answer) = {
        let mut says = says.lock().expect("no test panicked in here");
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        *says.asked.entry(method).or_default() += 1;
        (says.mood, says.answer(&request))
    };
    let (head, body) = match mood {
        Mood::Silent => return core::future::pending().await,
        Mood::Limiting(seconds) => (
            format!("429 Too Many Requests\r\nretry-after: {seconds}"),
            "slow down".to_owned(),
        ),
        Mood::Broken => ("502 Bad Gateway".to_owned(), "<html>".to_owned()),
        Mood::Garbage => {
            let whole = answer.to_string();
            ("200 OK".to_owned(), whole[..whole.len() / 2].to_owned())
        }
        Mood::Well => ("200 OK".to_owned(), answer.to_string()),
    };
    let length = body.len();
    let response =
        format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    // The client may have gone.
    let _ = socket.write_all(response.as_bytes()).await;
}

/// One request's body.
async fn read(socket: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = socket.read(&mut piece).await.ok()?;
        if count == 0 {
            return None;
        }
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && let Ok(request) = serde_json::from_str(body)
        {
            return Some(request);
        }
    }
}

impl Says {
    fn answer(&self, request: &Value) -> Value {
        let params = &request["params"];
        let result = match request["method"].as_str().unwrap_or_default() {
            "eth_chainId" => Ok(json!(format!("{:#x}", self.chain_id))),
            "eth_getBlockByNumber" => Ok(self.block(&params[0])),
            "eth_getCode" => Ok(json!("0x60")),
            "eth_call" => Ok(json!(self.call(&params[0]))),
            "eth_getLogs" => self.logs(&params[0]),
            "eth_getTransactionCount" => Ok(json!("0x0")),
            other => Err(format!("the method {other} does not exist")),
        };
        match result {
            Ok(result) => json!({"jsonrpc": "2.0", "id": request["id"], "result": result}),
            Err(message) => {
                let error = json!({"code": -32_005, "message": message});
                json!({"jsonrpc": "2.0", "id": request["id"], "error": error})
            }
        }
    }

    fn hash(&self, number: u64) -> B256 {
        let mut word = B256::left_padding_from(&number.to_be_bytes());
        if number >= self.fork_at {
            word[..8].copy_from_slice(&self.fork_at.to_be_bytes());
        }
        // No block has the hash zero.
        word[8] = 1;
        word
    }

    fn block(&self, asked: &Value) -> Value {
        let number = match asked.as_str().unwrap_or_default() {
            "latest" | "finalized" => self.head,
            number => quantity(number),
        };
        if number > self.head {
            return Value::Null;
        }
        json!({
            "number": format!("{number:#x}"),
            "hash": self.hash(number),
            "timestamp": format!("{:#x}", 1_700_000_000 + 2 * number),
            "baseFeePerGas": "0x3b9aca00",
        })
    }

    fn call(&self, message: &Value) -> String {
        let data = message["data"].as_str().unwrap_or_default();
        let is = |signature: &str| {
            let selector = &alloy::primitives::keccak256(signature)[..4];
            data.starts_with(&alloy::primitives::hex::encode_prefixed(selector))
        };
        let words = if is("getToken()") {
            vec![Network::local().mor.into_word()]
        } else if is("channels(bytes32)") {
            let balance = B256::left_padding_from(&self.channel_balance.to_be_bytes());
            vec![balance, B256::ZERO]
        } else if is("decimals()") {
            vec![B256::left_padding_from(&self.decimals.to_be_bytes())]
        } else if is("symbol()") {
            return alloy::primitives::hex::encode_prefixed((&self.symbol,).abi_encode_params());
        } else {
            vec![B256::ZERO, B256::ZERO]
        };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.0).collect();
        alloy::primitives::hex::encode_prefixed(bytes)
    }

    fn logs(&self, filter: &Value) -> Result<Value, String> {
        let number = |name: &str| quantity(filter[name].as_str().unwrap_or_default());
        let (from, to) = (number("fromBlock"), number("toBlock"));
        if to - from >= self.range_max {
            return Err(format!("block range is limited to {}", self.range_max));
        }
        let domain = Network::local().domain();
        let topic = |signature: &str| alloy::primitives::keccak256(signature);
        let created = topic(
            "ChannelCreated(bytes32,(address,address,address,address,address,uint40,bytes32))",
        );
        let started = topic("WithdrawInitiated(bytes32,uint128,uint40)");
        let asked: B256 = filter["topics"][0][0]
            .as_str()
            .unwrap_or_default()
            .parse()
            .unwrap_or_default();
        let inside = |block: &u64| (from..=to).contains(block);
        let mut logs = Vec::new();
        if asked == created {
            for (config, block) in self.channels.iter().filter(|(_, block)| inside(block)) {
                let words = [
                    config.payer.into_word(),
                    config.payer_authorizer.into_word(),
                    config.receiver.into_word(),
                    config.receiver_authorizer.into_word(),
                    config.token.into_word(),
                    B256::left_padding_from(&config.withdraw_delay_s.to_be_bytes()),
                    config.salt,
                ];
                logs.push(self.log(created, config.id(&domain).0, &words, *block));
            }
        } else if asked == started {
            for (amount, block) in self.withdrawals.iter().filter(|(_, block)| inside(block)) {
                let words = [
                    B256::left_padding_from(&amount.to_be_bytes()),
                    B256::left_padding_from(&[9]),
                ];
                logs.push(self.log(started, B256::repeat_byte(7), &words, *block));
            }
        }
        Ok(Value::Array(logs))
    }

    fn log(&self, topic: B256, id: B256, words: &[B256], block: u64) -> Value {
        let data: Vec<u8> = words.iter().flat_map(|word| word.0).collect();
        json!({
            "address": self.logs_of.unwrap_or(Network::local().settlement),
            "topics": [topic, id],
            "data": alloy::primitives::hex::encode_prefixed(data),
            "blockNumber": format!("{block:#x}"),
            "blockHash": self.hash(block),
            "transactionHash": self.hash(block),
            "transactionIndex": "0x0",
            "logIndex": "0x0",
            "removed": false,
        })
    }
}

fn quantity(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a quantity")
}
