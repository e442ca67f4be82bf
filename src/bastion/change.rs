//! What a step changes on the host, recorded so that exactly that can be undone: [`Change::undo`] is
//! the only place that undoes.
//!
//! A change is written into the receipt before it is made. A run that dies in between leaves a
//! record of something that never happened, which undoing tolerates; the other order would leave
//! something on the host that nobody remembers.

mod trust;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::host::{Authority, Effect, Host, HostExt};
use super::layout::Layout;
use super::packages;
use super::receipt::Scope;
use super::restart;
use super::run::Run;
use super::service::{self, ServiceManager};
use super::ssh::KeyType;
use super::steps::{PlannedCommand, autossh, directory, place, rotation, temporary_tunnel};
use super::tunnel_name::TunnelName;
use crate::protocol::{DatabaseAddress, TunnelServerAddress};

/// One change to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// A file that was not there.
    FileCreated {
        path: PathBuf,
        /// With whose rights it was made and is removed.
        authority: Authority,
    },
    /// A file that had another content.
    FileModified {
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
        /// Those of them whose configuration was there before, of an earlier installation.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        configured: Vec<String>,
    },
    /// The definition of the service, which tunnels of all users share: it goes with the last tunnel
    /// of anybody.
    ServiceInstalled,
    /// A service of somebody else's that was stopped and moved aside.
    ServiceReplaced {
        /// Where its script stood.
        script: PathBuf,
        kept: PathBuf,
        /// Whether it started at boot.
        at_boot: bool,
        /// With whose rights it was moved.
        authority: Authority,
    },
    /// A tunnel that the service runs.
    ServiceTunnelStarted,
    /// Where a tunnel points, in the receipt.
    TargetChanged {
        /// The target before.
        from: DatabaseAddress,
    },
    /// Where a tunnel ends, in the receipt and in what is pinned.
    PlaceChanged {
        /// The port before.
        from_port: u16,
        /// The server before.
        from_server: TunnelServerAddress,
    },
    /// A tunnel that is started anew with what was changed of it. Recorded before that, it is undone after
    /// it: with what was put back.
    TunnelRestarted { tunnel: TunnelName },
    /// A tunnel that the service runs under another name.
    TunnelRenamed {
        /// The name that it gets.
        to: TunnelName,
    },
    /// A change of the key pair, which is under way as long as this is recorded.
    KeyRotation {
        /// The kind of the present key.
        from: KeyType,
        /// The kind of the new key.
        to: KeyType,
    },
    /// A new public key that opens the tunnels beside the present one.
    KeyAnnounced,
    /// The new key in the place of the present one, which is kept beside it.
    KeySwitched {
        /// The kind of the present key.
        from: KeyType,
    },
    /// A temporary tunnel, ended through its control socket.
    MasterStarted {
        /// The control socket.
        socket: PathBuf,
        /// A folder that was made for it alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<PathBuf>,
    },
    /// This host's public key, registered at the control plane for a tunnel.
    KeyRegistered,
}

/// Why a change is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoReason {
    /// The run that made it failed.
    Rollback,
    /// The tunnel, or everything, is removed.
    Removal {
        /// Whether the key pair stays.
        keep_keys: bool,
    },
}

impl Change {
    /// Whether it lives no longer than the run, however that ends.
    pub fn is_transient(&self) -> bool {
        matches!(self, Change::MasterStarted { .. })
    }

