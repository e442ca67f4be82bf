//! Files on the real host, written so that a cut of power leaves the old content or the new one.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;

use super::{Kind, Stat};

/// Writes through a temporary file beside `path`, flushed to the disk and renamed.
///
/// # Errors
/// The folder is missing or not writable, or the disk is full.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let dir = path.parent().context("a file needs a folder")?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".h_autossh-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .with_context(|| format!("cannot write in {}", dir.display()))?;
    temporary.write_all(content)?;
    // Set while only the owner could have opened it, and regardless of the umask.
    temporary
        .as_file()
        .set_permissions(fs::Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    temporary
        .persist(path)
        .with_context(|| format!("cannot put {} in place", path.display()))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all())?;
    Ok(())
}

/// Makes one folder with these permissions, regardless of the umask.
///
/// # Errors
/// It exists, or its parent is missing or not writable.
pub fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// What stands at a path, links not followed.
///
/// # Errors
/// The system will not say; that nothing is there is no error.
pub fn stat(path: &Path) -> io::Result<Option<Stat>> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let file_type = metadata.file_type();
    let kind = if file_type.is_symlink() {
        Kind::Link
    } else if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_file() {
        Kind::File
    } else {
        Kind::Other
    };
    Ok(Some(Stat {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
    }))
}

/// Turns "is not there" into success.
///
/// # Errors
/// Every other error.
pub fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_absent(&error) => Ok(()),
        other => other,
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
