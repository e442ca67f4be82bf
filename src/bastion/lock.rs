//! One run at a time that changes this user's tunnels.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context as _, bail};

use super::failure::Failure;
use super::host::Host;
use super::layout::Layout;
use super::steps::directory;

/// Held while it lives. The file stays; its lock goes with the process, however that ends.
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only who holds it is of interest; the lock itself goes with the file's last handle.
        let _ = self.file.set_len(0);
    }
}

/// Takes the lock, in `~/.holistics`, which is made if it is missing.
///
/// # Errors
/// Another run holds it; the error says which.
pub fn acquire(host: &dyn Host, layout: &Layout) -> anyhow::Result<Lock> {
    directory::ensure_private(host, layout)?;
    let path = layout.lock();
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)
                .context("cannot read the lock")?;
            bail!(Failure::new(
                format!("another run is at work: {}", holder.trim()),
                "wait until it is done, or end it",
            ));
        }
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock"),
    }
    file.set_len(0)?;
    file.rewind()?;
    let program = std::env::args().nth(1).unwrap_or_default();
    writeln!(
        file,
        "holistics-tunnel {program}, process {}, since {}",
        std::process::id(),
        host.now()
    )?;
    Ok(Lock { file })
}
