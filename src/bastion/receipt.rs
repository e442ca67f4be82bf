//! The receipt: what was done to this host, in `~/.holistics/receipt.json` (0600).
//!
//! It is written by rename before and after every step, so a run that died at any point is picked
//! up by the next one, and a removal takes away what we made and nothing else. It holds the tunnel
//! tokens and is therefore readable by its user alone.

mod former;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::change::Change;
use super::control_plane::{ControlPlane, Given, Reach};
use super::facts::Init;
use super::failure::Failure;
use super::host::{Authority, Host, HostExt};
use super::ssh::{KeyType, ProxyCommand};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{DataSourceId, DatabaseType, TunnelServerAddress};

/// The version this program writes. A higher one was written by a newer program.
const VERSION: u32 = 2;

/// The receipt of one user on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub version: u32,
    pub prefix: PathBuf,
    /// The service manager in use, once chosen.
    pub init: Option<Init>,
    /// The kind of the key pair, once chosen.
    pub key_type: Option<KeyType>,
    /// The host on which it was written; a copy of a machine has the same receipt. Absent where nothing was
    /// changed since a version that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostIdentity>,
    /// What was done for all tunnels together.
    pub steps: Vec<StepRecord>,
    pub tunnels: BTreeMap<TunnelName, TunnelRecord>,
}

/// By what a host is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIdentity {
    pub name: String,
    /// The content of `/etc/machine-id`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
}

impl HostIdentity {
    pub fn of(host: &dyn Host) -> Self {
        let id = host.read_at_most(Path::new("/etc/machine-id"), 64);
        let id = String::from_utf8_lossy(&id.unwrap_or_default())
            .trim()
            .to_owned();
        HostIdentity {
            name: host.hostname(),
            machine_id: (!id.is_empty()).then_some(id),
        }
    }

    /// Whether it is another machine, as far as that can be told: one may be renamed, so its number counts
    /// where there is one.
    pub fn differs_from(&self, other: &HostIdentity) -> bool {
        match (&self.machine_id, &other.machine_id) {
            (Some(one), Some(other)) => one != other,
            _ => self.name != other.name,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRecord {
    pub control_plane: url::Url,
    pub data_source_id: DataSourceId,
    /// What the operator calls it.
    pub display_name: String,
    /// The kind of the database; absent from receipts that are older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_type: Option<DatabaseType>,
    pub target_host: String,
    pub target_port: u16,
    /// What reaching the control plane takes.
    #[serde(default, skip_serializing_if = "Reach::is_plain")]
    pub reach: Reach,
    /// The SHA-256 of the enrollment token, by which the same command is known again.
    pub token_sha256: String,
    /// How ssh gets to the tunnel server, where it does not connect by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_command: Option<ProxyCommand>,
    /// What the control plane answered to the public key.
    pub enrolled: Option<EnrolledRecord>,
    /// What was done for this tunnel.
    pub steps: Vec<StepRecord>,
}

impl TunnelRecord {
    /// The control plane with the tunnel's own credential; nothing where it is not enrolled.
    pub fn client(&self, host: &dyn Host, given: &Given) -> anyhow::Result<Option<ControlPlane>> {
        let enrolled = self.enrolled.as_ref();
        enrolled
            .map(|enrolled| self.client_with(host, given, &enrolled.tunnel_token))
            .transpose()
    }

    /// The same with another credential.
    pub fn client_with(
        &self,
        host: &dyn Host,
        given: &Given,
        credential: &str,
    ) -> anyhow::Result<ControlPlane> {
        let reach = self.reach.in_run(host, given, &self.control_plane);
        ControlPlane::new(&self.control_plane, credential, reach)
    }
}

/// What the control plane answered to the public key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledRecord {
    pub remote_port: u16,
    pub server: TunnelServerAddress,
    /// Those from which it has moved, as long as what runs it may still lead there: their host keys stay pinned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_servers: Vec<TunnelServerAddress>,
    /// The token for this tunnel's later calls: the reason why the file is 0600.
    pub tunnel_token: String,
}

impl EnrolledRecord {
    /// The server with every host key that is good for the tunnel.
    fn pinned(&self) -> TunnelServerAddress {
        let mut pinned = self.server.clone();
        let former = self.former_servers.iter();
        for key in former.flat_map(|server| &server.host_keys) {
            if !pinned.host_keys.contains(key) {
                pinned.host_keys.push(key.clone());
            }
        }
        pinned
    }
}

/// The steps, as the receipt and `plan --json` name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    Directory,
    /// What the package manager has to install.
    Packages,
    /// autossh where it has to be compiled.
    Autossh,
    KeyPair,
    /// How ssh gets to the tunnel server, where it does not connect by itself.
    WayOut,
    /// The public key at the control plane.
    Enrollment,
    /// The tunnel that lives as long as setup.
    TemporaryTunnel,
    /// Until the data source is saved in the browser.
    WaitForSave,
    Service,
    /// This tunnel under the service.
    ServiceTunnel,
    /// The command for a host without a service manager.
    Foreground,
    /// Another target for a tunnel; recorded while it is under way.
    TargetUpdate,
    /// The control plane hears of a tunnel's target.
    TargetReport,
    /// A new key pair beside the present one, known to the control planes.
    NewKey,
    /// The new key in the present one's place, and tunnels that run with it.
    SwitchKey,
    RetireKey,
    Removal,
    /// The host keys that the control plane announces now.
    HostKeys,
    /// The present name for a tunnel of a former version.
    Rename,
}

/// As the receipt writes it.
impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    pub step: StepName,
    pub state: StepState,
    /// What it changed, in that order.
    pub changes: Vec<Change>,
    /// When it was last begun or ended.
    pub at: jiff::Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Begun; the run may have died in it.
    Started,
    /// It came to its end.
    Done,
}

