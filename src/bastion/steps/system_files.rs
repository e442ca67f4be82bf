//! Whether files can be written: asked before anything is promised that needs them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::Proofs;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, FileSystem, Host, HostExt as _};
use crate::shell;

/// Looks whether the service's files can come about, or be changed: not on a file system that is mounted
/// read-only, as on hosts whose system is an image, nor on one that is full.
///
/// # Errors
/// The first of them that cannot.
pub fn prove_writable(
    host: &dyn Host,
    files: impl IntoIterator<Item = PathBuf>,
    authority: Authority,
    proofs: &mut Proofs,
) -> anyhow::Result<()> {
    for file in files {
        let place = nearest(host, &file);
        // First of all: an image is full, too.
        ensure!(
            !look(host, place)?.is_read_only,
            Failure::new(
                format!(
                    "{} cannot be written: {} is on a file system that is read-only",
                    file.display(),
                    place.display()
                ),
                match authority {
                    Authority::Root =>
                        "use a bastion whose system files can be changed; or add --init none, and have a supervisor of \
                         your own run the tunnel",
                    Authority::User => "make it writable, then run the same command again",
                },
            )
        );
        // What this user writes, it writes beside the file first.
        let folder = file.parent().unwrap_or(place);
        ensure!(
            authority == Authority::Root || place != folder || host.is_writable(folder),
            Failure::new(
                format!(
                    "{} cannot be written: this user may make no files in {}",
                    file.display(),
                    folder.display()
                ),
                "make the folder writable for this user, then run the same command again",
            )
        );
        prove_room(host, &file, authority)?;
    }
    proofs.saw(match authority {
        Authority::Root => "the service's files are on a file system that can be written",
        Authority::User => "this user's files are on a file system that can be written",
    });
    Ok(())
}

/// Looks whether the file system on which a file is, or will be, has room for some small files.
pub fn prove_room(host: &dyn Host, file: &Path, authority: Authority) -> anyhow::Result<()> {
    let place = nearest(host, file);
    let system = look(host, place)?;
    let has_room = match authority {
        Authority::Root => system.has_room_for_root,
        Authority::User => system.has_room,
    };
    ensure!(
        has_room,
        Failure::new(
            format!(
                "{} cannot be written: the file system of {} is full",
                file.display(),
                place.display()
            ),
            format!(
                "make room on it (`df -h {0}; df -i {0}` shows what is left), then run the same command again",
                shell::word(&place.to_string_lossy())
            ),
        )
    );
    Ok(())
}

fn look(host: &dyn Host, place: &Path) -> anyhow::Result<FileSystem> {
    let system = host.file_system(place);
    system.with_context(|| format!("cannot look at {}", place.display()))
}

/// What is there of a path.
fn nearest<'p>(host: &dyn Host, path: &'p Path) -> &'p Path {
    let mut there = path.ancestors().filter(|path| host.exists(path));
    there.next().unwrap_or(Path::new("/"))
}
