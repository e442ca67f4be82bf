//! The end of a tunnel, and of what all tunnels share. What cannot be taken away is told and stays in the
//! receipt; everything else goes all the same.

use std::time::Duration;

use super::{Outcome, Step, StepName, enrollment};
use crate::bastion::change::UndoReason;
use crate::bastion::control_plane::ControlPlane;
use crate::bastion::failure::{Failure, is_interruption};
use crate::bastion::host::{Command, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Scope, TunnelRecord};
use crate::bastion::run::{Problem, Run, StepContext, Unfinished};
use crate::bastion::service::{self, ServiceState};
use crate::bastion::tunnel_name::TunnelName;

/// How long a tunnel's processes may take to end once its service has stopped it.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const END_PAUSE: Duration = Duration::from_millis(100);

/// One tunnel.
pub struct RemoveTunnel {
    pub tunnel: TunnelName,
    /// The control plane that has to be told; none where it cannot be or need not be.
    pub client: Option<ControlPlane>,
    pub reason: UndoReason,
}

impl Step for RemoveTunnel {
    fn name(&self) -> StepName {
        StepName::Removal
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.tunnel)
    }

    fn summary(&self) -> String {
        format!("Remove tunnel {}", self.tunnel)
    }

    fn is_transactional(&self) -> bool {
        true
    }

    /// The service lets go of the tunnel before the control plane forgets it: should this run end in
    /// between, the next one still knows both.
    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let run = &mut *work.run;
        let whose = format!("tunnel {}", self.tunnel);
        let record = run.receipt.tunnels.get(&self.tunnel).cloned();
        let mut problems = run.undo_recorded(self.scope(), self.reason, &whose)?;
        if problems.is_empty()
            && let Some(record) = &record
        {
            problems.extend(remains(run, self.tunnel, record)?);
        }
        if let Some(client) = &self.client
            && let Err(error) = client.delete_tunnel(run.host, self.tunnel)
        {
            let error = error.with_advice();
            if is_interruption(&error) {
                return Err(error);
            }
            let what = format!("{whose}, telling the control plane");
            problems.push(Problem::new(&what, &error));
        }
        if !problems.is_empty() {
            return Err(Unfinished(problems).into());
        }
        run.drop_tunnel(self.tunnel)?;
        Ok(Outcome::Changed(format!("tunnel {} is gone", self.tunnel)))
    }
}

/// What is left of a tunnel that was taken away, as far as this host shows it.
fn remains(run: &Run, tunnel: TunnelName, record: &TunnelRecord) -> anyhow::Result<Vec<Problem>> {
    let mut left = Vec::new();
    let layout = &run.layout;
    let files = [
        layout.tunnel_file(tunnel),
        layout.tunnel_log(tunnel),
        layout.control_socket(tunnel),
    ];
    for file in files.iter().filter(|file| run.host.exists(file)) {
        left.push(Failure::new(
            format!("{} is still there", file.display()),
            format!("look at it, and remove it: `sudo rm {}`", file.display()),
        ));
    }
    if let Some(init) = run.receipt.init {
        let state = service::manager(init)?.status(run.host, layout, tunnel)?;
        if state == ServiceState::Running {
            left.push(Failure::new(
                "the service manager still runs it",
                "stop it with the service manager's own commands, then run the same command again",
            ));
        }
    }
    for (number, words) in processes_that_stay(run, record)? {
        left.push(Failure::new(
            format!("process {number} still runs: {words}"),
            format!("end it with `kill {number}`, then run the same command again"),
        ));
    }
    let whose = format!("tunnel {tunnel}, after its removal");
    let problem = |failure: Failure| Problem::new(&whose, &failure.into());
    Ok(left.into_iter().map(problem).collect())
}

/// The processes that are still there when those that were told to end have had their time.
fn processes_that_stay(run: &Run, record: &TunnelRecord) -> anyhow::Result<Vec<(String, String)>> {
    let host = run.host;
    let deadline = host.uptime() + END_TIMEOUT;
    loop {
        let left = processes(host, &run.layout, record)?;
        if left.is_empty() || host.uptime() >= deadline {
            return Ok(left);
        }
        run.ui.progress("waiting for its processes to end");
        host.sleep(END_PAUSE)?;
    }
}

/// Processes of this user's that carry the tunnel's port with its key.
fn processes(
    host: &dyn Host,
    layout: &Layout,
    record: &TunnelRecord,
) -> anyhow::Result<Vec<(String, String)>> {
    let Some(enrolled) = &record.enrolled else {
        return Ok(Vec::new());
    };
    let forward = format!("127.0.0.1:{}:", enrolled.remote_port);
    let server = format!("@{}", enrolled.server.host);
    let folder = layout.user_dir().to_string_lossy().into_owned();
    // A host without ps has nobody to ask; its service manager has answered.
    if host.which("ps").is_none() {
        return Ok(Vec::new());
    }
    let list = Command::new("ps").args(["-A", "-ww", "-o", "pid=,args="]);
    let said = host.expect(&list)?.stdout;
    Ok(said
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(_, words)| {
            [&forward, &server, &folder]
                .iter()
                .all(|sign| words.contains(*sign))
        })
        .map(|(number, words)| (number.to_owned(), words.trim().to_owned()))
        .collect())
}

/// What all tunnels of this user share: pinned keys while one is left, else everything.
pub struct RemoveShared {
    pub reason: UndoReason,
}

impl Step for RemoveShared {
    fn name(&self) -> StepName {
        StepName::Removal
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        "Remove what no tunnel needs any more".to_owned()
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let run = &mut *work.run;
        if !run.receipt.tunnels.is_empty() {
            enrollment::write_known_hosts(run)?;
            return Ok(Outcome::AlreadyPresent("other tunnels need it".to_owned()));
        }
        let problems = run.undo_recorded(Scope::Host, self.reason, "the service")?;
        if problems.is_empty() {
            Ok(Outcome::Changed("nothing is left".to_owned()))
        } else {
            Err(Unfinished(problems).into())
        }
    }
}
