//! Which bastions know which host keys, and so whom another key would lock out.

use russh::keys::{HashAlg, PublicKey};
use serde::Serialize;

use crate::protocol::{DataSourceId, TunnelId};

/// How it is known which keys a bastion has pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It was enrolled before that was kept, when there was but one generation of keys.
    Assumed,
    /// They were in the answer to its enrollment.
    Told,
    /// It has said so.
    Pinned,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 3] = [Source::Assumed, Source::Told, Source::Pinned];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Assumed => "assumed",
            Source::Told => "told",
            Source::Pinned => "pinned",
        }
    }

    /// The same, for people.
    pub fn explained(self) -> &'static str {
        match self {
            Source::Assumed => "assumed: set up before this was kept",
            Source::Told => "told when it was set up",
            Source::Pinned => "its bastion said so",
        }
    }
}

/// What a tunnel's bastion knows.
#[derive(Debug, Clone, Serialize)]
pub struct Knowledge {
    pub tunnel_id: TunnelId,
    pub data_source_id: DataSourceId,
    pub display_name: String,
    /// The bastion's name, for people.
    pub bastion: String,
    pub last_seen: Option<jiff::Timestamp>,
    /// The fingerprints of the keys.
    pub knows: Vec<String>,
    pub source: Source,
    /// Since when.
    pub at: jiff::Timestamp,
}

impl Knowledge {
    /// Whether it knows every one of these keys. Which of them ssh asks for is its own choice.
    pub fn includes(&self, fingerprints: &[String]) -> bool {
        fingerprints.iter().all(|key| self.knows.contains(key))
    }
}

/// `SHA256:…`, as ssh shows it, of a public key in OpenSSH's form.
///
/// # Errors
/// A sentence for the person who sent it.
pub fn fingerprint(public_key: &str) -> Result<String, String> {
    let key = PublicKey::from_openssh(public_key)
        .map_err(|error| format!("{public_key:?} is no public key of OpenSSH: {error}"))?;
    Ok(key.fingerprint(HashAlg::Sha256).to_string())
}

/// Those of several keys.
///
/// # Errors
/// As with [`fingerprint`].
pub fn fingerprints(public_keys: &[String]) -> Result<Vec<String>, String> {
    public_keys.iter().map(|key| fingerprint(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bastion_that_lacks_one_of_the_keys_does_not_know_them() {
        let knowledge = Knowledge {
            tunnel_id: TunnelId(7),
            data_source_id: DataSourceId(7),
            display_name: "Shop".to_owned(),
            bastion: "bastion-1".to_owned(),
            last_seen: None,
            knows: ["one", "two", "three"].map(str::to_owned).to_vec(),
            source: Source::Told,
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let keys =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
        assert!(knowledge.includes(&keys(&["three", "one"])));
        assert!(!knowledge.includes(&keys(&["three", "four"])));
    }

    #[test]
    fn a_fingerprint_is_the_one_that_ssh_shows() {
        let key =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        assert_eq!(
            fingerprint(key).unwrap(),
            fingerprint(&format!("{key} a comment")).unwrap()
        );
        assert_eq!(
            fingerprint(key).unwrap(),
            "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
        );
        assert!(fingerprint("ssh-ed25519 AAAA").is_err());
    }
}
