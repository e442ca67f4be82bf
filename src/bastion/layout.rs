//! Where everything stands: the user's folder and the system's files.

use std::path::{Component, Path, PathBuf};

use super::host::{Authority, Host};
use crate::bastion::tunnel_name::TunnelName;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    home: PathBuf,
    prefix: PathBuf,
    system_authority: Authority,
}

impl Layout {
    /// The paths for this user, with the system's files under `prefix` (`/` on a real host).
    ///
    /// A prefix that the user can write needs no superuser: demos and tests use that.
    pub fn new(host: &dyn Host, prefix: &Path) -> Self {
        let is_root_folder = prefix == Path::new("/");
        let system_authority = if !is_root_folder && host.is_writable(prefix) {
            Authority::User
        } else {
            Authority::Root
        };
        Layout {
            home: host.user().home.clone(),
            prefix: prefix.to_owned(),
            system_authority,
        }
    }

    pub fn user_dir(&self) -> PathBuf {
        self.home.join(".holistics")
    }

    /// Whether it is `~/.holistics` or one of its folders, which we made and empty ourselves.
    pub fn is_own_folder(&self, path: &Path) -> bool {
        [self.user_dir(), self.logs_dir(), self.run_dir()].contains(&path.to_owned())
    }

    /// Whether it is a key that tunnels use, or its public half.
    pub fn is_key(&self, path: &Path) -> bool {
        super::ssh::KeyType::ALL
            .iter()
            .any(|key| path.with_extension("") == self.private_key(*key))
    }

    pub fn private_key(&self, key_type: super::ssh::KeyType) -> PathBuf {
        self.user_dir().join(key_type.file_name())
    }

    /// The private key that is to take the present one's place, while it does.
    pub fn next_key(&self) -> PathBuf {
        self.user_dir().join("next_key")
    }

    /// The private key that is being replaced, until the new one is proved.
    pub fn former_key(&self) -> PathBuf {
        self.user_dir().join("former_key")
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.user_dir().join("known_hosts")
    }

    /// ssh's settings for a tunnel whose server is reached through a proxy command.
    pub fn ssh_config(&self, tunnel: TunnelName) -> PathBuf {
        self.user_dir()
            .join(format!("ssh_config-{}", tunnel.slug()))
    }

    /// The script that is such a command, where the proxy asks for a login: it holds the password.
    pub fn proxy_script(&self, tunnel: TunnelName) -> PathBuf {
        self.user_dir().join(format!("proxy-{}.sh", tunnel.slug()))
    }

    /// What was done to this host.
    pub fn receipt(&self) -> PathBuf {
        self.user_dir().join("receipt.json")
    }

    /// Held while a setup or a removal runs.
    pub fn lock(&self) -> PathBuf {
        self.user_dir().join("lock")
    }

    /// Where the bootstrap script puts the program.
    pub fn bin_dir(&self) -> PathBuf {
        self.user_dir().join("bin")
    }

    pub fn logs_dir(&self) -> PathBuf {
        self.user_dir().join("logs")
    }

    pub fn build_dir(&self) -> PathBuf {
        self.user_dir().join("build")
    }

    /// What the build of autossh said.
    pub fn build_log(&self) -> PathBuf {
        self.logs_dir().join("autossh-build.log")
    }

    /// A compiled autossh: where root alone can write, since root's service manager runs it.
    pub fn compiled_autossh(&self) -> PathBuf {
        self.system("usr/local/bin/autossh")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.user_dir().join("run")
    }

    pub fn tunnel_log(&self, tunnel: TunnelName) -> PathBuf {
        self.logs_dir()
            .join(format!("tunnel-{}.log", tunnel.slug()))
    }

    /// What was in that log before it was begun anew; `templates/h_autossh.init` and
    /// `h_autossh@.service` say when.
    pub fn former_tunnel_log(&self, tunnel: TunnelName) -> PathBuf {
        self.logs_dir()
            .join(format!("tunnel-{}.log.1", tunnel.slug()))
    }

    /// Where a temporary tunnel's control socket goes, if it works there.
    pub fn control_socket(&self, tunnel: TunnelName) -> PathBuf {
        self.run_dir().join(format!("{}.sock", tunnel.slug()))
    }

    /// Where the system's files stand: `/`, or the folder given with `--prefix`.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Whether the system's files stand where the host's own service manager finds them.
    pub fn is_system_wide(&self) -> bool {
        self.prefix == Path::new("/")
    }

    /// A path below the prefix, given without its leading slash.
    pub fn system(&self, relative: &str) -> PathBuf {
        self.prefix.join(relative)
    }

    /// Held while what all users of the host share is changed. Only root can make files there.
    pub fn host_lock(&self) -> PathBuf {
        // `/var/run` is a link to `/run` where there is one. A prefix has neither at first.
        let dir = if self.is_system_wide() { "var/run" } else { "" };
        self.system(dir).join("h_autossh.lock")
    }

    /// One small file for each tunnel.
    pub fn tunnels_dir(&self) -> PathBuf {
        self.system("etc/h_autossh")
    }

    pub fn tunnel_file(&self, tunnel: TunnelName) -> PathBuf {
        self.tunnels_dir().join(format!("{}.env", tunnel.slug()))
    }

    /// Whether it is one of the system's files or folders that this program makes, and that root therefore
    /// may take away again.
    pub fn is_system_path(&self, path: &Path) -> bool {
        let Ok(relative) = path.strip_prefix(&self.prefix) else {
            return false;
        };
        let parts: Vec<&str> = relative
            .components()
            .map(|part| match part {
                Component::Normal(name) => name.to_str().unwrap_or("/"),
                _ => "/",
            })
            .collect();
        let is_tunnel = |name: &str, before: &str, after: &str| {
            let name = name
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after));
            name.is_some_and(|name| name.parse::<TunnelName>().is_ok())
        };
        match parts[..] {
            // Folders that were missing, which go again while they are empty.
            ["etc" | "usr" | "var"]
            | ["etc", "init.d"]
            | ["var", "run"]
            | ["usr", "local"]
            | ["usr", "local", "bin"] => true,
            ["etc", "h_autossh" | "h_autossh.replaced"]
            | ["etc", "init.d", "h_autossh"]
            | ["var", "run", "h_autossh"]
            | ["usr", "local", "bin", "autossh"]
            | [
                "etc",
                "systemd",
                "system",
                "h_autossh.service" | "h_autossh@.service",
            ] => true,
            ["etc", "h_autossh", name] => is_tunnel(name, "", ".env"),
            ["etc", "systemd", "system", name]
            | ["etc", "systemd", "system", name, "tunnel.conf"] => {
                is_tunnel(name, "h_autossh@", ".service.d")
            }
            ["Library", "LaunchDaemons", name] => {
                is_tunnel(name, "io.holistics.h_autossh.", ".plist")
            }
            _ => false,
        }
    }

    pub fn system_authority(&self) -> Authority {
        self.system_authority
    }
}
