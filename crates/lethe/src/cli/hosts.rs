//! By which names a gateway may be called.

use clap::Args;
use gateway::{Limits, Settings};

use super::values;
use crate::signals::STOP_WITHIN;

/// By which names, beside localhost and plain addresses.
#[derive(Debug, Default, Args)]
pub(crate) struct Hosts {
    /// A name that the gateway may be called by beside localhost and its addresses, without a port: a container's for this
    /// machine (host.docker.internal), one of your network, or `*` for any. Several times for several.
    #[arg(long, value_name = "NAME", value_parser = values::host)]
    pub(crate) allow_host: Vec<String>,
    /// The same, and for the dashboard and all that needs the node's own key, too.
    #[arg(long, value_name = "NAME", value_parser = values::host)]
    pub(crate) allow_admin_host: Vec<String>,
}

impl Hosts {
    /// All of them, whatever for.
    pub(crate) fn all(&self) -> Vec<String> {
        [self.allow_host.as_slice(), &self.allow_admin_host].concat()
    }

    /// A gateway's settings with these names, and a node's time to stop.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            hosts: self.allow_host.clone(),
            owner_hosts: self.allow_admin_host.clone(),
            limits: Limits {
                drain: STOP_WITHIN,
                ..Limits::default()
            },
            ..Settings::default()
        }
    }
}
