//! The tunnel that lives while setup runs: it proves that the line works before a service relies on
//! it, and lets "Test connection" run in the browser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::{Outcome, PlannedCommand, Proofs, Step, StepName};
use crate::bastion::change::{Change, UndoReason};
use crate::bastion::copies;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt as _, Pauses};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Receipt, Scope, TunnelRecord};
use crate::bastion::run::{Run, StepContext};
use crate::bastion::ssh::{Forward, Way, client, control_socket, proof, trial};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::ProblemKind;

/// How long ssh may take to connect, prove itself and have the port.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the control plane may take to see a session that ssh reports as connected.
const SEEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest pause until it is asked again.
const SEEN_PAUSE: Duration = Duration::from_millis(200);

pub struct TemporaryTunnel {
    pub layout: Layout,
    pub tunnel: TunnelName,
    /// The command line as far as it is known before enrollment.
    pub preview: Forward,
}

impl Step for TemporaryTunnel {
    fn name(&self) -> StepName {
        StepName::TemporaryTunnel
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.tunnel)
    }

    fn summary(&self) -> String {
        "Open a temporary tunnel and have the control plane confirm it".to_owned()
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        vec![ssh(&self.preview, &self.layout.control_socket(self.tunnel)).into()]
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        let place = control_socket::find_place(host, &self.layout, self.tunnel)?;
        proofs.saw(place.to_string());
        match self.preview.way {
            Way::Direct => proof::prove(host, &self.preview, "", proofs),
            // The step of the way out proves another one.
            Way::Command(_) | Way::Settings(_) => Ok(()),
        }
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let Some(forward) = self.ensure_up(work.run)? else {
            return Ok(Outcome::AlreadyPresent(
                "the tunnel of an earlier run is up".to_owned(),
            ));
        };
        confirm(work.run, self.tunnel)?;
        Ok(Outcome::Changed(format!(
            "port {} of {}",
            forward.remote_port, forward.server_host
        )))
    }
}

impl TemporaryTunnel {
    /// Opens the tunnel unless it is up, and returns how it was opened. So the wait for the browser survives
    /// a dropped line.
    pub fn ensure_up(&self, run: &mut Run) -> anyhow::Result<Option<Forward>> {
        let host = run.host;
        let record = run.receipt.tunnels.get(&self.tunnel);
        for socket in record.map(sockets).unwrap_or_default() {
            if control_socket::is_alive(host, &socket)? {
                return Ok(None);
            }
        }
        let forward = enrolled_forward(host, &run.receipt, &self.layout, self.tunnel)?;
        // What is left of a dead one goes first: a master started on its socket runs without control.
        end(run, self.tunnel)?;
        let place = control_socket::find_place(host, &self.layout, self.tunnel)?;
        run.context(self.scope(), self.name())
            .record(Change::MasterStarted {
                socket: place.socket.clone(),
                folder: place.folder.clone(),
            })?;
        control_socket::make_folder(host, &place)?;
        open(host, &forward, &place.socket)?;
        Ok(Some(forward))
    }
}

fn ssh(forward: &Forward, socket: &Path) -> Command {
    let log = log_beside(socket);
    forward
        .ssh(forward.master_arguments(socket, &log))
        .timeout(CONNECT_TIMEOUT)
        // `ssh -f` of OpenSSH 8.4 keeps its outputs open as long as the tunnel lives; 9.2 does not.
        .said_to(&log)
}

fn open(host: &dyn Host, forward: &Forward, socket: &Path) -> anyhow::Result<()> {
    if host.run(&ssh(forward, socket))?.success() {
        return Ok(());
    }
    let said = host.read_if_present(&log_beside(socket))?;
    let said = said.unwrap_or_default();
    Err(explain(&String::from_utf8_lossy(&said), forward).into())
}

/// What a master has said.
fn log_beside(socket: &Path) -> PathBuf {
    socket.with_extension("log")
}

/// The command line of an enrolled tunnel.
pub fn enrolled_forward(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    tunnel: TunnelName,
) -> anyhow::Result<Forward> {
    let record = receipt
        .tunnels
        .get(&tunnel)
        .context("the tunnel is not in the receipt")?;
    let enrolled = record
        .enrolled
        .as_ref()
        .context("the tunnel is not enrolled")?;
    let key_type = receipt.key_type.context("the receipt names no key pair")?;
    Ok(Forward {
        way: match record.proxy_command {
            Some(_) => Way::Settings(layout.ssh_config(tunnel)),
            None => Way::Direct,
        },
        ciphers: client::ciphers_of(host)?,
        private_key: layout.private_key(key_type),
        known_hosts: layout.known_hosts(),
        host_key_alias: tunnel.host_key_alias(),
        host_keys: enrolled.server.host_keys.clone(),
        server_user: enrolled.server.user.clone(),
        server_host: enrolled.server.host.clone(),
        server_port: enrolled.server.port.to_string(),
        remote_port: enrolled.remote_port.to_string(),
        target_host: record.target_host.clone(),
        target_port: record.target_port.to_string(),
    })
}

