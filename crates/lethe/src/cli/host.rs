//! `lethe host` and its flags.

use clap::{Args, Subcommand};
use market::{CERTIFICATE_DAYS_MAX, CertifiedHost};
use transport::describe::Endpoint;

use super::{Data, account, values};

/// For how many days hosts are certified, if nothing is said.
const DAYS: u64 = 30;

#[derive(Debug, Args)]
pub(crate) struct Host {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(subcommand)]
    pub(crate) act: Act,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Act {
    /// Say this folder's account, as its provider has to certify it. Keys are made, if there are none.
    Account {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Certify a provider's hosts with its wallet, which is in this folder, and print the file for `lethe provide --hosts`.
    Certify(Certify),
}

#[derive(Debug, Args)]
pub(crate) struct Certify {
    /// `local`, `arbitrum-one`, `arbitrum-sepolia`, `base` or `base-sepolia`.
    #[arg(long, default_value = "local", value_parser = values::network)]
    pub(crate) network: String,
    /// A host: its account, and where its descriptor is served, as others reach it. All of them, each with this flag.
    #[arg(long = "host", value_name = "ACCOUNT=ENDPOINT", required = true, value_parser = host)]
    pub(crate) hosts: Vec<CertifiedHost>,
    /// For how many days.
    #[arg(long = "for", value_name = "DAYS", default_value_t = DAYS, value_parser = clap::value_parser!(u64).range(1..=CERTIFICATE_DAYS_MAX))]
    pub(crate) days: u64,
}

fn host(text: &str) -> Result<CertifiedHost, String> {
    let Some((of, endpoint)) = text.split_once('=') else {
        return Err("allowed: ACCOUNT=ENDPOINT, such as 0x…=203.0.113.7:3333".to_owned());
    };
    let account = account(of)?;
    let parsed: Result<Endpoint, _> = endpoint.parse();
    match parsed {
        Ok(_) => Ok(CertifiedHost {
            account,
            endpoint: endpoint.to_owned(),
        }),
        Err(error) => Err(error.to_string()),
    }
}
