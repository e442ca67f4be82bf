//! What the tunnels of all users share on a host: the service's definition. It is the same for
//! everybody, is changed under the lock of the host, and goes with the last tunnel of anybody.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::installed::tunnel_files;
use super::{MARKER, SERVICE_NAME};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Effect, Host, HostExt as _, HostLock, Kind, files};
use crate::bastion::layout::Layout;
use crate::bastion::lock::holder;
use crate::bastion::steps::PlannedCommand;
use crate::bastion::ui::Ui;

/// A file that all tunnels share.
pub(super) struct SharedFile {
    pub path: PathBuf,
    pub content: String,
    pub mode: u32,
}

/// Takes the lock of the host under which what is shared is changed, and a tunnel's file is added.
pub(super) fn lock(host: &dyn Host, ui: &Ui, layout: &Layout) -> Result<HostLock> {
    let waits = |other: &str| {
        ui.note(&format!(
            "Waiting until another user is done with the service {SERVICE_NAME}: {other}"
        ));
    };
    let path = layout.host_lock();
    host.lock_host(&path, layout.system_authority(), &holder(host), &waits)
}

/// What the plan says of that.
pub(super) fn lock_command(layout: &Layout) -> PlannedCommand {
    let (path, authority) = (layout.host_lock(), layout.system_authority());
    Effect::Lock { path, authority }.into()
}

/// What the plan says of a file.
pub(super) fn write_command(layout: &Layout, path: PathBuf, mode: u32) -> PlannedCommand {
    let authority = layout.system_authority();
    let write = Effect::Write {
        path,
        mode,
        authority,
    };
    write.into()
}

/// What the plan says of [`make_dir`].
pub(super) fn mkdir_command(layout: &Layout, path: PathBuf) -> PlannedCommand {
    let authority = layout.system_authority();
    let make = Effect::CreateDir {
        path,
        mode: 0o755,
        authority,
    };
    make.into()
}

/// What is said of [`remove`].
pub(super) fn rm_command(layout: &Layout, path: PathBuf) -> PlannedCommand {
    let authority = layout.system_authority();
    Effect::Remove { path, authority }.into()
}

/// What is said of [`remove_if_empty`].
pub(super) fn rmdir_command(layout: &Layout, path: PathBuf) -> PlannedCommand {
    let authority = layout.system_authority();
    let rmdir = PlannedCommand::from(Effect::RemoveDir { path, authority });
    rmdir.only("if it is empty")
}

/// Where an init script keeps the numbers of processes.
pub(super) fn pid_dir(layout: &Layout) -> PathBuf {
    // `/var/run` is a link to `/run` where there is one, and the only one of the two on old hosts.
    layout.system("var/run").join(SERVICE_NAME)
}

/// Whether a tunnel of anybody is left.
pub(super) fn is_used(host: &dyn Host, layout: &Layout) -> Result<bool> {
    let files = tunnel_files(host, layout)
        .with_context(|| format!("cannot look into {}", layout.tunnels_dir().display()))?;
    Ok(!files.is_empty())
}

/// Looks for files of somebody else's under our names.
pub(super) fn refuse_foreign(host: &dyn Host, layout: &Layout, files: &[SharedFile]) -> Result<()> {
    for SharedFile { path, .. } in files {
        let Some(stat) = host.stat(path)? else {
            continue;
        };
        ensure!(
            stat.kind == Kind::File && is_ours(host, path)?,
            Failure::new(
                format!("{} was not written by holistics-tunnel", path.display()),
                "find out whose it is and move it elsewhere, then run the same command again; it was not touched",
            )
        );
    }
    let dir = layout.tunnels_dir();
    ensure!(
        host.stat(&dir)?
            .is_none_or(|stat| stat.kind == Kind::Directory),
        Failure::new(
            format!("{} exists and is not a folder", dir.display()),
            "find out whose it is and move it elsewhere, then run the same command again",
        )
    );
    Ok(())
}

/// Puts the shared files in place where they are missing or different. Returns whether one was.
pub(super) fn write(
    _: &HostLock,
    host: &dyn Host,
    layout: &Layout,
    files: &[SharedFile],
) -> Result<bool> {
    let mut is_changed = false;
    for SharedFile {
        path,
        content,
        mode,
    } in files
    {
        is_changed |= put(host, path, content, *mode, layout.system_authority())?;
    }
    Ok(is_changed)
}

/// Writes a file where it is missing or different. Returns whether it was.
pub(super) fn put(
    host: &dyn Host,
    path: &Path,
    content: &str,
    mode: u32,
    authority: Authority,
) -> Result<bool> {
    let stat = host.stat(path)?;
    let is_there = stat.is_some_and(|stat| stat.mode == mode)
        && host.read_if_present(path)?.as_deref() == Some(content.as_bytes());
    if !is_there {
        host.write(path, content.as_bytes(), mode, authority)?;
    }
    Ok(!is_there)
}

pub(super) fn make_dir(host: &dyn Host, layout: &Layout, dir: &Path) -> Result<()> {
    if host.exists(dir) {
        return Ok(());
    }
    host.create_dir(dir, 0o755, layout.system_authority())
}

/// Removes a file that is ours, with what a run that was cut short has left of new content for it. Somebody
/// else's stays.
pub(super) fn remove(host: &dyn Host, layout: &Layout, path: &Path) -> Result<()> {
    let is_there = host.exists(path);
    let is_left = !is_there && host.exists(&files::unfinished(path));
    if is_left || (is_there && is_ours(host, path)?) {
        host.remove_file(path, layout.system_authority())?;
    }
    Ok(())
}

pub(super) fn remove_if_empty(host: &dyn Host, layout: &Layout, dir: &Path) -> Result<()> {
    if host.list(dir).is_ok_and(|names| names.is_empty()) {
        host.remove_dir(dir, layout.system_authority())?;
    }
    Ok(())
}

/// Whether this program wrote the file.
pub(super) fn is_ours(host: &dyn Host, path: &Path) -> Result<bool> {
    let content = host
        .read_if_present(path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let content = content.unwrap_or_default();
    Ok(String::from_utf8_lossy(&content).contains(MARKER))
}
