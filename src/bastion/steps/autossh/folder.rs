//! The folder in which autossh is compiled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::bastion::change::Change;
use crate::bastion::failure::{Failure, is_interruption};
use crate::bastion::host::{Authority, Command, CommandError, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::run::StepContext;
use crate::bastion::steps::StepName;

/// The system's other folder for large and lasting temporary files, which need not be mounted as the
/// home folders are.
const OTHER_PLACE: &str = "/var/tmp";
const FOLDER_NAME: &str = "holistics-build-";

/// How often it is emptied, where the compiler of a run that died may still be writing.
const REMOVE_ATTEMPTS: u32 = 3;
const REMOVE_PAUSE: Duration = Duration::from_millis(500);

/// Makes a folder that is this user's alone and from which programs can be run.
pub(super) fn make(work: &mut StepContext, layout: &Layout) -> anyhow::Result<PathBuf> {
    let unique = work.host().now().as_nanosecond();
    let candidates = [
        layout.build_dir(),
        Path::new(OTHER_PLACE).join(format!("{FOLDER_NAME}{unique}")),
    ];
    let mut reasons = Vec::new();
    for dir in candidates {
        match make_at(work, layout, &dir) {
            Ok(()) => return Ok(dir),
            Err(error) if is_interruption(&error) => return Err(error),
            Err(error) => reasons.push(format!("{}: {error:#}", dir.display())),
        }
    }
    Err(Failure::new(
        "no folder to compile autossh in",
        format!(
            "allow this user to run programs from {} or {OTHER_PLACE}, or install autossh by hand; then run the same \
             command again",
            layout.user_dir().display()
        ),
    )
    .because(reasons.join("; "))
    .into())
}

fn make_at(work: &mut StepContext, layout: &Layout, dir: &Path) -> anyhow::Result<()> {
    let host = work.host();
    // In our own folder, it can only be what a run that died has left.
    if *dir == layout.build_dir() && host.exists(dir) {
        remove(host, dir)?;
    }
    work.record(change(dir))?;
    host.create_dir(dir, 0o700, Authority::User)
        .and_then(|()| check_can_execute(host, dir))
        .or_else(|error| {
            remove(host, dir)?;
            work.forget(StepName::Autossh, &change(dir))?;
            Err(error)
        })
}

/// Whether the user may run a program from this folder: a file system can be mounted `noexec`, and a
/// policy such as fapolicyd's can forbid it.
fn check_can_execute(host: &dyn Host, dir: &Path) -> anyhow::Result<()> {
    let probe = dir.join("probe");
    host.write(&probe, b"#!/bin/sh\nexit 0\n", 0o700, Authority::User)?;
    let ran = match host.run(&Command::new(probe.to_string_lossy())) {
        Err(error) if error.stops_the_run() => return Err(error.into()),
        result => result.is_ok_and(|output| output.success()),
    };
    host.remove_file(&probe, Authority::User)?;
    ensure!(ran, "programs cannot run from it (mounted noexec?)");
    Ok(())
}

/// Removes it with everything in it.
pub fn remove(host: &dyn Host, dir: &Path) -> anyhow::Result<()> {
    let rm = Command::new("rm").arg("-rf").path(dir);
    let mut removed = host.expect(&rm);
    for _ in 1..REMOVE_ATTEMPTS {
        if !matches!(removed, Err(CommandError::Status { .. })) {
            break;
        }
        host.sleep(REMOVE_PAUSE)?;
        removed = host.expect(&rm);
    }
    removed.context("cannot remove the build folder")?;
    Ok(())
}

/// What is recorded of it.
pub(super) fn change(dir: &Path) -> Change {
    Change::DirectoryCreated {
        path: dir.to_owned(),
        authority: Authority::User,
    }
}

/// Whether a folder can only be one of a build, and so may be removed with all it holds.
pub fn is_ours(layout: &Layout, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    *path == layout.build_dir()
        || (path.parent() == Some(Path::new(OTHER_PLACE)) && name.starts_with(FOLDER_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;

    #[test]
    fn only_folders_of_a_build_are_removed_with_all_they_hold() {
        let layout = Layout::new(&ScriptedHost::new(), Path::new("/"));
        for path in ["/home/ada/.holistics/build", "/var/tmp/holistics-build-0"] {
            assert!(is_ours(&layout, Path::new(path)), "{path}");
        }
        for path in [
            "/usr/local/bin",
            "/var/tmp",
            "/var/tmp/holistics-build-0/x",
            "/home/ada",
        ] {
            assert!(!is_ours(&layout, Path::new(path)), "{path}");
        }
    }
}
