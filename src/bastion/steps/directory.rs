//! `~/.holistics`, for this user alone.

use std::path::Path;

use anyhow::ensure;

use super::{Outcome, PlannedCommand, Step, StepName};
use crate::bastion::change::{Change, UndoReason};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Host, HostExt, Kind};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;

/// What the bootstrap script, this very run and one that was killed put there before this step.
const BEFORE_THIS_STEP: [&str; 4] = ["bin", "lock", "receipt.json", ".receipt.json.new"];

pub struct Directory {
    pub layout: Layout,
}

impl Step for Directory {
    fn name(&self) -> StepName {
        StepName::Directory
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        format!(
            "Make {} for this user alone",
            self.layout.user_dir().display()
        )
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        vec![format!("mkdir -m 0700 {}", self.layout.user_dir().display()).into()]
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let dir = self.layout.user_dir();
        let is_new = is_unclaimed(work.host(), &self.layout);
        ensure_private(work.host(), &self.layout)?;
        let folders = [dir.clone(), self.layout.logs_dir(), self.layout.run_dir()];
        if is_new {
            // Of those that are there, too: a failed run may have left its log.
            work.record_all(folders.clone().map(|path| Change::DirectoryCreated {
                path,
                authority: Authority::User,
            }))?;
        }
        for sub in &folders[1..] {
            work.create_dir(sub, 0o700, Authority::User)?;
        }
        // From here on the run's log has a place; a rollback takes it with the folder.
        work.host().log().keep_in(&self.layout.logs_dir());
        let said = dir.display().to_string();
        Ok(if is_new {
            Outcome::Changed(said)
        } else {
            Outcome::AlreadyPresent(said)
        })
    }
}

/// Makes the folder if it is missing, and refuses one that others could write in.
pub fn ensure_private(host: &dyn Host, layout: &Layout) -> anyhow::Result<()> {
    let dir = layout.user_dir();
    let Some(stat) = host.stat(&dir)? else {
        return host.create_dir(&dir, 0o700, Authority::User);
    };
    let path = dir.display();
    ensure!(
        stat.kind == Kind::Directory && stat.uid == host.user().uid,
        Failure::new(
            format!(
                "{path} is not a folder that belongs to {}",
                host.user().name
            ),
            format!("move it aside (`mv {path} {path}.old`) and run setup again"),
        )
    );
    ensure!(
        stat.mode & 0o022 == 0,
        Failure::new(
            format!("{path} is writable by others (mode {:o})", stat.mode),
            format!("check what is in it; then `chmod 700 {path}` and run setup again"),
        )
    );
    Ok(())
}

/// Whether nobody but the bootstrap script, a run that failed and this very run has used the folder.
fn is_unclaimed(host: &dyn Host, layout: &Layout) -> bool {
    let Ok(names) = host.list(&layout.user_dir()) else {
        return true;
    };
    names.iter().all(|name| {
        BEFORE_THIS_STEP.contains(&name.as_str())
            || (layout.user_dir().join(name) == layout.logs_dir()
                && is_left_by_a_failure(host, layout))
    })
}

/// Whether the logs are what a rolled-back run leaves: the one that explains its failure.
fn is_left_by_a_failure(host: &dyn Host, layout: &Layout) -> bool {
    let logs = layout.logs_dir();
    host.list(&logs).is_ok_and(|names| {
        names
            .iter()
            .all(|name| logs.join(name) == layout.build_log())
    })
}

/// Removes one of our own folders with everything we put there. What somebody else put there stays, and
/// so does the folder then.
pub fn remove(
    host: &dyn Host,
    layout: &Layout,
    path: &Path,
    reason: UndoReason,
) -> anyhow::Result<()> {
    let kept = (reason == UndoReason::Rollback).then(|| layout.build_log());
    if *path != layout.user_dir() {
        return remove_with_files(host, path, kept.as_deref());
    }
    if matches!(reason, UndoReason::Removal { .. }) {
        remove_with_files(host, &layout.bin_dir(), None)?;
    }
    for file in [layout.known_hosts(), layout.lock(), layout.receipt()] {
        host.remove_file(&file, Authority::User)?;
    }
    if host.list(path).is_ok_and(|names| names.is_empty()) {
        host.remove_dir(path, Authority::User)?;
    }
    Ok(())
}

/// Removes the folder if nothing is in it, as a removal leaves it that is killed before its last act. Returns whether
/// that was so.
pub fn remove_empty(host: &dyn Host, layout: &Layout) -> anyhow::Result<bool> {
    let folder = layout.user_dir();
    let is_empty = host.list(&folder).is_ok_and(|names| names.is_empty());
    if is_empty {
        host.remove_dir(&folder, Authority::User)?;
    }
    Ok(is_empty)
}

/// Removes the program that a script from the browser brought, and with it the folder if nothing else
/// is there: for a removal on a host that has no receipt.
pub fn remove_program(host: &dyn Host, layout: &Layout) -> anyhow::Result<()> {
    remove_with_files(host, &layout.bin_dir(), None)?;
    let folder = layout.user_dir();
    if host.exists(&folder) && host.list(&folder)?.is_empty() {
        host.remove_dir(&folder, Authority::User)?;
    }
    Ok(())
}

/// Removes a folder that holds only files, except for one that is kept.
fn remove_with_files(host: &dyn Host, dir: &Path, kept: Option<&Path>) -> anyhow::Result<()> {
    if !host.exists(dir) {
        return Ok(());
    }
    for name in host.list(dir)? {
        let file = dir.join(name);
        if kept != Some(&file) {
            host.remove_file(&file, Authority::User)?;
        }
    }
    if host.list(dir)?.is_empty() {
        host.remove_dir(dir, Authority::User)?;
    }
    Ok(())
}