/// For what a step works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// For all tunnels together.
    Host,
    Tunnel(TunnelName),
}

impl Scope {
    pub fn tunnel(self) -> Option<TunnelName> {
        match self {
            Scope::Host => None,
            Scope::Tunnel(tunnel) => Some(tunnel),
        }
    }
}

impl Receipt {
    pub fn new(prefix: &Path) -> Self {
        Receipt {
            version: VERSION,
            prefix: prefix.to_owned(),
            init: None,
            key_type: None,
            host: None,
            steps: Vec::new(),
            tunnels: BTreeMap::new(),
        }
    }

    /// Reads the receipt, or nothing where there is none.
    ///
    /// # Errors
    /// It is damaged, was written by a newer version, or cannot be read. It is never overwritten then.
    pub fn load(host: &dyn Host, path: &Path) -> anyhow::Result<Option<Self>> {
        let Some(content) = host
            .read_if_present(path)
            .with_context(|| format!("cannot read the receipt {}", path.display()))?
        else {
            return Ok(None);
        };
        Self::parse(&content, path).map(Some)
    }

    /// Reads the content of a receipt.
    pub fn parse(content: &[u8], path: &Path) -> anyhow::Result<Self> {
        let version =
            serde_json::from_slice::<VersionOnly>(content).map_err(|error| damaged(path, error))?;
        ensure!(
            version.version <= VERSION,
            Failure::new(
                format!(
                    "the receipt {} has version {}, but this program only reads versions up to {VERSION}",
                    path.display(),
                    version.version
                ),
                "use the newer holistics-tunnel that wrote it; nothing was changed",
            )
        );
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(content).map_err(|error| damaged(path, error))?;
        let mut receipt = serde_json::Value::Object(fields);
        if version.version < VERSION {
            receipt = former::from_version_1(receipt);
        }
        serde_json::from_value(receipt).map_err(|error| damaged(path, error).into())
    }

    /// Writes the receipt by rename, flushed to the disk.
    ///
    /// # Errors
    /// The folder is missing or the disk is full; the old receipt then stands unharmed.
    pub fn save(&self, host: &dyn Host, path: &Path) -> anyhow::Result<()> {
        let mut content = serde_json::to_vec_pretty(self)?;
        content.push(b'\n');
        host.write(path, &content, 0o600, Authority::User)
            .context("cannot write the receipt")
    }

