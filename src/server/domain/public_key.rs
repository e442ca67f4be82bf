//! Bastions' public keys: which are accepted, and the one form in which they are compared.
//!
//! What a refusal says stands in `not_a_key`, for what is no line of a key at all, and here.

mod not_a_key;

use russh::keys::PublicKey;
use russh::keys::ssh_key::public::{EcdsaPublicKey, KeyData};

pub use not_a_key::is_private;

/// RSA keys below this size are refused; OpenSSH itself has refused them below 1024 since 7.6, and
/// NIST SP 800-131A has asked for 2048 since 2014.
const SMALLEST_RSA_BITS: u32 = 2048;

/// OpenSSH's own upper bound (`OPENSSH_RSA_MAX_MODULUS_BITS`); larger keys only cost time.
const LARGEST_RSA_BITS: u32 = 16384;

/// The names of the types of keys that are taken, as a line begins.
const TYPES: [&str; 5] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

/// The one thing to do about a key that cannot be taken as it is.
const MAKE_ANOTHER: &str = "make another with: ssh-keygen -t ed25519";

/// Reads one line in OpenSSH's format and returns `algorithm base64` without options and comment.
///
/// This is the form in which keys are stored and in which the tunnel server asks for them.
///
/// # Errors
/// A sentence for the person who sent it: what is wrong and what to send. It holds nothing of what was sent
/// but the name of a type.
pub fn normalize(text: &str) -> Result<String, String> {
    let line = text.trim();
    if let Some(reason) = not_a_key::reason(line) {
        return Err(reason);
    }
    check_type(line)?;
    // Why exactly may be told in the key's own bytes.
    let key = PublicKey::from_openssh(line).map_err(|_| {
        "this key is damaged or cut off; copy the whole line of the .pub file again".to_owned()
    })?;
    check_strength(key.key_data())?;
    PublicKey::new(key.key_data().clone(), "")
        .to_openssh()
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| format!("this key cannot be re-encoded: {error}"))
}

/// Looks at the word with which the line begins.
fn check_type(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    if TYPES.contains(&name) {
        return Ok(());
    }
    if let Some(name) = words.find(|word| TYPES.contains(word)) {
        return Err(format!(
            "there is something before the key, such as options or a host's name; send the line from \"{name}\" on"
        ));
    }
    Err(match name {
        name if name.contains("-cert-v0") => {
            "this is a certificate, which would expire; send the public key that it was made for, from the .pub \
             file without -cert in its name"
                .to_owned()
        }
        // It is not repeated: other secrets than ssh's begin with `sk-`, too.
        name if ["sk-ssh-", "sk-ecdsa-", "webauthn-sk-"]
            .iter()
            .any(|beginning| name.starts_with(beginning)) =>
        {
            format!(
                "keys of this type need someone to touch a device each time; {MAKE_ANOTHER}"
            )
        }
        "ssh-dss" => format!(
            "DSA keys are too weak, and OpenSSH no longer supports them; {MAKE_ANOTHER}"
        ),
        name if is_type(name) => {
            format!("keys of the type {name} are not accepted; use rsa, ed25519 or ecdsa")
        }
        _ => format!(
            "this is not a public key of OpenSSH; send the line of the .pub file, which begins with {} or the like",
            TYPES[..2].join(" or ")
        ),
    })
}

/// Whether a word looks like the name of a type, and can be shown as it is.
fn is_type(word: &str) -> bool {
    const LONGEST: usize = 64;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-@._".contains(&byte);
    let begins = ["ssh-", "ecdsa-", "x509v3-", "rsa-sha2-"];
    word.len() <= LONGEST
        && word.bytes().all(is_name)
        && begins.iter().any(|beginning| word.starts_with(beginning))
}

