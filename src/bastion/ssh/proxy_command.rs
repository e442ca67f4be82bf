//! ssh's `ProxyCommand`: how a connection gets to the tunnel server where this host cannot open it directly.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::shell;
use serde::{Deserialize, Serialize};

/// A command whose input and output are a connection to the tunnel server. ssh puts the server in the place of
/// `%h` and `%p`.
///
/// It is one line without control characters, so that it can stand in ssh's settings as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyCommand(String);

/// ssh's word for a connection without such a command.
const NONE: &str = "none";

impl ProxyCommand {
    /// Whether it asks for the direct way.
    pub fn is_none(&self) -> bool {
        self.0.eq_ignore_ascii_case(NONE)
    }

    /// The content of the file that ssh reads its settings from, in the place of the user's and the host's own.
    ///
    /// It stands there, and not on the service's command lines: those are taken apart by a shell or by systemd,
    /// while ssh takes the rest of this line as it is.
    pub fn settings(&self) -> String {
        format!("# holistics-tunnel: how ssh gets to the tunnel server.\nProxyCommand {self}\n")
    }
}

impl FromStr for ProxyCommand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.starts_with('=') {
            return Err("give a command, such as: nc -X connect -x PROXY:PORT %h %p".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("give it on one line, without control characters".to_owned());
        }
        Ok(ProxyCommand(text.to_owned()))
    }
}

impl TryFrom<String> for ProxyCommand {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ProxyCommand> for String {
    fn from(command: ProxyCommand) -> Self {
        command.0
    }
}

impl fmt::Display for ProxyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path as a word of a proxy command: quoted for the shell that runs it, its `%` kept from ssh.
pub fn word(path: &Path) -> String {
    shell::word(&path.to_string_lossy()).replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line_and_kept_as_it_is() {
        let command: ProxyCommand = r#" nc -X connect -x "p:1" '%h' $X %p # \ "#.parse().unwrap();
        assert_eq!(
            command.to_string(),
            r#"nc -X connect -x "p:1" '%h' $X %p # \"#
        );
        assert!(
            command
                .settings()
                .ends_with(&format!("\nProxyCommand {command}\n"))
        );
        for bad in ["", "  ", "nc %h\nProxyCommand rm", "nc\0", "= nc"] {
            assert!(bad.parse::<ProxyCommand>().is_err(), "{bad:?}");
            // A receipt is no way around that.
            assert!(serde_json::from_value::<ProxyCommand>(bad.into()).is_err());
        }
        assert!("None".parse::<ProxyCommand>().unwrap().is_none());
    }

    #[test]
    fn a_path_is_one_word_for_the_shell_and_no_token_for_ssh() {
        assert_eq!(word(Path::new("/home/a b/100%")), "'/home/a b/100%%'");
    }
}
