//! What stands in the guides of one tunnel.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::quoting::words_in_shell;
use crate::protocol::API_BASE;
use crate::ssh_line::{self, AUTOSSH_ENVIRONMENT, host_pattern, remote_forward};

/// A tunnel's values. What is not known yet is a word in angle brackets.
#[derive(Debug, Clone)]
pub struct Values {
    /// What the operator calls the data source.
    pub display_name: String,
    /// The control plane's address, without a slash at its end.
    pub control_plane: String,
    /// The tunnel's number.
    pub number: String,
    /// Whether a key is registered, so that everything is known.
    pub is_enrolled: bool,
    /// The private key's file, on a system like Unix.
    pub private_key: String,
    /// The file of pinned host keys, on a system like Unix.
    pub known_hosts: String,
    /// The command that makes a key pair, on a system like Unix.
    pub keygen_command: String,
    /// The arguments of ssh, on a system like Unix.
    pub ssh_arguments: Vec<String>,
    /// What ssh needs in its environment.
    pub ssh_environment: Option<(&'static str, &'static str)>,
    /// curl's option for a proxy that the environment does not name.
    pub curl_proxy: String,
    /// How ssh gets to the tunnel server, where it does not connect by itself.
    pub proxy_command: Option<String>,
    /// The name under which the server's host keys are pinned, where that is not the server's own.
    pub host_key_alias: Option<String>,
    /// The server's public host keys.
    pub host_keys: Vec<String>,
    /// The user to log in as.
    pub server_user: String,
    /// The tunnel server's name or address.
    pub server_host: String,
    /// Its SSH port.
    pub server_port: String,
    /// The tunnel's port there.
    pub remote_port: String,
    /// The database's host as the machine sees it; IPv6 without brackets.
    pub target_host: String,
    /// The database's port.
    pub target_port: String,
}

/// Where a person keeps the tunnel's files; ssh knows the home folder by that on every system.
const FOLDER: &str = "~/.holistics";

impl Values {
    /// The name of what keeps the tunnel up: a unit, a job, a task.
    pub fn service(&self) -> String {
        format!("h_tunnel-{}", self.number)
    }

    /// Where a key is registered with a token.
    pub fn registration_url(&self) -> String {
        format!("{}{API_BASE}/enrollment/public-key", self.control_plane)
    }

    /// ssh in the foreground, for a POSIX shell.
    pub fn ssh_command(&self) -> String {
        let environment = self.ssh_environment.map(assignment).unwrap_or_default();
        format!("{environment}ssh {}", words_in_shell(&self.ssh_arguments))
    }

    /// autossh in the foreground, for a POSIX shell.
    pub fn autossh_command(&self) -> String {
        let environment: String = self.environment().into_iter().map(assignment).collect();
        let arguments = words_in_shell(&self.ssh_arguments);
        format!("{environment}autossh -M 0 {arguments}")
    }

    /// What autossh needs in its environment.
    pub fn environment(&self) -> Vec<(&'static str, &'static str)> {
        let variables = AUTOSSH_ENVIRONMENT.into_iter();
        variables.chain(self.ssh_environment).collect()
    }

    /// The arguments of Windows' own ssh.
    pub fn windows_arguments(&self) -> String {
        let known_hosts = format!("{FOLDER}/known_hosts");
        let options = ssh_line::options(&known_hosts, self.host_key_alias.as_deref());
        // There is no such file on Windows, nor one of all users unless somebody has made it.
        let options = options
            .into_iter()
            .filter(|(name, _)| *name != "GlobalKnownHostsFile");
        self.arguments(options, &format!("{FOLDER}/id_rsa"))
            .join(" ")
    }

    /// The arguments of ssh for a person's own files, on a system like Unix.
    pub fn unix_arguments(&self) -> Vec<String> {
        let options = ssh_line::options(&self.known_hosts, self.host_key_alias.as_deref());
        self.arguments(options.into_iter(), &self.private_key)
    }

    fn arguments(
        &self,
        options: impl Iterator<Item = (&'static str, String)>,
        private_key: &str,
    ) -> Vec<String> {
        let mut arguments: Vec<String> = ["-F", "none", "-N", "-T"].map(str::to_owned).into();
        for (name, value) in options {
            arguments.extend(["-o".to_owned(), format!("{name}={value}")]);
        }
        let forward = remote_forward(&self.remote_port, &self.target_host, &self.target_port);
        let destination = format!("{}@{}", self.server_user, self.server_host);
        arguments.extend(["-i".to_owned(), private_key.to_owned()]);
        arguments.extend(["-p".to_owned(), self.server_port.clone()]);
        arguments.extend(["-R".to_owned(), forward, destination]);
        arguments
    }

    /// The lines that pin the host keys.
    pub fn known_hosts_lines(&self) -> Vec<String> {
        let own = || host_pattern(&self.server_host, &self.server_port);
        let name = self.host_key_alias.clone().unwrap_or_else(own);
        self.host_keys
            .iter()
            .map(|key| format!("{name} {key}"))
            .collect()
    }

    /// The host keys' fingerprints, as ssh and Bitvise show them.
    pub fn fingerprints(&self) -> Vec<String> {
        self.host_keys.iter().map(|key| fingerprint(key)).collect()
    }
}

fn assignment((name, value): (&str, &str)) -> String {
    format!("{name}={value} ")
}

/// `ssh-ed25519 SHA256:…` of a public key's line; what is none stays as it is.
fn fingerprint(public_key: &str) -> String {
    let mut words = public_key.split(' ');
    let (kind, key) = (words.next().unwrap_or_default(), words.next());
    match key.and_then(|key| STANDARD.decode(key).ok()) {
        Some(key) => format!(
            "{kind} SHA256:{}",
            STANDARD_NO_PAD.encode(Sha256::digest(key))
        ),
        None => public_key.to_owned(),
    }
}
