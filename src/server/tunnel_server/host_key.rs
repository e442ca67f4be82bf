//! The server's identity: its host keys, made at the first start and read ever after.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

/// The keys and their files. Hosts in FIPS mode accept no ed25519, so there is a second one.
const KEYS: [(&str, Algorithm); 2] = [
    ("ssh_host_ed25519_key", Algorithm::Ed25519),
    (
        "ssh_host_ecdsa_key",
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        },
    ),
];

/// Reads the host keys in this folder; makes the folder (0700) and keys (0600) that are absent.
///
/// # Errors
/// The folder or a file cannot be made or read, a file is no private key, or others than its
/// owner may read it.
pub(super) fn load_or_create(dir: &Path) -> anyhow::Result<Vec<PrivateKey>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the host key folder {}", dir.display()))?;
    KEYS.into_iter()
        .map(|(file_name, algorithm)| {
            let path = dir.join(file_name);
            if !path.exists() {
                create(dir, &path, algorithm)
                    .with_context(|| format!("cannot make the host key {}", path.display()))?;
            }
            load(&path)
        })
        .collect()
}

/// Writes a new key under its name in one step, unless another process has just done so.
fn create(dir: &Path, path: &Path, algorithm: Algorithm) -> anyhow::Result<()> {
    let key = PrivateKey::random(&mut rand::rng(), algorithm)?;
    // A named temporary file is made exclusively and with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(key.to_openssh(LineEnding::LF)?.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(e) if e.error.kind() != ErrorKind::AlreadyExists => Err(e.error.into()),
        _ => Ok(()),
    }
}

fn load(path: &Path) -> anyhow::Result<PrivateKey> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the host key {}", path.display()))?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(
            "the host key {} may be read by others (mode {:o}): run chmod 600 on it, and consider \
             it known to them",
            path.display(),
            mode & 0o777
        );
    }
    PrivateKey::from_openssh(text).with_context(|| {
        format!(
            "{} is not an OpenSSH private key; restore it from a backup, or remove it to get a \
             new identity, which every bastion will refuse until it is enrolled again",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE_NAME: &str = KEYS[0].0;

    #[test]
    fn keys_are_made_once_and_are_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("new/keys");
        let first = load_or_create(&keys).unwrap();
        let second = load_or_create(&keys).unwrap();
        assert_eq!(first, second);

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keys), 0o700);
        assert_eq!(mode(&keys.join(FILE_NAME)), 0o600);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_damaged_key_is_an_error_and_not_a_new_identity() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, "not a key").unwrap();
        assert!(load_or_create(dir.path()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }
}