fn check_strength(key: &KeyData) -> Result<(), String> {
    match key {
        KeyData::Rsa(rsa) if rsa.key_size() < SMALLEST_RSA_BITS => Err(format!(
            "this RSA key has {} bits, and at least {SMALLEST_RSA_BITS} are needed; make one with: ssh-keygen -t rsa -b 4096",
            rsa.key_size()
        )),
        KeyData::Rsa(rsa) if rsa.key_size() > LARGEST_RSA_BITS => Err(format!(
            "this RSA key has {} bits, and at most {LARGEST_RSA_BITS} are accepted; make one with: ssh-keygen -t rsa -b 4096",
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
    use proptest::prelude::*;

    pub(super) const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn comment_line_end_and_blanks_around_do_not_make_another_key() {
        for line in [
            ED25519.to_owned(),
            format!("{ED25519} me@here\n"),
            format!("\r\n  {ED25519} me@here  \r\n\r\n"),
        ] {
            assert_eq!(normalize(&line).unwrap(), ED25519, "{line:?}");
        }
    }

    #[test]
    fn each_wrong_key_is_refused_with_its_own_reason() {
        let (name, key) = ED25519.split_once(' ').unwrap();
        for (text, reason) in [
            (
                format!("command=\"id\" {ED25519}"),
                "something before the key",
            ),
            (format!("restrict {ED25519}"), "something before the key"),
            (
                format!("[vendor.example]:50022 {ED25519}"),
                "something before the key",
            ),
            (format!("{ED25519}\n{ED25519}"), "several keys"),
            (
                format!("{name} {}\n{}", &key[..30], &key[30..]),
                "broken over several lines",
            ),
            (name.to_owned(), "damaged or cut off"),
            ("ssh-ed25519 AAAA".to_owned(), "damaged or cut off"),
            (ED25519[..60].to_owned(), "damaged or cut off"),
            (format!("ssh-rsa {key}"), "damaged or cut off"),
            (format!("ssh-dss {key}"), "DSA keys are too weak"),
            (format!("ssh-ed448 {key}"), "of the type ssh-ed448"),
            (
                format!("sk-ssh-ed25519@openssh.com {key}"),
                "touch a device",
            ),
            (
                format!("ssh-ed25519-cert-v01@openssh.com {key}"),
                "a certificate",
            ),
            (
                "C:\\Users\\ann\\id_rsa.pub".to_owned(),
                "not a public key of OpenSSH",
            ),
        ] {
            let refusal = normalize(&text).unwrap_err();
            assert!(refusal.contains(reason), "{text:?}: {refusal}");
        }
    }

    #[test]
    fn a_secret_that_is_no_key_is_not_sent_back() {
        for secret in [
            "sk-live-0123456789abcdef",
            "sk-ssh-\u{1b}[2J-0123456789abcdef",
        ] {
            let refusal = normalize(secret).unwrap_err();
            assert!(!refusal.contains("0123456789abcdef"), "{refusal}");
        }
    }

    #[test]
    fn what_is_packed_into_a_damaged_key_is_not_sent_back() {
        // Its inner name is `ecdsa-sha2-nistp3`, the end of a line and a control character.
        let key = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzDQMAAAAIbmlzdHAzODQ=";
        let refusal = normalize(key).unwrap_err();
        assert!(refusal.contains("damaged or cut off"), "{refusal}");
        assert!(!refusal.contains("nistp3"), "{refusal}");
    }

    #[test]
    fn a_short_rsa_key_is_refused_with_the_command_for_a_better_one() {
        let short = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC5MC7Bh9bBXpuXcdHklEYbtU/c0LDJPFFGy0IydnUtkkm5W0FS/vlqVk5RTnbob1BfLpMRNOehL1POZsnF+D/lQSS9f7vpx7UpTSBAbq5PDCT3/XiHIyyTkQO7xy8X5yxY4tt+BqWm2Ybw477kZ1/d+pwX+Fe7bh5eNIQBQ8hFlw==";
        let error = normalize(short).unwrap_err();
        assert!(error.contains("ssh-keygen"), "{error}");
    }

    proptest! {
        /// What was sent by mistake is not sent back, nor into a log.
        #[test]
        fn no_refusal_repeats_what_was_sent(text in "\\PC{9,200}") {
            if let Err(refusal) = normalize(&text) {
                prop_assert!(is_type(text.split_whitespace().next().unwrap_or_default()) || !refusal.contains(text.trim()));
            }
        }
    }
}