    /// The steps of a scope; none for a tunnel that is not in the receipt.
    pub fn steps(&self, scope: Scope) -> &[StepRecord] {
        match scope {
            Scope::Host => &self.steps,
            Scope::Tunnel(id) => self.tunnels.get(&id).map_or(&[], |tunnel| &tunnel.steps),
        }
    }

    /// The same, to change them.
    pub fn steps_mut(&mut self, scope: Scope) -> Option<&mut Vec<StepRecord>> {
        match scope {
            Scope::Host => Some(&mut self.steps),
            Scope::Tunnel(id) => self.tunnels.get_mut(&id).map(|tunnel| &mut tunnel.steps),
        }
    }

    /// Whether this step made the file at `path`.
    pub fn has_made(&self, scope: Scope, step: StepName, path: &Path) -> bool {
        self.steps(scope)
            .iter()
            .filter(|record| record.step == step)
            .flat_map(|record| &record.changes)
            .any(|change| matches!(change, Change::FileCreated { path: made, .. } if made == path))
    }

    /// The name that a tunnel has or, where it is called by a former one, gets.
    pub fn lasting_name(&self, tunnel: TunnelName) -> TunnelName {
        match self.tunnels.get(&tunnel).filter(|_| tunnel.is_former()) {
            Some(record) => tunnel.at(&record.control_plane),
            None => tunnel,
        }
    }

    /// How a control plane is reached that a tunnel has already.
    pub fn reach_of(&self, control_plane: &url::Url) -> Option<&Reach> {
        let mut tunnels = self.tunnels.values();
        let known = tunnels.find(|tunnel| tunnel.control_plane == *control_plane)?;
        Some(&known.reach)
    }

    /// The tunnel servers of the enrolled tunnels with what is pinned of them: first those from which a tunnel has
    /// moved, so that of a server that stands twice the present keys count.
    pub fn servers(&self) -> Vec<(TunnelName, TunnelServerAddress)> {
        let enrolled = || {
            let tunnels = self.tunnels.iter();
            tunnels.filter_map(|(name, tunnel)| Some((*name, tunnel.enrolled.as_ref()?)))
        };
        let former = enrolled().flat_map(|(name, enrolled)| {
            let servers = enrolled.former_servers.iter();
            servers.map(move |server| (name, server.clone()))
        });
        let present = enrolled().map(|(name, enrolled)| (name, enrolled.pinned()));
        former.chain(present).collect()
    }

    /// What setup installed.
    pub fn installed_packages(&self) -> Vec<String> {
        let changes = self.steps.iter().flat_map(|step| &step.changes);
        let packages = changes.filter_map(|change| match change {
            Change::PackagesInstalled { packages, .. } => Some(packages.clone()),
            _ => None,
        });
        packages.flatten().collect()
    }

    /// Whether this step came to its end.
    pub fn is_done(&self, scope: Scope, step: StepName) -> bool {
        self.steps(scope)
            .iter()
            .any(|record| record.step == step && record.state == StepState::Done)
    }

    /// Whether this tunnel's setup came to its end, with a service or without one.
    pub fn is_set_up(&self, tunnel: TunnelName) -> bool {
        let is_done = |step| self.is_done(Scope::Tunnel(tunnel), step);
        is_done(StepName::ServiceTunnel) || is_done(StepName::Foreground)
    }
}

impl fmt::Debug for EnrolledRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolledRecord")
            .field("remote_port", &self.remote_port)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TunnelRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelRecord")
            .field("control_plane", &self.control_plane.as_str())
            .field("data_source_id", &self.data_source_id)
            .field("enrolled", &self.enrolled)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

fn damaged(path: &Path, error: serde_json::Error) -> Failure {
    Failure::new(
        format!("the receipt {} is damaged", path.display()),
        format!(
            "nothing was changed. Restore it from a backup, or move it aside and run setup again with \
             a new command from the browser: the key pair is kept. `{}` shows what it holds",
            format_args!("cat {}", path.display())
        ),
    )
    .because(error)
}
