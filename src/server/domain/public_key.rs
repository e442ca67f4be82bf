//! Bastions' public keys: which are accepted, and the one form in which they are compared.

use russh::keys::PublicKey;
use russh::keys::ssh_key::public::{EcdsaPublicKey, KeyData};

/// RSA keys below this size are refused; OpenSSH itself has refused them below 1024 since 7.6, and
/// NIST SP 800-131A has asked for 2048 since 2014.
const SMALLEST_RSA_BITS: u32 = 2048;

/// OpenSSH's own upper bound (`OPENSSH_RSA_MAX_MODULUS_BITS`); larger keys only cost time.
const LARGEST_RSA_BITS: u32 = 16384;

/// Reads one line in OpenSSH's format and returns `algorithm base64` without options and comment.
///
/// This is the form in which keys are stored and in which the tunnel server asks for them.
///
/// # Errors
/// A sentence for the person who sent it: what is wrong and what to send.
pub fn normalize(line: &str) -> Result<String, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    if line.contains(['\r', '\n', '\0']) {
        return Err("public_key must be one line".to_owned());
    }
    let key = PublicKey::from_openssh(line).map_err(|error| {
        format!("public_key is not a line of an OpenSSH .pub file (`ssh-rsa AAAA…`): {error}")
    })?;
    check_strength(key.key_data())?;
    PublicKey::new(key.key_data().clone(), "")
        .to_openssh()
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| format!("public_key cannot be written again: {error}"))
}

fn check_strength(key: &KeyData) -> Result<(), String> {
    match key {
        KeyData::Rsa(rsa) if rsa.key_size() < SMALLEST_RSA_BITS => Err(format!(
            "this RSA key has {} bits, and at least {SMALLEST_RSA_BITS} are needed; make one with: ssh-keygen -t rsa -b 4096",
            rsa.key_size()
        )),
        KeyData::Rsa(rsa) if rsa.key_size() > LARGEST_RSA_BITS => Err(format!(
            "this RSA key has {} bits, and at most {LARGEST_RSA_BITS} are accepted",
            rsa.key_size()
        )),
        KeyData::Rsa(_)
        | KeyData::Ed25519(_)
        | KeyData::Ecdsa(
            EcdsaPublicKey::NistP256(_) | EcdsaPublicKey::NistP384(_) | EcdsaPublicKey::NistP521(_),
        ) => Ok(()),
        other => Err(format!(
            "keys of the type {} are not accepted; use rsa, ed25519 or ecdsa",
            other.algorithm()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn comment_and_line_end_do_not_make_another_key() {
        assert_eq!(normalize(&format!("{ED25519} me@here\n")).unwrap(), ED25519);
        assert_eq!(normalize(ED25519).unwrap(), ED25519);
    }

    #[test]
    fn options_and_second_lines_are_refused() {
        for line in [
            format!("command=\"id\" {ED25519}"),
            format!("restrict {ED25519}"),
            format!("{ED25519}\n{ED25519}"),
            String::new(),
            "ssh-ed25519".to_owned(),
            "ssh-ed25519 AAAA".to_owned(),
            "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
        ] {
            assert!(normalize(&line).is_err(), "{line:?} was accepted");
        }
    }

    #[test]
    fn a_short_rsa_key_is_refused_with_the_command_for_a_better_one() {
        let short = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC5MC7Bh9bBXpuXcdHklEYbtU/c0LDJPFFGy0IydnUtkkm5W0FS/vlqVk5RTnbob1BfLpMRNOehL1POZsnF+D/lQSS9f7vpx7UpTSBAbq5PDCT3/XiHIyyTkQO7xy8X5yxY4tt+BqWm2Ybw477kZ1/d+pwX+Fe7bh5eNIQBQ8hFlw==";
        let error = normalize(short).unwrap_err();
        assert!(error.contains("ssh-keygen"), "{error}");
    }
}
