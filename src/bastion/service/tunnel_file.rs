//! The file `/etc/h_autossh/<ID>.env`: one tunnel, root-owned, without secrets.
//!
//! It is read as shell by the init script and as an environment file by systemd, whose rules of
//! quoting differ. So every value is held to characters that mean the same, nothing, in both.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use askama::Template;

use super::MARKER;
use crate::bastion::failure::Failure;
use crate::bastion::layout::Layout;
use crate::bastion::ssh::Forward;
use crate::bastion::ssh::command_line::AUTOSSH_ENVIRONMENT;
use crate::bastion::tunnel_name::TunnelName;

/// A tunnel as the service runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTunnel {
    pub id: TunnelName,
    pub user: String,
    pub autossh: PathBuf,
    pub ssh: PathBuf,
    pub forward: Forward,
    /// Where ssh and autossh write what they have to say.
    pub log: PathBuf,
    /// Whether it is to have a view of the file system of its own; where that is not said, it keeps what it has.
    pub has_own_mounts: Option<bool>,
}

#[derive(Template)]
#[template(path = "tunnel.env", escape = "none")]
struct TunnelFile<'a> {
    marker: &'a str,
    id: TunnelName,
    target: String,
    server: &'a str,
    remote_port: &'a str,
    user: &'a str,
    program: &'a str,
    arguments: String,
    environment: Vec<(&'static str, String)>,
}

impl ServiceTunnel {
    /// What autossh reads from its environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment: Vec<(&str, String)> = AUTOSSH_ENVIRONMENT
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        environment.push(("AUTOSSH_LOGFILE", self.log.to_string_lossy().into_owned()));
        environment.push(("AUTOSSH_PATH", self.ssh.to_string_lossy().into_owned()));
        let for_ssh = self.forward.environment();
        environment.extend(for_ssh.map(|(name, value)| (name, value.to_owned())));
        environment
    }

    /// The content of the tunnel's file.
    ///
    /// # Errors
    /// A value holds a character that a shell or systemd would not take literally.
    pub fn render(&self) -> Result<String> {
        let arguments = self.forward.autossh_arguments(&self.log);
        let program = self.autossh.to_string_lossy();
        let environment = self.environment();
        let values = environment.iter().map(|(_, value)| value.as_str());
        for value in values
            .chain(arguments.iter().map(String::as_str))
            .chain([self.user.as_str(), &program])
        {
            check_literal(value)?;
        }
        let file = TunnelFile {
            marker: MARKER,
            id: self.id,
            target: format!("{}:{}", self.forward.target_host, self.forward.target_port),
            server: &self.forward.server_host,
            remote_port: &self.forward.remote_port,
            user: &self.user,
            program: &program,
            arguments: arguments.join(" "),
            environment,
        };
        file.render().context("cannot render the tunnel's file")
    }
}

/// Whether the user's folder can stand in a tunnel's file.
pub fn check_home(layout: &Layout) -> Result<()> {
    check_literal(&layout.user_dir().to_string_lossy())
}

/// Whether a service can run something as this user.
///
/// # Errors
/// The name holds a character that a shell or systemd would not take literally, as directories give them:
/// a backslash, a blank, a letter beyond ASCII.
pub fn check_user(name: &str) -> anyhow::Result<()> {
    check_literal(name)
}

/// Whether a shell and systemd take this for itself.
pub(super) fn is_literal(value: &str) -> bool {
    let is_literal = |c: char| c.is_ascii_alphanumeric() || "/._-+@:=,[]%".contains(c);
    !value.is_empty() && value.chars().all(is_literal)
}

fn check_literal(value: &str) -> Result<()> {
    ensure!(
        is_literal(value),
        Failure::new(
            format!("{value:?} contains a character that is not allowed in a service file"),
            "use a user whose name and home folder hold only letters, digits and . _ - + @ /",
        )
    );
    Ok(())
}

#[cfg(test)]
pub(crate) fn example(home: &str) -> ServiceTunnel {
    use crate::bastion::ssh::{Way, client};

    ServiceTunnel {
        id: "bi.example.com-7".parse().unwrap(),
        user: "ada".into(),
        autossh: "/usr/bin/autossh".into(),
        ssh: "/usr/bin/ssh".into(),
        log: format!("{home}/.holistics/logs/tunnel-7.log").into(),
        has_own_mounts: None,
        forward: Forward {
            way: Way::Direct,
            ciphers: client::ciphers(),
            private_key: format!("{home}/.holistics/id_rsa").into(),
            known_hosts: format!("{home}/.holistics/known_hosts").into(),
            host_key_alias: Some("bi.example.com-7".into()),
            host_keys: Vec::new(),
            server_user: "tunnel".into(),
            server_host: "tunnel.example.com".into(),
            server_port: "50022".into(),
            remote_port: "20001".into(),
            target_host: "db.internal".into(),
            target_port: "5432".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_directory_is_told_before_a_service_needs_it() {
        check_user("ann@corp.example").unwrap();
        for name in ["CORP\\ann", "ann smith", "andré", ""] {
            let error = check_user(name).unwrap_err().to_string();
            assert!(
                error.contains("is not allowed in a service file"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_file_of_a_tunnel() {
        insta::assert_snapshot!(example("/home/ada").render().unwrap());
    }

    #[test]
    fn a_home_folder_that_a_shell_would_split_or_run_is_refused() {
        for home in [
            "/home/ada lovelace",
            "/home/$(id)",
            "/home/a\"b",
            "/home/a\nb",
        ] {
            assert!(example(home).render().is_err(), "{home}");
        }
    }
}
