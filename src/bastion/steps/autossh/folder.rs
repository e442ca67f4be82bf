//! The folder in which autossh is compiled.

use std::path::{Path, PathBuf};

use crate::bastion::change::Change;
use crate::bastion::failure::{Failure, is_interruption};
use crate::bastion::host::{Authority, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::packages::build;
use crate::bastion::run::StepContext;
use crate::bastion::steps::StepName;

/// The system's other folder for large and lasting temporary files, which need not be mounted as the
/// home folders are.
const OTHER_PLACE: &str = "/var/tmp";
const FOLDER_NAME: &str = "holistics-build-";

/// Makes a folder that is this user's alone, and from which programs can be run.
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
        "autossh has to be compiled, and there is no folder to do that in",
        format!(
            "let this user run programs from {} or {OTHER_PLACE}, or install autossh by hand; then run the same \
             command again",
            layout.user_dir().display()
        ),
    )
    .because(reasons.join("; "))
    .into())
}

fn make_at(work: &mut StepContext, layout: &Layout, dir: &Path) -> anyhow::Result<()> {
    let host = work.host();
    // In our own folder, it can only be what a run left that died.
    if *dir == layout.build_dir() && host.exists(dir) {
        build::remove_folder(host, dir)?;
    }
    work.record(change(dir))?;
    host.create_dir(dir, 0o700, Authority::User)
        .and_then(|()| build::check_can_execute(host, dir))
        .or_else(|error| {
            build::remove_folder(host, dir)?;
            work.forget(StepName::Autossh, &change(dir))?;
            Err(error)
        })
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
