//! The command lines of ssh and autossh, for the temporary tunnel and for the service.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::proxy_command::ProxyCommand;
use crate::bastion::host::Command;
use crate::ssh_line;
pub use crate::ssh_line::{AUTOSSH_ENVIRONMENT, bracketed};

/// How ssh gets to the tunnel server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It connects by itself.
    Direct,
    /// Through this command.
    Command(ProxyCommand),
    /// Through the command in this file of settings.
    Settings(PathBuf),
}

/// One remote port carried back to one database.
///
/// The numbers and names are texts, so that a plan made before enrollment can show `<remote-port>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    pub way: Way,
    /// What the line may be encrypted with, the best first; see `ssh::client`.
    pub ciphers: String,
    pub private_key: PathBuf,
    pub known_hosts: PathBuf,
    /// The name under which the server's host keys are pinned, where that is not the server's own.
    pub host_key_alias: Option<String>,
    /// The server's host keys, where they are known before they are pinned.
    pub host_keys: Vec<String>,
    pub server_user: String,
    pub server_host: String,
    pub server_port: String,
    pub remote_port: String,
    pub target_host: String,
    pub target_port: String,
}

impl Forward {
    /// The arguments for `ssh` in the foreground.
    pub fn ssh_arguments(&self) -> Vec<String> {
        let mut arguments = self.way_arguments();
        arguments.extend(["-N".to_owned(), "-T".to_owned()]);
        arguments.extend(self.connection_arguments());
        arguments.extend(["-R".to_owned(), self.remote_forward(), self.destination()]);
        arguments
    }

    /// The arguments for an `ssh` that logs in, says how far it came, and leaves.
    ///
    /// It asks for no port, so that the session that has it is not disturbed. A tunnel server grants no
    /// command either; asking for one is what makes ssh leave.
    pub fn login_arguments(&self, timeout: Duration) -> Vec<String> {
        // ssh takes the first value of an option, so what differs from a tunnel's stands first.
        let mut arguments = vec!["-v".to_owned()];
        arguments.extend(self.way_arguments());
        arguments.extend(["-T".to_owned(), "-o".to_owned()]);
        arguments.push(format!("ConnectTimeout={}", timeout.as_secs()));
        arguments.extend(self.connection_arguments());
        arguments.extend([self.destination(), "exit".to_owned()]);
        arguments
    }

    /// The tunnel's own arguments for an `ssh` that offers no key, and says how far it came. The server's keys
    /// may not be pinned yet: whoever reads what it said compares them.
    pub fn trial_arguments(&self, timeout: Duration) -> Vec<String> {
        let mut arguments = vec!["-v".to_owned()];
        for option in [
            &format!("ConnectTimeout={}", timeout.as_secs()),
            "PubkeyAuthentication=no",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
        ] {
            arguments.extend(["-o".to_owned(), option.to_owned()]);
        }
        arguments.extend(self.ssh_arguments());
        arguments
    }

    /// The arguments for an `ssh` that gets to the server on this way, says whom it has met there, and leaves. What
    /// else a tunnel has, this host's ssh may not know before it is asked, and nothing here asks it.
    pub fn greeting_arguments(&self, timeout: Duration) -> Vec<String> {
        let mut arguments = vec!["-v".to_owned()];
        arguments.extend(self.way_arguments());
        arguments.extend(["-N", "-T"].map(str::to_owned));
        for option in [
            &format!("ConnectTimeout={}", timeout.as_secs()),
            "BatchMode=yes",
            "PubkeyAuthentication=no",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
        ] {
            arguments.extend(["-o".to_owned(), option.to_owned()]);
        }
        arguments.extend([
            "-p".to_owned(),
            self.server_port.clone(),
            self.destination(),
        ]);
        arguments
    }

    /// Which settings ssh reads: never the user's or the host's own.
    fn way_arguments(&self) -> Vec<String> {
        let (file, command) = match &self.way {
            Way::Direct => ("none".into(), None),
            Way::Command(command) => ("none".into(), Some(command)),
            Way::Settings(file) => (file.to_string_lossy(), None),
        };
        let mut arguments = vec!["-F".to_owned(), file.into_owned()];
        if let Some(command) = command {
            arguments.extend(["-o".to_owned(), format!("ProxyCommand={command}")]);
        }
        arguments
    }

    /// What ssh needs in its environment: the shell that runs a proxy command is the user's, which may be one
    /// that runs nothing (`nologin`).
    pub fn environment(&self) -> Option<(&'static str, &'static str)> {
        (self.way != Way::Direct).then_some(("SHELL", "/bin/sh"))
    }

    /// `ssh` with these arguments.
    pub fn ssh(&self, arguments: Vec<String>) -> Command {
        self.with_environment(Command::new("ssh").args(arguments))
    }

    fn with_environment(&self, command: Command) -> Command {
        match self.environment() {
            Some((name, value)) => command.env(name, value),
            None => command,
        }
    }

