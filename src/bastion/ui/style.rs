//! What the screen can do, found out once: a terminal or not, colours or not, Unicode or not.

use super::text::{ASCII, Signs, UNICODE};
use crate::bastion::host::Host;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether there is a terminal whose cursor can be moved.
    pub is_terminal: bool,
    /// Whether colours are wanted and shown.
    pub has_colors: bool,
    pub signs: Signs,
}

impl Style {
    /// As the environment says. `no_color` is what the user asked for.
    pub fn detect(host: &dyn Host, no_color: bool) -> Self {
        let set = |name: &str| host.env(name).filter(|value| !value.is_empty());
        let is_dumb = set("TERM").is_some_and(|term| term == "dumb");
        // The first of them that is set is the one that counts.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let is_terminal = host.has_terminal() && !is_dumb;
        Style {
            is_terminal,
            has_colors: is_terminal && !no_color && set("NO_COLOR").is_none(),
            signs: if is_utf8(&locale.unwrap_or_default()) && !is_dumb {
                UNICODE
            } else {
                ASCII
            },
        }
    }
}

fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unicode_is_shown_where_the_locale_has_it() {
        for locale in ["C.UTF-8", "de_DE.utf8", "en_US.UTF-8"] {
            assert!(is_utf8(locale), "{locale}");
        }
        for locale in ["", "C", "POSIX", "de_DE.ISO-8859-1"] {
            assert!(!is_utf8(locale), "{locale}");
        }
    }
}