/// Has the control plane confirm that this tunnel's own session listens.
fn confirm(run: &Run, tunnel: TunnelName) -> anyhow::Result<()> {
    let client = run.client(tunnel)?;
    let deadline = run.host.uptime() + SEEN_TIMEOUT;
    let mut pauses = Pauses::up_to(SEEN_PAUSE);
    loop {
        let error = match client.tunnel_up(run.host) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let may_come = error.is_transient() || error.kind() == Some(ProblemKind::TunnelDown);
        if !may_come || run.host.uptime() >= deadline {
            return Err(error.with_advice());
        }
        run.host.sleep(pauses.next())?;
    }
}

/// Turns ssh's words into what failed and what to do.
fn explain(said: &str, forward: &Forward) -> Failure {
    let Forward {
        server_host,
        server_port,
        remote_port,
        ..
    } = forward;
    let server = format!("{server_host}:{server_port}");
    let has = |sign: &str| said.contains(sign);
    // What ssh says of its control socket; the network has no part in it.
    let is_local = ["mux listener", "unix_listener", "ControlPath too long"];
    let failure = if is_local.into_iter().any(has) {
        Failure::new(
            "ssh cannot make its control socket on this host; the tunnel server has no part in it",
            "look at what ssh said, and whether a policy of this host (SELinux, AppArmor) keeps it from making \
             sockets; then run the same command again",
        )
    } else if has("Host key verification failed") || has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        trial::mismatch(&server)
    } else if has(copies::REFUSED) {
        Failure::new(
            format!("the tunnel server refused remote port {remote_port}"),
            "another live session of this key holds it, for instance on a copy of this machine: stop it \
             there (`ps aux | grep autossh`), then run the same command again",
        )
    } else if has("Permission denied") {
        Failure::new(
            format!("{server} does not accept this host's key"),
            "it may have been revoked: look at the data source in the browser",
        )
    } else if has("Could not resolve hostname") {
        Failure::new(
            format!("the name {server_host} cannot be resolved on this host"),
            "check the host's DNS (`getent hosts NAME`), then run the same command again",
        )
    } else if forward.way != Way::Direct {
        Failure::new(
            format!("the tunnel server {server} cannot be reached through the proxy command"),
            "look at the proxy; then run the same command again, with another --proxy-command if need be",
        )
    } else {
        Failure::new(
            format!("the tunnel server {server} cannot be reached"),
            format!(
                "allow outbound TCP from this host to {server_host} port {server_port} in the firewall, then \
                 run the same command again"
            ),
        )
    };
    let last_lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let shown = last_lines[last_lines.len().saturating_sub(3)..].join("; ");
    if shown.is_empty() {
        failure
    } else {
        failure.because(format!("ssh said: {shown}"))
    }
}

/// The control sockets of a tunnel's temporary tunnels: one at most, unless a run was killed.
pub fn sockets(record: &TunnelRecord) -> Vec<PathBuf> {
    let changes = record.steps.iter().flat_map(|step| &step.changes);
    changes
        .filter_map(|change| match change {
            Change::MasterStarted { socket, .. } => Some(socket.clone()),
            _ => None,
        })
        .collect()
}

/// Ends the temporary tunnel of a tunnel, if there is one.
pub fn end(run: &mut Run, tunnel: TunnelName) -> anyhow::Result<()> {
    let (scope, step) = (Scope::Tunnel(tunnel), StepName::TemporaryTunnel);
    for change in run.changes_of(scope, step) {
        change.undo(run, scope, UndoReason::Rollback)?;
        run.context(scope, step).forget(step, &change)?;
    }
    Ok(())
}

/// Ends a temporary tunnel by its control socket, and takes its log away.
pub fn end_master(host: &dyn Host, socket: &Path) -> anyhow::Result<()> {
    control_socket::end(host, socket).context("the temporary tunnel cannot be ended")?;
    host.remove_file(&log_beside(socket), Authority::User)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::plan::Target;
    use crate::bastion::ssh::KeyType;

    #[test]
    fn the_server_is_not_blamed_for_a_socket_that_ssh_cannot_make() {
        let layout = Layout::new(&*ScriptedHost::new(), Path::new("/"));
        let forward = Target::unknown(&layout, KeyType::Ed25519).forward;
        let told = |said| explain(said, &forward).to_string();
        for said in [
            "unix_listener: cannot bind to path /home/ada/x.sock.Uq: Operation not permitted",
            "muxserver_listen: link mux listener /home/ada/x.sock.Uq => /home/ada/x.sock: Operation not permitted",
        ] {
            assert!(told(said).contains("cannot make its control socket"));
        }
        // It goes on without one, and what comes then has another reason.
        let said = "ControlSocket /x already exists, disabling multiplexing\nConnection refused";
        assert!(told(said).contains("cannot be reached"));
    }
}