    fn connection_arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (option, value) in self.options() {
            arguments.push("-o".to_owned());
            arguments.push(format!("{option}={value}"));
        }
        arguments.extend([
            "-i".to_owned(),
            self.private_key.to_string_lossy().into_owned(),
            "-c".to_owned(),
            self.ciphers.clone(),
            "-p".to_owned(),
            self.server_port.clone(),
        ]);
        arguments
    }

    fn destination(&self) -> String {
        format!("{}@{}", self.server_user, self.server_host)
    }

    /// The arguments for `ssh` as a master in the background: it returns once the forward is
    /// accepted, and ends when told so through `socket`.
    ///
    /// What ssh has to say goes to `log`.
    pub fn master_arguments(&self, socket: &Path, log: &Path) -> Vec<String> {
        let mut arguments = vec![
            "-f".to_owned(),
            "-M".to_owned(),
            "-S".to_owned(),
            socket.to_string_lossy().into_owned(),
            "-E".to_owned(),
            log.to_string_lossy().into_owned(),
        ];
        arguments.extend(self.ssh_arguments());
        arguments
    }

    /// The arguments for `autossh` in the foreground, as a service manager runs it.
    ///
    /// `-M 0`: no monitoring port, ssh's own keepalives notice a dead line. It is always given, since
    /// Debian's autossh is a wrapper that would add a port otherwise.
    pub fn autossh_arguments(&self, log: &Path) -> Vec<String> {
        let mut arguments = vec![
            "-M".to_owned(),
            "0".to_owned(),
            "-E".to_owned(),
            log.to_string_lossy().into_owned(),
        ];
        arguments.extend(self.ssh_arguments());
        arguments
    }

    fn remote_forward(&self) -> String {
        ssh_line::remote_forward(&self.remote_port, &self.target_host, &self.target_port)
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let known_hosts = self.known_hosts.to_string_lossy();
        ssh_line::options(&known_hosts, self.host_key_alias.as_deref())
    }
}

/// `autossh` in the foreground, as a supervisor runs it: what ssh has to say goes to standard error.
pub fn foreground_command(program: &str, forward: &Forward) -> Command {
    let command = Command::new(program).args(["-M", "0"]);
    with_environment(command.args(forward.ssh_arguments()), forward)
}

fn with_environment(command: Command, forward: &Forward) -> Command {
    let command = AUTOSSH_ENVIRONMENT
        .iter()
        .fold(command, |command, (name, value)| command.env(*name, *value));
    forward.with_environment(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::ssh::client;

    fn forward(target_host: &str) -> Forward {
        Forward {
            way: Way::Direct,
            ciphers: client::ciphers(),
            private_key: "/home/ada/.holistics/id_rsa".into(),
            known_hosts: "/home/ada/.holistics/known_hosts".into(),
            host_key_alias: Some("bi.example.com-7".into()),
            host_keys: Vec::new(),
            server_user: "tunnel".into(),
            server_host: "tunnel.example.com".into(),
            server_port: "50022".into(),
            remote_port: "20001".into(),
            target_host: target_host.into(),
            target_port: "5432".into(),
        }
    }

    #[test]
    fn the_server_s_name_ends_the_command_line() {
        let arguments = forward("db.internal").autossh_arguments(Path::new("/tmp/log"));
        assert_eq!(arguments.last().unwrap(), "tunnel@tunnel.example.com");
        assert_eq!(arguments[..2], ["-M", "0"]);
    }

    #[test]
    fn a_proxy_command_is_one_word_of_ssh_or_stands_in_a_file() {
        let command = "ncat --proxy 'p:1' %h %p";
        let through = |way| Forward {
            way,
            ..forward("db.internal")
        };
        let given = through(Way::Command(command.parse().unwrap()));
        let arguments = given.ssh_arguments();
        assert_eq!(arguments[..3], ["-F", "none", "-o"]);
        assert_eq!(arguments[3], format!("ProxyCommand={command}"));
        let kept = through(Way::Settings("/home/ada/.holistics/ssh_config".into()));
        let arguments = kept.autossh_arguments(Path::new("/tmp/log"));
        assert_eq!(arguments[4..6], ["-F", "/home/ada/.holistics/ssh_config"]);
        assert!(!arguments.join(" ").contains("ProxyCommand"));
        // The user's own shell may run nothing.
        let typed = kept.ssh(kept.ssh_arguments()).to_string();
        assert!(typed.starts_with("SHELL=/bin/sh ssh "), "{typed}");
        assert_eq!(forward("db.internal").environment(), None);
    }

    #[test]
    fn an_ipv6_database_is_put_in_brackets() {
        let arguments = forward("fd00::5").ssh_arguments();
        assert!(arguments.contains(&"127.0.0.1:20001:[fd00::5]:5432".to_owned()));
    }
}
