//! The data folder: everything the server keeps, readable by its own user alone.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The folder named by `--data-dir`.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

/// Held while a server runs on the folder; released by the system when the process ends.
#[derive(Debug)]
pub struct ServeLock(
    #[allow(dead_code, reason = "the lock lasts as long as the file is open")] File,
);

impl DataDir {
    /// Opens the folder; makes it (0700) with its parents if it is absent.
    ///
    /// # Errors
    /// The folder cannot be made, or its mode cannot be set to 0700.
    pub fn open_or_create(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {shown}"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot make the data folder {shown} private"))?;
        let path = fs::canonicalize(path).with_context(|| format!("cannot open {shown}"))?;
        Ok(DataDir(path))
    }

    /// Makes sure that no other server runs on the folder.
    ///
    /// # Errors
    /// Another server holds it, or the lock file cannot be made.
    pub fn lock_for_serving(&self) -> anyhow::Result<ServeLock> {
        let path = self.0.join("serve.lock");
        let file = private_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(ServeLock(file)),
            Err(TryLockError::WouldBlock) => bail!(
                "another holistics-tunnel-server runs on {}; stop it, or give this one its own --data-dir",
                self.0.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The SQLite database. The file is made here if it is absent, private from its start; SQLite
    /// gives its companion files the same mode.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn database(&self) -> anyhow::Result<PathBuf> {
        let path = self.0.join("control-plane.sqlite");
        private_file(&path)?;
        Ok(path)
    }

    /// The secret key.
    pub fn secret_key(&self) -> PathBuf {
        self.0.join("secret.key")
    }

    /// The file that says what browsers call the server; for commands beside it.
    pub fn public_url(&self) -> PathBuf {
        self.0.join("public-url")
    }

    /// The folder of the tunnel server's host keys.
    pub fn host_keys(&self) -> PathBuf {
        self.0.join("ssh")
    }
}

/// Opens a file for writing; makes it (0600) if it is absent.
fn private_file(path: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_data_folder_is_private_and_serves_once() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::open_or_create(&parent.path().join("a/b")).unwrap();
        let mode = fs::metadata(data.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let held = data.lock_for_serving().unwrap();
        assert!(data.lock_for_serving().is_err());
        drop(held);
        data.lock_for_serving().unwrap();
    }
}
