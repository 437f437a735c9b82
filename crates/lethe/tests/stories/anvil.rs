//! Foundry's anvil with the market's contracts on it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use chain::{DEVELOPMENT_ACCOUNTS, Grant, LocalMarket};
use market::Amount;

/// It runs until dropped.
pub(crate) struct Anvil {
    child: Child,
    pub(crate) rpc_url: String,
}

impl Anvil {
    pub(crate) async fn start(path: &OsStr) -> Self {
        let mut command = Command::new(path);
        let mut child = command
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening =
            lines.find_map(|line| line.ok()?.strip_prefix("Listening on ").map(str::to_owned));
        // It goes on talking; somebody has to read it.
        std::thread::spawn(move || lines.for_each(drop));
        let rpc_url = format!("http://{}", listening.unwrap());
        // Whoever comes second finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        chain::place_code(&rpc_url).await.unwrap();
        let account = DEVELOPMENT_ACCOUNTS[0].address;
        let treasury = Grant {
            account,
            mor: Amount::new(10u128.pow(24)),
            usd: Amount::ZERO,
        };
        let market = LocalMarket {
            stakes: LocalMarket::STAKES,
            grants: vec![treasury],
        };
        chain::deploy(&rpc_url, &market).await.unwrap();
        Self { child, rpc_url }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
