//! What a node shows of itself to the others: a certificate that it has made for itself, and its key.
//!
//! It is made at the first start and is this node's alone: in no backup, since nothing depends on it but what
//! the other nodes are told at the next start.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use crate::server::cluster::holders::CertificateHash;
use crate::server::whole_file;

const CERTIFICATE: &str = "certificate.der";
const KEY: &str = "key.der";

/// The certificate and its key.
#[derive(Debug)]
pub struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads them from a folder; makes it, and them, if they are absent.
    pub fn load_or_create(folder: &Path) -> anyhow::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
        // The certificate is written last: where it is, its key is.
        let Some(certificate) = read(&folder.join(CERTIFICATE))? else {
            let new = Identity::generate()?;
            write(folder, KEY, new.key.secret_der())?;
            write(folder, CERTIFICATE, &new.certificate)?;
            return Ok(new);
        };
        let path = folder.join(KEY);
        let key = read(&path)?.with_context(|| {
            format!(
                "{} is missing; delete the folder {} and this node makes a new certificate",
                path.display(),
                folder.display()
            )
        })?;
        Ok(Identity {
            certificate: certificate.into(),
            key: PrivatePkcs8KeyDer::from(key).into(),
        })
    }

    /// A new one.
    pub fn generate() -> anyhow::Result<Self> {
        // Nobody looks at the name: a peer is known by the hash alone.
        let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()])
            .context("cannot make a certificate for the link to other nodes")?;
        Ok(Identity {
            certificate: made.cert.der().clone(),
            key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        })
    }

    /// What the other nodes know it by.
    pub fn hash(&self) -> CertificateHash {
        hash(&self.certificate)
    }
}

pub(super) fn hash(certificate: &CertificateDer<'_>) -> CertificateHash {
    Sha256::digest(certificate).into()
}

fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file (0600) whole or not at all.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    whole_file::replace(&path, &[bytes]).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_node_keeps_its_certificate_and_its_key_is_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("peer-link");
        let first = Identity::load_or_create(&folder).unwrap();
        let again = Identity::load_or_create(&folder).unwrap();
        assert_eq!(first.hash(), again.hash());
        assert_eq!(first.key.secret_der(), again.key.secret_der());
        for (path, expected) in [(folder.clone(), 0o700), (folder.join(KEY), 0o600)] {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, expected, "{}", path.display());
        }
        assert_ne!(first.hash(), Identity::generate().unwrap().hash());
    }

    #[test]
    fn a_start_that_was_cut_off_is_begun_anew_and_a_lost_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let former = Identity::load_or_create(folder.path()).unwrap();
        fs::remove_file(folder.path().join(CERTIFICATE)).unwrap();
        let new = Identity::load_or_create(folder.path()).unwrap();
        assert_ne!(former.hash(), new.hash());
        fs::remove_file(folder.path().join(KEY)).unwrap();
        let error = Identity::load_or_create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("delete the folder"), "{error:#}");
    }
}
