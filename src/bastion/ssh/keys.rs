//! The bastion's key pair, made by `ssh-keygen`.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, Host, HostExt};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// RSA of 4096 bits: every OpenSSH and every policy accepts it.
    Rsa,
    /// Ed25519: short and quick, not allowed in FIPS mode.
    Ed25519,
    /// ECDSA on P-256.
    Ecdsa,
}

impl KeyType {
    pub const ALL: [KeyType; 3] = [KeyType::Rsa, KeyType::Ed25519, KeyType::Ecdsa];

    pub fn file_name(self) -> &'static str {
        match self {
            KeyType::Rsa => "id_rsa",
            KeyType::Ed25519 => "id_ed25519",
            KeyType::Ecdsa => "id_ecdsa",
        }
    }

    fn keygen_arguments(self) -> &'static [&'static str] {
        match self {
            KeyType::Rsa => &["-t", "rsa", "-b", "4096"],
            KeyType::Ed25519 => &["-t", "ed25519"],
            KeyType::Ecdsa => &["-t", "ecdsa", "-b", "256"],
        }
    }
}

/// The command that makes a key pair without a passphrase: a service has nobody to type it.
pub fn keygen(key_type: KeyType, private_key: &Path, comment: &str) -> Command {
    Command::new("ssh-keygen")
        .arg("-q")
        .args(key_type.keygen_arguments().iter().copied())
        .args(["-N", "", "-C", comment, "-f"])
        .path(private_key)
}

/// The public key that belongs to a private key, computed and not read from the `.pub` file, which
/// may be another's.
///
/// # Errors
/// The private key is damaged, needs a passphrase, or others can read it.
pub fn public_key(host: &dyn Host, private_key: &Path) -> anyhow::Result<String> {
    // An empty passphrase is offered, since ssh-keygen would ask on the terminal otherwise.
    let command = Command::new("ssh-keygen")
        .args(["-y", "-P", "", "-f"])
        .path(private_key);
    let output = host.expect(&command).map_err(|error| {
        anyhow::Error::new(
            Failure::new(
                format!("the private key {} cannot be used", private_key.display()),
                "move it and its .pub file aside to have a new pair made; it must have no passphrase",
            )
            .because(error),
        )
    })?;
    let line = output
        .stdout
        .lines()
        .next()
        .context("ssh-keygen printed no key")?;
    Ok(line.trim().to_owned())
}
