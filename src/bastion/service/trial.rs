//! A tunnel's start before there is the tunnel: its service manager starts the same programs in the same way.

use std::path::PathBuf;

use super::start_failure::StartFailure;
use crate::bastion::host::{Host, Output};
use crate::bastion::layout::Layout;
use crate::bastion::ssh::Forward;
use crate::bastion::steps::autossh::installed;
use crate::bastion::tunnel_name::TunnelName;

/// What a shell is to run, given autossh and ssh.
pub(super) const LINE: &str = r#""$0" -M 0 -V && "$1" -V"#;

/// What is known of a tunnel before it is enrolled.
pub struct Trial {
    pub tunnel: TunnelName,
    pub user: String,
    /// Where its log will be.
    pub logs: PathBuf,
    /// How it will get to the tunnel server, as far as that is known.
    pub forward: Forward,
    autossh: Option<PathBuf>,
    ssh: Option<PathBuf>,
}

impl Trial {
    pub fn of(host: &dyn Host, layout: &Layout, tunnel: TunnelName, forward: &Forward) -> Self {
        Trial {
            tunnel,
            forward: forward.clone(),
            user: host.user().name.clone(),
            logs: layout.logs_dir(),
            autossh: installed::find(host, layout),
            ssh: host.which("ssh"),
        }
    }

    /// autossh and ssh: where they are, or, where they have yet to be installed, under the names by which they are
    /// found then.
    pub(super) fn programs(&self) -> [String; 2] {
        let word = |path: &Option<PathBuf>, name: &str| match path {
            Some(path) => path.to_string_lossy().into_owned(),
            None => name.to_owned(),
        };
        [word(&self.autossh, "autossh"), word(&self.ssh, "ssh")]
    }
}

/// How a trial of `runuser` as the init script calls it failed.
pub(super) fn of_runuser(user: &str, output: &Output) -> StartFailure {
    let lines = output.stderr.lines().chain(output.stdout.lines());
    StartFailure {
        what: format!(
            "an init script could not start it as {user} (`runuser` ended with status {})",
            output.status
        ),
        lines: lines.map(str::to_owned).collect(),
        next: format!("have `runuser -u {user} -- true` succeed as root"),
        may_be_mounts: false,
    }
}
