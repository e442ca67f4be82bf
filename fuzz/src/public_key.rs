//! Public keys as people send them: each has one form, and no refusal repeats what was sent.

use holistics_tunnel::server::domain::public_key::normalize;

use crate::fields::text;

pub fn run(input: &[u8]) {
    let sent = text(input);
    match normalize(&sent) {
        Ok(key) => has_one_form(&key),
        Err(refusal) => repeats_nothing(&sent, &refusal),
    }
}

fn has_one_form(key: &str) {
    let words: Vec<_> = key.split(' ').collect();
    assert_eq!(words.len(), 2, "{key:?}");
    assert!(
        key.bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    );
    for same in [
        key.to_owned(),
        format!("{key} me@here"),
        format!("  {key}\r\n"),
    ] {
        assert_eq!(normalize(&same).as_deref(), Ok(key), "{same:?}");
    }
}

fn repeats_nothing(sent: &str, refusal: &str) {
    assert!(refusal.len() < 1_000, "{refusal}");
    assert!(!refusal.chars().any(char::is_control), "{refusal:?}");
    // The name of a type may be said, and words of ours may be in what was sent.
    let types = ["ssh-", "ecdsa-", "x509v3-", "rsa-sha2-"];
    let is_type = |word: &str| types.iter().any(|beginning| word.starts_with(beginning));
    let words = sent.split_whitespace();
    let secrets = words.filter(|word| word.len() > 20 && !is_type(word));
    for secret in secrets {
        assert!(!refusal.contains(secret), "{secret:?} is in {refusal:?}");
    }
}
