//! What people and bastions may type: the rules for hosts, names and sizes.
//!
//! Hosts end in ssh's arguments and in shell scripts on the bastion, so nothing passes here that
//! means something to either.

use std::net::IpAddr;

use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;

/// A value that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct Invalid {
    /// What it is called in the API.
    pub field: &'static str,
    /// What is expected of it, after its name.
    pub rule: String,
}

impl Invalid {
    pub(super) fn new(field: &'static str, rule: impl Into<String>) -> Self {
        Invalid {
            field,
            rule: rule.into(),
        }
    }
}

/// Checks a DNS name or an IP address and returns it without the brackets of IPv6.
///
/// A name is letters, digits, `-`, `_` and dots, as RFC 1123 with the underscore that container
/// networks use; international names go in their `xn--` form.
///
/// # Errors
/// It says what is expected.
pub fn host(field: &'static str, text: &str) -> Result<String, Invalid> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Ok(address) = inner.unwrap_or(text).parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if is_dns_name(text) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(
        field,
        "must be a DNS name or an IP address, such as db.internal, 10.0.0.5 or [fd00::5]",
    ))
}

fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let last_label = name.rsplit('.').next().unwrap_or_default();
    // A name whose last label is a number is a mistyped address; resolvers disagree about it.
    name.len() <= 253 && name.split('.').all(is_dns_label) && !is_number(last_label)
}

/// In tens, or after `0x` in sixteens, as some resolvers read the parts of an address.
fn is_number(label: &str) -> bool {
    let lower = label.to_ascii_lowercase();
    match lower.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => lower.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Checks a TCP port.
///
/// # Errors
/// It says what is expected.
pub fn port(field: &'static str, port: u16) -> Result<u16, Invalid> {
    match port {
        0 => Err(Invalid::new(field, "must be between 1 and 65535")),
        port => Ok(port),
    }
}

/// Checks a name that people read and returns it without outer spaces.
///
/// # Errors
/// It says what is expected.
pub fn display_name(text: &str) -> Result<String, Invalid> {
    let name = text.trim();
    if name.is_empty() {
        return Err(Invalid::new("display_name", "must not be empty"));
    }
    one_line("display_name", name, 200)?;
    Ok(name.to_owned())
}

/// Checks a text of at most `longest` characters, each of which is seen where the text is shown.
///
/// # Errors
/// It says what is expected.
pub fn one_line(field: &'static str, text: &str, longest: usize) -> Result<(), Invalid> {
    searched(field, text, longest)?;
    if let Some(hidden) = text.chars().find(|&character| is_hidden(character)) {
        let rule = format!(
            "has an invisible character in it (U+{:04X}); type it again, without that one",
            u32::from(hidden)
        );
        return Err(Invalid::new(field, rule));
    }
    Ok(())
}

/// Checks a text that is looked for, and not kept: of at most `longest` characters, on one line.
///
/// # Errors
/// It says what is expected.
pub fn searched(field: &'static str, text: &str, longest: usize) -> Result<(), Invalid> {
    if text.chars().count() > longest {
        let rule = format!("must have at most {longest} characters");
        return Err(Invalid::new(field, rule));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(
            field,
            "must be one line without control characters",
        ));
    }
    Ok(())
}

/// Whether a character is not seen, and may turn others around: two texts would look the same, or one
/// like another one.
fn is_hidden(character: char) -> bool {
    // Unicode counts the separators of lines and the marks of annotations among others.
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{FFF9}'..='\u{FFFB}')
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// Checks a short name made of letters, digits, `-`, `_` and `.`: regions, API tokens.
///
/// # Errors
/// It says what is expected.
pub fn identifier(field: &'static str, text: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        "must be 1 to 64 letters, digits, '-', '_' or '.', and not begin with '-'",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_hosts_pass() {
        for (typed, kept) in [
            ("localhost", "localhost"),
            ("db.internal", "db.internal"),
            ("my_db-1.svc.cluster.local.", "my_db-1.svc.cluster.local."),
            ("10.0.0.5", "10.0.0.5"),
            ("::1", "::1"),
            ("[fd00::5]", "fd00::5"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(host("host", typed).as_deref(), Ok(kept));
        }
    }

    #[test]
    fn what_a_shell_or_ssh_would_read_otherwise_is_refused() {
        for typed in [
            "",
            " ",
            "-oProxyCommand=id",
            "a b",
            "a;b",
            "$(id)",
            "`id`",
            "a\nb",
            "a:5432",
            "[::1",
            "[db.internal]",
            "a..b",
            ".",
            "a.-b",
            "999.1.1.1",
            "1.2.3",
            "127.1",
            "2130706433",
            "0177.0.0.1",
            "0x7f000001",
            "0X7F.1",
            "127.0.0.0x1",
            "127.0x1.",
            "bücher.example",
            "fe80::1%eth0",
            "user@db",
            "db/x",
            "*",
        ] {
            assert!(host("host", typed).is_err(), "{typed:?} was accepted");
        }
        assert!(host("host", &"a".repeat(64)).is_err());
        assert!(host("host", &["abcdefgh"; 29].join(".")).is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_host_needs_no_quoting(typed in "\\PC{0,40}") {
            if let Ok(kept) = host("host", &typed) {
                prop_assert!(!kept.starts_with('-'));
                prop_assert!(kept.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b)));
            }
        }
    }

    #[test]
    fn a_name_looks_like_no_other() {
        for hidden in [
            "Sales\u{202E}BD",
            "Sal\u{200B}es",
            "Sales\u{2066}",
            "a\u{AD}b",
            "a\u{2028}b",
            "\u{FEFF}Sales",
            "a\u{FFF9}b",
            "a\u{E0041}b",
            "\u{3164}",
            "a\u{200F}",
        ] {
            let refusal = display_name(hidden).unwrap_err().to_string();
            assert!(refusal.contains("invisible character"), "{refusal}");
            assert!(one_line("user", hidden, 64).is_err());
        }
        for seen in [
            "Sales – Größe",
            "売上",
            "مبيعات",
            "מכירות",
            "Ventes 🐘",
            "a b",
        ] {
            assert_eq!(display_name(seen).as_deref(), Ok(seen));
        }
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(display_name(" Sales DB ").as_deref(), Ok("Sales DB"));
        assert!(display_name("  ").is_err());
        assert!(display_name("a\u{7}b").is_err());
        assert!(display_name(&"é".repeat(200)).is_ok());
        assert!(display_name(&"é".repeat(201)).is_err());
    }
}
