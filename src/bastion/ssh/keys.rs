//! The bastion's key pair, made by `ssh-keygen`.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::client;
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

    /// As `--key-type` names it.
    pub fn word(self) -> &'static str {
        match self {
            KeyType::Rsa => "rsa",
            KeyType::Ed25519 => "ed25519",
            KeyType::Ecdsa => "ecdsa",
        }
    }

    pub fn file_name(self) -> &'static str {
        match self {
            KeyType::Rsa => "id_rsa",
            KeyType::Ed25519 => "id_ed25519",
            KeyType::Ecdsa => "id_ecdsa",
        }
    }

    /// As `ssh -Q key` and a public key name it.
    pub fn ssh_name(self) -> &'static str {
        match self {
            KeyType::Rsa => "ssh-rsa",
            KeyType::Ed25519 => "ssh-ed25519",
            KeyType::Ecdsa => "ecdsa-sha2-nistp256",
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

/// Looks whether this host makes keys of this type, and its ssh uses them.
///
/// # Errors
/// It does not; the types that it has are named.
pub fn prove(host: &dyn Host, key_type: KeyType) -> anyhow::Result<()> {
    let Some(why) = refusal(host, key_type)? else {
        return Ok(());
    };
    let others = others(host, key_type)?;
    let next = if others.is_empty() {
        NO_TYPE.to_owned()
    } else {
        let flags = others
            .iter()
            .map(|other| format!("--key-type {}", other.word()));
        format!("use {}", flags.collect::<Vec<_>>().join(" or "))
    };
    let kind = key_type.word();
    Err(Failure::usage(
        format!("this host's OpenSSH has no keys of type {kind}: {why}"),
        next,
    )
    .into())
}

/// What to do where no type of key is left.
pub const NO_TYPE: &str = "use a bastion with the OpenSSH of its distribution";

/// The other types that this host has.
pub fn others(host: &dyn Host, key_type: KeyType) -> anyhow::Result<Vec<KeyType>> {
    let mut others = Vec::new();
    for other in KeyType::ALL.into_iter().filter(|other| *other != key_type) {
        if refusal(host, other)?.is_none() {
            others.push(other);
        }
    }
    Ok(others)
}

/// Why this host has no keys of this type.
pub fn refusal(host: &dyn Host, key_type: KeyType) -> anyhow::Result<Option<String>> {
    // Where there can be no file, so that a key is made and kept nowhere.
    const NOWHERE: &str = "/dev/null/key";
    if !client::knows(host, key_type)? {
        let name = key_type.ssh_name();
        return Ok(Some(format!("`ssh -Q key` does not list {name}")));
    }
    // One of RSA takes seconds, and no policy forbids it.
    if key_type == KeyType::Rsa || host.which("ssh-keygen").is_none() {
        return Ok(None);
    }
    let output = host.run(&keygen(key_type, Path::new(NOWHERE), ""))?;
    let said = output.stderr.trim();
    // It comes to "Saving key … failed" when it has made one; that is so since there are these types.
    let is_made = output.success() || said.starts_with("Saving ");
    Ok((!is_made).then(|| format!("ssh-keygen says: {}", said.replace('\n', "; "))))
}

/// The command of [`public_key`].
pub fn show_public(private_key: &Path) -> Command {
    // An empty passphrase is offered, since ssh-keygen would ask on the terminal otherwise.
    Command::new("ssh-keygen")
        .args(["-y", "-P", "", "-f"])
        .path(private_key)
}

/// The public key that belongs to a private key, computed and not read from the `.pub` file, which
/// may be another's.
pub fn public_key(host: &dyn Host, private_key: &Path) -> anyhow::Result<String> {
    let output = host.expect(&show_public(private_key)).map_err(|error| {
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
