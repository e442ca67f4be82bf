//! What a step changes on the host, recorded so that exactly that can be undone.
//!
//! A change is written into the receipt before it is made. A run that dies in between leaves a
//! record of something that never happened, which undoing tolerates; the other order would leave
//! something on the host that nobody remembers.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::host::{Authority, Host, HostExt};

/// One change to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// A file that was not there.
    FileCreated {
        /// Where.
        path: PathBuf,
        /// With whose rights it was made and is removed.
        authority: Authority,
    },
    /// A file that had another content.
    FileModified {
        /// Where.
        path: PathBuf,
        /// With whose rights.
        authority: Authority,
        /// What it held before, base64.
        former: String,
        /// Its permissions before.
        mode: u32,
    },
    /// A folder that was not there.
    DirectoryCreated {
        /// Where.
        path: PathBuf,
        /// With whose rights.
        authority: Authority,
    },
    /// Packages that were not there.
    PackagesInstalled {
        /// The package manager's name.
        manager: String,
        /// The packages asked for.
        packages: Vec<String>,
    },
    /// The definition of the service, which tunnels of all users share: it goes with the last tunnel
    /// of anybody.
    ServiceInstalled,
    /// Definitions that the service manager keeps in memory.
    UnitsLoaded,
    /// A service registered to start at boot.
    ServiceEnabled {
        /// The service's name.
        name: String,
    },
    /// A service of somebody else's that was stopped and moved aside.
    ServiceReplaced {
        /// Where its script stood.
        script: PathBuf,
        /// Where it is kept.
        kept: PathBuf,
        /// Whether it started at boot.
        at_boot: bool,
        /// With whose rights it was moved.
        authority: Authority,
    },
    /// A tunnel that the service runs.
    ServiceTunnelStarted,
    /// A temporary tunnel, ended through its control socket.
    MasterStarted {
        /// The control socket.
        socket: PathBuf,
    },
    /// This host's public key, registered at the control plane for a tunnel.
    KeyRegistered,
}

impl Change {
    /// Undoes a change to files and folders; other changes are undone by the step that makes them.
    ///
    /// A folder that somebody else has put something into stays.
    ///
    /// # Errors
    /// The host refuses.
    pub fn undo_file(&self, host: &dyn Host) -> anyhow::Result<()> {
        match self {
            Change::FileCreated { path, authority } => host.remove_file(path, *authority),
            Change::FileModified {
                path,
                authority,
                former,
                mode,
            } => {
                let former = BASE64.decode(former).with_context(|| {
                    format!("the kept content of {} is damaged", path.display())
                })?;
                host.write(path, &former, *mode, *authority)
            }
            Change::DirectoryCreated { path, authority } => remove_if_empty(host, path, *authority),
            _ => Ok(()),
        }
    }
}

fn remove_if_empty(host: &dyn Host, dir: &Path, authority: Authority) -> anyhow::Result<()> {
    match host.list(dir) {
        Ok(names) if names.is_empty() => host.remove_dir(dir, authority),
        _ => Ok(()),
    }
}

/// What writing a file would change: nothing, a creation, or a modification.
///
/// # Errors
/// What stands at the path is no regular file, or it cannot be read.
pub fn change_of_write(
    host: &dyn Host,
    path: &Path,
    content: &[u8],
    mode: u32,
    authority: Authority,
) -> anyhow::Result<Option<Change>> {
    let path = path.to_owned();
    let Some(stat) = host.stat(&path)? else {
        return Ok(Some(Change::FileCreated { path, authority }));
    };
    anyhow::ensure!(
        stat.kind == super::host::Kind::File,
        "{} is there and is no regular file",
        path.display()
    );
    let former = host
        .read_if_present(&path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .unwrap_or_default();
    if former == content && stat.mode == mode {
        return Ok(None);
    }
    Ok(Some(Change::FileModified {
        path,
        authority,
        former: BASE64.encode(former),
        mode: stat.mode,
    }))
}
