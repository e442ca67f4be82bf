//! Values in the guides, quoted for whoever reads them: a shell, PowerShell, systemd, launchd.

use crate::shell;

/// A word for a POSIX shell. A path in the home folder stays open to it.
pub(super) fn in_shell(word: impl AsRef<str>) -> String {
    let word = word.as_ref();
    let is_plain = |rest: &str| shell::word(rest) == rest;
    match word.strip_prefix("~/") {
        Some(rest) if is_plain(rest) => word.to_owned(),
        _ => option_in_shell(word),
    }
}

/// `Name=value` with the quotes around the value alone, as a person would type it; ssh itself finds the home
/// folder in it.
fn option_in_shell(word: &str) -> String {
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphabetic());
    match word.split_once('=') {
        Some((name, value)) if !name.is_empty() && is_name(name) => {
            format!("{name}={}", in_shell(value))
        }
        _ => shell::word(word).into_owned(),
    }
}

/// Words for a POSIX shell.
pub(super) fn words_in_shell(words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(in_shell).collect();
    words.join(" ")
}

/// A string for PowerShell, which takes nothing in it for anything else.
pub(super) fn in_powershell(text: impl AsRef<str>) -> String {
    // It takes typographic quotes for plain ones.
    let is_quote = |c: &char| matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201A}' | '\u{201B}');
    let doubled = text.as_ref().chars().flat_map(|c| {
        let again = Some(c).filter(is_quote);
        std::iter::once(c).chain(again)
    });
    format!("'{}'", doubled.collect::<String>())
}

/// Words of `ExecStart=` in a unit of systemd.
pub(super) fn in_unit(words: &[String]) -> String {
    let is_plain = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.,:=/@+~[]".contains(c))
    };
    let quoted = words.iter().map(|word| {
        if is_plain(word) {
            word.clone()
        } else {
            let word = word.replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{}\"", word.replace('%', "%%").replace('$', "$$"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A string of launchd's XML, for a POSIX shell.
pub(super) fn plist_string(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    in_shell(format!("<string>{}</string>", text.replace('>', "&gt;")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_each_word_as_it_is() {
        let words: Vec<String> = [
            "a b",
            "it's",
            "$(id)",
            "[fd00::5]",
            "X=a b",
            "plain",
            "A=-b",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(shell_words::split(&words_in_shell(&words)).unwrap(), words);
        assert_eq!(in_shell("~/.holistics/id_rsa"), "~/.holistics/id_rsa");
        assert_eq!(in_shell("File=~/.holistics/x"), "File=~/.holistics/x");
        assert_eq!(in_shell("~/a b"), "'~/a b'");
    }

    #[test]
    fn no_value_ends_a_string_of_powershell() {
        assert_eq!(
            in_powershell("it's \u{2019}$x"),
            "'it''s \u{2019}\u{2019}$x'"
        );
    }

    #[test]
    fn a_unit_expands_nothing_in_a_word() {
        let words = ["-o", "ProxyCommand=ncat %h \"$x\" \\"].map(str::to_owned);
        assert_eq!(in_unit(&words), r#"-o "ProxyCommand=ncat %%h \"$$x\" \\""#);
    }
}
