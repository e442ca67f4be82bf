//! Takes secrets out of text that is kept: those that are known, and what looks like one.

/// What stands in a secret's place.
const HIDDEN: &str = "[hidden]";
/// After these words, with `:` or `=`, the rest of a line is a secret.
const INTRODUCTIONS: [&str; 4] = ["authorization", "password", "passwd", "secret"];
/// A token of this program's control plane: `ht`, a letter for its kind, `_`, and at least so much more.
const TOKEN_LENGTH: usize = 16;

/// The text without these secrets, without tokens, logins in addresses and what follows a word that
/// introduces a password.
pub fn redact(text: &str, secrets: &[String]) -> String {
    let mut clean = text.to_owned();
    for secret in secrets {
        clean = clean.replace(secret.as_str(), HIDDEN);
    }
    let lines: Vec<String> = clean.split('\n').map(redact_line).collect();
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
        let authority = after
            .find(|c: char| c == '/' || c.is_whitespace() || "'\"".contains(c))
            .unwrap_or(after.len());
        rest = match after[..authority].rfind('@') {
            Some(at) => {
                clean.push_str(HIDDEN);
                &after[at..]
            }
            None => after,
        };
    }
    clean + rest
}

fn without_tokens(line: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut clean = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_part) {
        let word_end = rest[start..]
            .find(|c| !is_part(c))
            .map_or(rest.len(), |length| start + length);
        clean.push_str(&rest[..start]);
        let word = &rest[start..word_end];
        clean.push_str(if is_token(word) { HIDDEN } else { word });
        rest = &rest[word_end..];
    }
    clean + rest
}

fn is_token(word: &str) -> bool {
    let bytes = word.as_bytes();
    word.len() >= TOKEN_LENGTH
        && word.starts_with("ht")
        && bytes[2].is_ascii_lowercase()
        && bytes[3] == b'_'
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
    }
}
