//! What the person asked for, apart from any host.

use std::path::PathBuf;
use std::time::Duration;

use super::facts::Init;
use super::ssh::{KeyType, ProxyCommand};
use super::steps::autossh::source::Source;

#[derive(Debug, Clone)]
pub struct Settings {
    /// The kind of key to make where there is none.
    pub key_type: KeyType,
    /// The service manager; the host's own where absent.
    pub init: Option<Init>,
    pub wait: Duration,
    pub prefix: PathBuf,
    /// Where the source of autossh comes from, should it have to be compiled.
    pub autossh_source: Source,
    /// How ssh is to get to the tunnel server.
    pub proxy_command: Option<ProxyCommand>,
    /// Whether EPEL may be enabled where no enabled repository has autossh.
    pub enable_epel: bool,
}
