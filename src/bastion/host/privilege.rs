//! How commands get the superuser's rights: as root itself, through `sudo`, or through `doas`.
//!
//! The program is never run as a whole with these rights; only single commands are, and each is
//! shown in the plan before.

use serde::{Deserialize, Serialize};

use super::Command;

/// The way to the superuser's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// The user is root.
    Root,
    /// `sudo` is installed. Whether it lets this user is known only by trying.
    Sudo,
    /// `doas` is installed.
    Doas,
    /// There is none.
    None,
}

/// The variables that `sudo` would strip and that package managers and downloads need.
const PASSED_ON: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "LANG",
    "LC_ALL",
];

impl Privilege {
    /// The words before a command that give it the rights, asking nothing.
    ///
    /// Variables go through `env`, since `sudo` strips the environment.
    pub fn prefix(
        self,
        command: &Command,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Vec<String> {
        let program = match self {
            Privilege::Root | Privilege::None => return Vec::new(),
            Privilege::Sudo => "sudo",
            Privilege::Doas => "doas",
        };
        let mut words = vec![program.to_owned(), "-n".to_owned(), "env".to_owned()];
        for name in PASSED_ON {
            if let Some(value) = variable(name) {
                words.push(format!("{name}={value}"));
            }
        }
        words.extend(
            command
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        words
    }
}
