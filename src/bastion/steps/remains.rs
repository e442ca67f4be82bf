//! The look that ends a removal: what of the tunnel is still on this host.

use std::path::PathBuf;
use std::time::Duration;

use crate::bastion::failure::Failure;
use crate::bastion::host::{Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::processes::{self, Process};
use crate::bastion::receipt::TunnelRecord;
use crate::bastion::run::{Problem, Run};
use crate::bastion::service::{InstalledTunnel, ServiceManager, ServiceState};
use crate::bastion::tunnel_name::TunnelName;

/// How long a tunnel's processes may take to end once its service has stopped it.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const END_PAUSE: Duration = Duration::from_millis(100);

/// A tunnel that should be gone.
pub struct Remains<'a> {
    pub run: &'a Run<'a>,
    pub tunnel: TunnelName,
    /// Whose problem it is, for the report.
    pub whose: String,
}

impl Remains<'_> {
    /// What still runs, as far as this host shows it.
    pub fn running(
        &self,
        manager: Option<&dyn ServiceManager>,
        layout: &Layout,
        signs: Option<&Signs>,
    ) -> anyhow::Result<Vec<Problem>> {
        let mut left = Vec::new();
        if let Some(manager) = manager
            && manager.status(self.run.host, layout, self.tunnel)? == ServiceState::Running
        {
            left.push(self.problem(Failure::new(
                "the service manager still runs it",
                "stop it with the service manager's own commands, then run the same command again",
            )));
        }
        if let Some(signs) = signs {
            for Process { number, words } in self.processes_that_stay(signs)? {
                left.push(self.problem(Failure::new(
                    format!("process {number} still runs: {words}"),
                    format!("end it with `kill {number}`, then run the same command again"),
                )));
            }
        }
        Ok(left)
    }

    /// Which of these files are still there.
    pub fn files(&self, files: &[PathBuf]) -> Vec<Problem> {
        let left = files.iter().filter(|file| self.run.host.exists(file));
        left.map(|file| {
            self.problem(Failure::new(
                format!("{} is still there", file.display()),
                format!("look at it, and remove it: `sudo rm {}`", file.display()),
            ))
        })
        .collect()
    }

    fn problem(&self, failure: Failure) -> Problem {
        let what = format!("{}, after its removal", self.whose);
        Problem::new(&what, &failure.into())
    }

    /// The processes that are still there when those that were told to end have had their time.
    fn processes_that_stay(&self, signs: &Signs) -> anyhow::Result<Vec<Process>> {
        let host = self.run.host;
        let deadline = host.uptime() + END_TIMEOUT;
        loop {
            let left = signs.processes(host)?;
            if left.is_empty() || host.uptime() >= deadline {
                return Ok(left);
            }
            self.run.ui.progress("waiting for its processes to end");
            host.sleep(END_PAUSE)?;
        }
    }
}

/// By what a tunnel's processes are known: all of it stands in their arguments.
pub struct Signs([String; 3]);

impl Signs {
    /// Those of a tunnel of this user's, once it is enrolled.
    pub fn of(layout: &Layout, record: &TunnelRecord) -> Option<Self> {
        let enrolled = record.enrolled.as_ref()?;
        Some(Signs([
            format!("127.0.0.1:{}:", enrolled.remote_port),
            format!("@{}", enrolled.server.host),
            layout.user_dir().to_string_lossy().into_owned(),
        ]))
    }

    /// Those of another user's tunnel.
    pub fn of_another(tunnel: &InstalledTunnel) -> Self {
        Signs([
            format!("127.0.0.1:{}:", tunnel.remote_port),
            format!("@{}", tunnel.server),
            tunnel.user_dir().to_string_lossy().into_owned(),
        ])
    }

    /// The processes that carry them.
    fn processes(&self, host: &dyn Host) -> anyhow::Result<Vec<Process>> {
        let mut processes = processes::all(host)?;
        processes.retain(|process| self.0.iter().all(|sign| process.words.contains(sign)));
        Ok(processes)
    }
}
