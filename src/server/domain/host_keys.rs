//! Which bastions know which host keys, and so whom another key would lock out.

use russh::keys::{HashAlg, PublicKey};

use super::inputs::Invalid;
use crate::server::store::Knowledge;

/// Those that do not know every one of these keys, given by their fingerprints. Which of them ssh asks for is
/// its own choice.
pub fn strangers<'k>(known: &'k [Knowledge], fingerprints: &[String]) -> Vec<&'k Knowledge> {
    let knows = |tunnel: &&Knowledge| fingerprints.iter().all(|key| tunnel.knows.contains(key));
    known.iter().filter(|tunnel| !knows(tunnel)).collect()
}

/// `SHA256:…`, as ssh shows it, of a public key in OpenSSH's form.
///
/// # Errors
/// A sentence for the person who sent it.
pub fn fingerprint(public_key: &str) -> Result<String, Invalid> {
    let key = PublicKey::from_openssh(public_key).map_err(|error| {
        let rule = format!("must be public keys of OpenSSH; {public_key:?} is none: {error}");
        Invalid::new("host_keys", rule)
    })?;
    Ok(key.fingerprint(HashAlg::Sha256).to_string())
}

/// Those of several keys.
pub fn fingerprints(public_keys: &[String]) -> Result<Vec<String>, Invalid> {
    public_keys.iter().map(|key| fingerprint(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{DataSourceId, TunnelId};
    use crate::server::store::Source;

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
        let known = [knowledge];
        assert!(strangers(&known, &keys(&["three", "one"])).is_empty());
        assert_eq!(strangers(&known, &keys(&["three", "four"])).len(), 1);
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
