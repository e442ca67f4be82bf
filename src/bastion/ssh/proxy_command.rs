//! ssh's `ProxyCommand`: how a connection gets to the tunnel server where this host cannot open it directly.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Forward;
use crate::bastion::host::{CommandError, Host};

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
    shell_words::quote(&path.to_string_lossy()).replace('%', "%%")
}

/// How long ssh may take to hear the server's first words.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long ssh may take in all.
const LIMIT: Duration = Duration::from_secs(20);

/// Has ssh go this forward's way, and returns what the server there says it is. ssh stops at its host key:
/// nothing but the way is looked at.
///
/// # Errors
/// What stood in the way, in the words of ssh and of the command.
pub fn greeting(host: &dyn Host, forward: &Forward) -> Result<String, CommandError> {
    let command = forward
        .ssh(forward.greeting_arguments(GREETING_TIMEOUT))
        .timeout(LIMIT);
    let output = host.run(&command)?;
    match version(&output.stderr) {
        Some(version) => Ok(version.to_owned()),
        None => Err(CommandError::Status {
            command: command.to_string(),
            status: output.status,
            stderr: last_words(&output.stderr),
            stdout: output.stdout,
        }),
    }
}

/// What `ssh -v` says of the server's greeting; OpenSSH has said it so since 6.5.
fn version(said: &str) -> Option<&str> {
    said.lines()
        .find_map(|line| line.split_once("remote software version "))
        .map(|(_, version)| version.trim())
}

/// What ssh and the command have to say for people.
fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("debug"))
        // Behind a proxy command ssh knows no address.
        .filter(|line| !line.starts_with("OpenSSH_") && !line.contains("UNKNOWN port"))
        .collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
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

    #[test]
    fn the_greeting_is_told_from_what_stood_in_the_way() {
        let heard = "OpenSSH_9.2p1\ndebug1: Remote protocol version 2.0, remote software version x_1\nHost key verification failed.\n";
        assert_eq!(version(heard), Some("x_1"));
        let refused = "OpenSSH_9.2p1\ndebug1: x\nNcat: Proxy returned status code 403.\nkex_exchange_identification: Connection closed by remote host\n";
        assert_eq!(version(refused), None);
        assert!(last_words(refused).starts_with("Ncat: Proxy returned status code 403.; kex_"));
    }
}
