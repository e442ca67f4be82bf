//! How commands get the superuser's rights: as root itself, through `sudo`, or through `doas`.
//!
//! The program is never run as a whole with these rights; only single commands are, and each is
//! shown in the plan before.

use serde::{Deserialize, Serialize};

use super::{Authority, Command};
use crate::shell;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    Root,
    /// `sudo` is installed. Whether it lets this user is known only by trying.
    Sudo,
    /// `doas` is installed.
    Doas,
    None,
}

/// Where package managers look for the way out. sudo strips them.
pub const PROXIES: [&str; 6] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
];

/// Has sudo and doas fail where they would ask.
const NOT_INTERACTIVE: &str = "-n";

/// Takes variables from its standard input, a line each, and gives them to the command that follows.
const WITH_VARIABLES: &str = r#"while IFS= read -r line; do export "$line"; done; exec "$@""#;

/// A command as it is started.
#[derive(Debug, PartialEq, Eq)]
pub struct Started {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// What it is given on its standard input.
    pub input: String,
}

impl Privilege {
    /// The program that stands between a user and root.
    pub fn program(self) -> Option<&'static str> {
        match self {
            Privilege::Root | Privilege::None => None,
            Privilege::Sudo => Some("sudo"),
            Privilege::Doas => Some("doas"),
        }
    }

    /// A command as a person types it to have the same done.
    pub fn shown(self, command: &Command, variable: impl Fn(&str) -> Option<String>) -> String {
        let way = match command.authority {
            Authority::Root => self,
            Authority::User => Privilege::None,
        };
        let mut words = way.start(command, variable).words;
        if way.program().is_some() {
            // Whoever types it can be asked.
            words.remove(1);
        } else {
            let variables = command.env.iter();
            words.splice(
                0..0,
                variables.map(|(name, value)| format!("{name}={value}")),
            );
        }
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        words.join(" ")
    }

    /// The command with these rights, asking nothing.
    ///
    /// Variables go through `env`, since `sudo` strips the environment. Proxies go through standard
    /// input: they may hold a password, and what stands on a command line is in `ps` and in sudo's log.
    pub fn start(self, command: &Command, variable: impl Fn(&str) -> Option<String>) -> Started {
        let own_words = command.words().into_iter().map(str::to_owned);
        let Some(program) = self.program() else {
            return Started {
                words: own_words.collect(),
                input: String::new(),
            };
        };
        let input: String = PROXIES
            .into_iter()
            .filter(|_| command.downloads)
            .filter_map(|name| Some((name, variable(name)?)))
            .filter(|(_, value)| !value.contains('\n'))
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        let mut words = vec![program.to_owned(), NOT_INTERACTIVE.to_owned()];
        if !input.is_empty() {
            words.extend(["sh", "-c", WITH_VARIABLES, "sh"].map(str::to_owned));
        }
        if !command.env.is_empty() {
            words.push("env".to_owned());
        }
        let variables = command.env.iter();
        words.extend(variables.map(|(name, value)| format!("{name}={value}")));
        words.extend(own_words);
        Started { words, input }
    }
}

/// A word as a shell takes it; of a variable, only the value needs quotes.
fn quoted(word: &str) -> String {
    let is_part = |c| c == '_' || char::is_ascii_alphanumeric(&c);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(is_part);
    match word.split_once('=') {
        Some((name, value)) if is_name(name) => format!("{name}={}", shell::word(value)),
        _ => shell::word(word).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "https_proxy").then(|| "http://ada:hunter2@proxy.example:3128".to_owned())
    }

    #[test]
    fn a_command_is_what_root_is_given_word_for_word() {
        let restart = Command::new("systemctl").args(["restart", "h_autossh"]);
        let started = Privilege::Sudo.start(&restart, environment);
        assert_eq!(
            started.words,
            ["sudo", "-n", "systemctl", "restart", "h_autossh"]
        );
        assert_eq!(started.input, "");
    }

    #[test]
    fn a_proxy_reaches_what_downloads_and_stands_on_no_command_line() {
        let install = Command::new("apt-get")
            .args(["install", "autossh"])
            .env("LC_ALL", "C")
            .downloads();
        let started = Privilege::Doas.start(&install, environment);
        assert!(!started.words.concat().contains("hunter2"), "{started:?}");
        assert_eq!(
            started.input,
            "https_proxy=http://ada:hunter2@proxy.example:3128\n"
        );
        let end = ["env", "LC_ALL=C", "apt-get", "install", "autossh"];
        assert!(
            started.words.ends_with(&end.map(str::to_owned)),
            "{started:?}"
        );
        let shown = Privilege::Doas.shown(&install.with_authority(Authority::Root), environment);
        assert!(shown.starts_with("doas sh -c 'while"), "{shown}");
        assert!(
            shown.ends_with(" sh env LC_ALL=C apt-get install autossh"),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
