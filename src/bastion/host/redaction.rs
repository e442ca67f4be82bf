//! Takes secrets out of text that is kept: those that are known, and what looks like one.

/// What stands in a secret's place.
pub const HIDDEN: &str = "[hidden]";
/// After these words, with `:` or `=`, the rest of a line is a secret.
const INTRODUCTIONS: [&str; 4] = ["authorization", "password", "passwd", "secret"];
/// What the control plane's tokens begin with, one for each kind of them.
const TOKEN_BEGINNINGS: [&str; 4] = ["hte_", "htt_", "htr_", "hto_"];

/// The text without these secrets, without tokens, private keys, logins in addresses and what follows a
/// word that introduces a password.
pub fn redact(text: &str, secrets: &[String]) -> String {
    let known = secrets.iter().filter(|secret| !secret.is_empty());
    let clean = known.fold(text.to_owned(), |text, secret| {
        text.replace(secret.as_str(), HIDDEN)
    });
    let mut lines = Vec::new();
    let mut is_in_key = false;
    for line in clean.split('\n') {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            is_in_key = true;
            lines.push(HIDDEN.to_owned());
        }
        if !is_in_key {
            lines.push(redact_line(line));
        }
        is_in_key &= !line.contains("-----END");
    }
    lines.join("\n")
}

fn redact_line(line: &str) -> String {
    without_tokens(&without_logins(&without_introduced(line)))
}

fn without_introduced(line: &str) -> String {
    // Only ASCII letters change, so that positions stay the same.
    let lower = line.to_ascii_lowercase();
    let end = INTRODUCTIONS
        .iter()
        .filter_map(|word| {
            let after = lower.find(word)? + word.len();
            let value = lower[after..].trim_start();
            (value.starts_with(':') || value.starts_with('='))
                .then(|| lower.len() - value.len() + 1)
        })
        .min();
    match end {
        Some(end) if !line[end..].trim().is_empty() => format!("{} {HIDDEN}", &line[..end]),
        _ => line.to_owned(),
    }
}

/// `https://name:password@proxy` without the name and the password.
fn without_logins(line: &str) -> String {
    let mut clean = String::new();
    let mut rest = line;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        clean.push_str(before);
        rest = match end_of_login(after) {
            Some(at) => {
                clean.push_str(HIDDEN);
                &after[at..]
            }
            None => after,
        };
    }
    clean + rest
}

/// Where the `@` of a login stands, at the beginning of an address without its scheme.
fn end_of_login(address: &str) -> Option<usize> {
    let up_to = |stops: &str| {
        let stop = address.find(|c: char| c.is_whitespace() || stops.contains(c));
        &address[..stop.unwrap_or(address.len())]
    };
    let authority = up_to("/?#,'\"");
    authority.rfind('@').or_else(|| {
        // What follows a colon and is no port is a password, which people do not always encode.
        let (_, port) = authority.rsplit_once(':')?;
        let is_port = port.chars().all(|c| c.is_ascii_digit() || c == ']');
        if is_port {
            None
        } else {
            up_to("'\"").rfind('@')
        }
    })
}

fn without_tokens(line: &str) -> String {
    TOKEN_BEGINNINGS
        .iter()
        .fold(line.to_owned(), |line, beginning| {
            let mut parts = line.split(beginning);
            let mut clean = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                let rest = part.trim_start_matches(is_part);
                // The beginning alone is what a text about tokens says.
                let is_token = rest.len() < part.len();
                clean.push_str(if is_token { HIDDEN } else { beginning });
                clean.push_str(rest);
            }
            clean
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_taken_out() {
        let cases = [
            (
                "fetch https://vendor.example/i/hte_AbC-123_xyz4567890 now",
                "fetch https://vendor.example/i/[hidden] now",
            ),
            ("> Authorization: Bearer abc", "> Authorization: [hidden]"),
            ("PASSWORD=open sesame", "PASSWORD= [hidden]"),
            (
                "proxy http://ada:pw@10.0.0.1:3128/ and http://b:c@d",
                "proxy http://[hidden]@10.0.0.1:3128/ and http://[hidden]@d",
            ),
            (
                "ssh tunnel@192.0.2.1: Permission denied (publickey,password).",
                "ssh tunnel@192.0.2.1: Permission denied (publickey,password).",
            ),
            ("hte_ and http_proxy stay", "hte_ and http_proxy stay"),
            ("ärger: passwörter", "ärger: passwörter"),
            ("htt_AbC-1, xhto_Zz9", "[hidden], x[hidden]"),
            (
                "a\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\nz\n",
                "a\n[hidden]\nz\n",
            ),
            ("http://ada:pa/ss@proxy:1/x", "http://[hidden]@proxy:1/x"),
            (
                "http://proxy:3128/@x http://[::1]:80/@x",
                "http://proxy:3128/@x http://[::1]:80/@x",
            ),
        ];
        for (text, clean) in cases {
            assert_eq!(redact(text, &[]), clean);
        }
    }

    #[test]
    fn a_known_secret_is_taken_out_wherever_it_stands() {
        let secrets = ["s3cr3t".to_owned()];
        assert_eq!(
            redact("a\nxs3cr3ty\n", &secrets),
            "a\nx[hidden]y\n",
            "in the middle of a word"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_redacted(text in "\\PC{0,80}") {
            let once = redact(&text, &[]);
            proptest::prop_assert_eq!(once.lines().count(), text.lines().count());
        }

        #[test]
        fn a_token_is_taken_out_wherever_it_stands(
            before in "[ -~\n]{0,40}", token in "ht[etro]_[A-Za-z0-9_-]{8,43}", after in "[ \n\"',.]{1,10}",
        ) {
            let clean = redact(&format!("{before}{token}{after}"), &[]);
            proptest::prop_assert!(!clean.contains(&token));
        }
    }
}