    /// Undoes it. What was undone already, or was recorded and never made, is no error.
    ///
    /// # Errors
    /// The host refuses; or the receipt asks for something that this program cannot have done.
    pub fn undo(&self, run: &mut Run, scope: Scope, reason: UndoReason) -> anyhow::Result<()> {
        let (host, layout) = (run.host, &run.layout.clone());
        trust::check(self, layout)?;
        match self {
            Change::FileCreated { path, .. } if is_kept_key(path, layout, reason) => Ok(()),
            Change::FileCreated { path, .. }
                if service_s_file(run, scope) == Some(path.clone()) =>
            {
                let tunnel = scope.tunnel().context("a tunnel's file without a tunnel")?;
                service::remove_tunnel(run.manager()?.as_ref(), host, run.ui, layout, tunnel)
            }
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
            Change::DirectoryCreated { path, authority } => {
                if layout.is_own_folder(path) {
                    directory::remove(host, layout, path, reason)
                } else if autossh::folder::is_ours(layout, path) {
                    autossh::folder::remove(host, path)
                } else {
                    remove_if_empty(host, path, *authority)
                }
            }
            Change::PackagesInstalled {
                manager,
                packages,
                configured,
            } => match reason {
                UndoReason::Rollback => {
                    let ui = run.ui;
                    let manager = packages::by_name(manager)?;
                    manager.remove(host, packages, configured, &|text| ui.note(text))
                }
                // Other software may have come to rely on them.
                UndoReason::Removal { .. } => Ok(()),
            },
            Change::ServiceInstalled => {
                service::undo_installed(run.manager()?.as_ref(), host, run.ui, layout)
            }
            Change::ServiceReplaced { script, .. } => {
                let manager = run.manager()?;
                let is_back = service::undo_replaced(manager.as_ref(), host, run.ui, layout, self)?;
                let script = script.display();
                run.ui.note(&if is_back {
                    format!("{script} is back where it was; its tunnels were not started.")
                } else {
                    format!(
                        "{script} comes back with the last tunnel of the other users of this host."
                    )
                });
                Ok(())
            }
            Change::ServiceTunnelStarted => {
                let tunnel = scope
                    .tunnel()
                    .context("a tunnel's change without a tunnel")?;
                service::undo_tunnel_started(run.manager()?.as_ref(), host, layout, tunnel)
            }
            Change::TunnelRenamed { to } => {
                let from = scope.tunnel().context("a tunnel's name without a tunnel")?;
                service::undo_renamed(run.manager()?.as_ref(), host, layout, from, *to)?;
                match reason {
                    UndoReason::Rollback => restart::start_as_before(run, from),
                    UndoReason::Removal { .. } => Ok(()),
                }
            }
            // Of what is removed as a whole, no part is put back before.
            Change::TargetChanged { .. }
            | Change::PlaceChanged { .. }
            | Change::TunnelRestarted { .. }
            | Change::KeySwitched { .. }
            | Change::KeyAnnounced
                if reason != UndoReason::Rollback =>
            {
                Ok(())
            }
            Change::TargetChanged { from } => {
                if let Some(tunnel) = scope
                    .tunnel()
                    .and_then(|id| run.receipt.tunnels.get_mut(&id))
                {
                    tunnel.target_host.clone_from(&from.host);
                    tunnel.target_port = from.port;
                }
                Ok(())
            }
            Change::PlaceChanged {
                from_port,
                from_server,
            } => match scope.tunnel() {
                Some(tunnel) => place::put_back(run, tunnel, *from_port, from_server),
                None => Ok(()),
            },
            Change::TunnelRestarted { tunnel } => restart::restart_as_before(run, *tunnel),
            Change::KeyRotation { .. } => Ok(()),
            Change::KeySwitched { from } => rotation::put_back(run, *from),
            Change::KeyAnnounced => rotation::announce_present(run),
            Change::MasterStarted { socket, folder } => {
                temporary_tunnel::end_master(host, socket)?;
                match folder {
                    Some(folder) => remove_if_empty(host, folder, Authority::User),
                    None => Ok(()),
                }
            }
            // The control plane forgets the key with its tunnel, and is told of that itself.
            Change::KeyRegistered => Ok(()),
        }
    }
}

impl Change {
    /// What a removal that undoes it takes, so that root can be asked about that before. With the service go the
    /// tunnel's files, and what is shared goes with the last tunnel.
    pub fn removal_commands(
        &self,
        manager: Option<&dyn ServiceManager>,
        layout: &Layout,
        scope: Scope,
    ) -> Vec<PlannedCommand> {
        let tunnel = scope.tunnel();
        match self {
            Change::FileCreated { path, authority } => {
                let of_service = manager.zip(tunnel);
                let of_service = of_service.map(|(manager, tunnel)| manager.paths(layout, tunnel));
                if of_service.is_some_and(|paths| paths.contains(path)) {
                    Vec::new()
                } else {
                    vec![
                        Effect::Remove {
                            path: path.clone(),
                            authority: *authority,
                        }
                        .into(),
                    ]
                }
            }
            Change::FileModified {
                path,
                authority,
                mode,
                ..
            } => vec![
                Effect::Write {
                    path: path.clone(),
                    mode: *mode,
                    authority: *authority,
                }
                .into(),
            ],
            Change::DirectoryCreated { path, authority } => {
                let remove = PlannedCommand::from(Effect::RemoveDir {
                    path: path.clone(),
                    authority: *authority,
                });
                vec![remove.only("if it is empty")]
            }
            Change::ServiceInstalled => {
                manager.map_or_else(Vec::new, |manager| manager.uninstall_commands(layout))
            }
            Change::ServiceTunnelStarted => manager
                .zip(tunnel)
                .map_or_else(Vec::new, |(manager, tunnel)| {
                    manager.remove_commands(layout, tunnel)
                }),
            Change::ServiceReplaced { script, kept, .. } => {
                vec![service::put_back_command(layout, kept, script)]
            }
            // Nothing of root's, or nothing that a removal undoes.
            Change::PackagesInstalled { .. }
            | Change::TargetChanged { .. }
            | Change::PlaceChanged { .. }
            | Change::TunnelRestarted { .. }
            | Change::TunnelRenamed { .. }
            | Change::KeyRotation { .. }
            | Change::KeyAnnounced
            | Change::KeySwitched { .. }
            | Change::MasterStarted { .. }
            | Change::KeyRegistered => Vec::new(),
        }
    }
}

/// The file by which the service runs the tunnel.
fn service_s_file(run: &Run, scope: Scope) -> Option<PathBuf> {
    let manager = run.manager().ok()?;
    Some(manager.tunnel_file(&run.layout, scope.tunnel()?))
}

fn is_kept_key(path: &Path, layout: &Layout, reason: UndoReason) -> bool {
    reason == (UndoReason::Removal { keep_keys: true }) && layout.is_key(path)
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
        "{} exists and is not a regular file",
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
