//! Whether the system's files can be written: asked before anything is promised that needs them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Proofs;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Host, HostExt as _};

/// Looks whether these files can come about, or be changed: not on a file system that is mounted
/// read-only, as on hosts whose system is an image.
///
/// # Errors
/// The first of them that cannot.
pub fn prove_writable(
    host: &dyn Host,
    files: impl IntoIterator<Item = PathBuf>,
    proofs: &mut Proofs,
) -> anyhow::Result<()> {
    for file in files {
        let place = nearest(host, &file);
        let is_read_only = host
            .is_read_only(place)
            .with_context(|| format!("cannot look at {}", place.display()))?;
        if is_read_only {
            return Err(Failure::new(
                format!(
                    "{} cannot be written: {} is on a file system that is read-only",
                    file.display(),
                    place.display()
                ),
                "use a bastion whose system files can be changed; or add --init none, and have a supervisor of your \
                 own run the tunnel",
            )
            .into());
        }
    }
    proofs.saw("the service's files are on a file system that can be written");
    Ok(())
}

/// What is there of a path.
fn nearest<'p>(host: &dyn Host, path: &'p Path) -> &'p Path {
    let mut there = path.ancestors().filter(|path| host.exists(path));
    there.next().unwrap_or(Path::new("/"))
}
