//! What people send in a public key's place, and what to do about each.

/// With what each kind of private key begins, wherever that stands: OpenSSH's and PEM's, PuTTY's, SSH2's, and
/// the first characters of OpenSSH's where its first line was left out.
const PRIVATE: [&str; 4] = [
    "PRIVATE KEY-----",
    "PuTTY-User-Key-File-",
    "PRIVATE KEY ----",
    "b3BlbnNzaC1rZXktdjE",
];

/// Whether a text is, or has in it, a private key, whole or in part.
pub fn is_private(text: &str) -> bool {
    PRIVATE.iter().any(|mark| text.contains(mark))
}

/// Why a text without blanks around it is no line of a public key, if that is so.
pub(super) fn reason(text: &str) -> Option<String> {
    let reason = if text.is_empty() {
        "no key was given; send the line of the .pub file"
    } else if is_private(text) {
        "this is a private key, which nobody else must have. It was not kept; but as it has left its machine, make a \
         new key pair there and send the line of its .pub file"
    } else if text.contains("---- BEGIN SSH2 PUBLIC KEY ----") {
        "this key is in the form of SSH2 (RFC 4716), as PuTTYgen and Bitvise save it; convert the file with \
         `ssh-keygen -i -f FILE`, or export it in OpenSSH's format, and send that line"
    } else if text.contains("-----BEGIN PUBLIC KEY-----") {
        "this key is in PEM's form; convert the file with `ssh-keygen -i -m PKCS8 -f FILE` and send the line that it \
         prints"
    } else if text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        "this key is in PEM's form; convert the file with `ssh-keygen -i -m PEM -f FILE` and send the line that it \
         prints"
    } else if text.contains("-----BEGIN ") {
        "this is not a public key of OpenSSH; send the line of the .pub file"
    } else if is_fingerprint(text) {
        "this is the key's fingerprint; send the key itself, the line of the .pub file"
    } else if text.contains(['\r', '\n']) {
        return Some(several_lines(text).to_owned());
    } else if text.contains('\0') {
        "there is a NUL character in it; send the line of the .pub file as it is"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// As `ssh-keygen -l` prints it, or in parts.
fn is_fingerprint(text: &str) -> bool {
    text.split_whitespace()
        .take(2)
        .any(|word| word.starts_with("SHA256:") || word.starts_with("MD5:") || is_md5(word))
}

/// `43:51:43:a1:…`, as older programs show it.
fn is_md5(word: &str) -> bool {
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    word.split(':').count() == 16 && word.split(':').all(is_byte)
}

fn several_lines(text: &str) -> &'static str {
    let begins_a_key = |line: &&str| {
        line.split_whitespace()
            .any(|word| super::TYPES.contains(&word))
    };
    match text.lines().filter(begins_a_key).count() {
        0 | 1 => {
            "the key is broken over several lines; send it as the one line that it is in the .pub file"
        }
        _ => "there are several keys; send the one line of the machine that holds the tunnel",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_called_by_its_name() {
        for (text, named) in [
            ("", "no key was given"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl", "a private key"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "a private key"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED",
                "a private key",
            ),
            ("PuTTY-User-Key-File-3: ssh-ed25519", "a private key"),
            (
                "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
                "a private key",
            ),
            ("b3BlbnNzaC1rZXktdjEAAAAABG5vbmU", "a private key"),
            (
                "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA",
                "ssh-keygen -i -f FILE",
            ),
            ("-----BEGIN PUBLIC KEY-----\nMIIB", "-m PKCS8"),
            ("-----BEGIN RSA PUBLIC KEY-----\nMIIB", "-m PEM"),
            (
                "-----BEGIN CERTIFICATE-----\nMIIB",
                "not a public key of OpenSSH",
            ),
            (
                "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
                "fingerprint",
            ),
            (
                "256 SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU me (ED25519)",
                "fingerprint",
            ),
            (
                "43:51:43:a1:b5:fc:8b:b7:0a:3a:a9:b1:0f:66:73:a8",
                "fingerprint",
            ),
            ("MD5:43:51:43:a1", "fingerprint"),
            ("ssh-ed25519 AAAA\0", "NUL"),
        ] {
            let reason = reason(text).unwrap_or_else(|| panic!("{text:?} passes"));
            assert!(reason.contains(named), "{text:?}: {reason}");
        }
        assert_eq!(reason(super::super::tests::ED25519), None);
    }
}
