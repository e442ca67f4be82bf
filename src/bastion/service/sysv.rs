//! SysV init: `/etc/init.d/h_autossh` and one pid file for each tunnel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use askama::Template;

use super::shared::{self, SharedFile, pid_dir};
use super::trial::{self, LINE, Trial};
use super::{
    Action, AtBoot, ForeignScript, MARKER, ServiceManager, ServiceState, ServiceTunnel,
    StartFailure, boot, foreign,
};
use crate::bastion::change::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, CommandError, Host, HostExt, HostLock, Output};
use crate::bastion::layout::Layout;
use crate::bastion::run::StepContext;
use crate::bastion::steps::PlannedCommand;
use crate::bastion::tunnel_name::TunnelName;
use crate::shell;

/// The script waits up to 5 s for a tunnel to end before it kills it.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Sysv;

#[derive(Template)]
#[template(path = "h_autossh.init", escape = "none")]
struct InitScript<'a> {
    marker: &'a str,
    tunnels_dir: String,
    pid_dir: String,
}

impl Sysv {
    fn script_path(layout: &Layout) -> PathBuf {
        foreign::script_path(layout)
    }

    pub fn script(layout: &Layout) -> Result<String> {
        let script = InitScript {
            marker: MARKER,
            tunnels_dir: shell::word(&layout.tunnels_dir().to_string_lossy()).into_owned(),
            pid_dir: shell::word(&pid_dir(layout).to_string_lossy()).into_owned(),
        };
        script.render().context("cannot render the init script")
    }

    fn shared(layout: &Layout) -> Result<[SharedFile; 1]> {
        Ok([SharedFile {
            path: Self::script_path(layout),
            content: Self::script(layout)?,
            mode: 0o755,
        }])
    }

    /// Puts what is shared in place, and returns whether the script was missing or different.
    fn put_in_place(lock: &HostLock, host: &dyn Host, layout: &Layout) -> Result<bool> {
        let files = Self::shared(layout)?;
        shared::refuse_foreign(host, layout, &files)?;
        for dir in [pid_dir(layout), layout.tunnels_dir()] {
            shared::make_dir(host, layout, &dir)?;
        }
        shared::write(lock, host, layout, &files)
    }

    fn pid_file(layout: &Layout, tunnel: TunnelName) -> PathBuf {
        pid_dir(layout).join(format!("{}.pid", tunnel.slug()))
    }

    /// What the script has noted of a start that failed.
    fn failure_file(layout: &Layout, tunnel: TunnelName) -> PathBuf {
        pid_dir(layout).join(format!("{}.failure", tunnel.slug()))
    }

    /// Has the script start one tunnel, or all of them. That one of these does not start is told by whoever waits
    /// for it.
    fn call_to_start(
        &self,
        host: &dyn Host,
        layout: &Layout,
        action: &str,
        tunnel: Option<TunnelName>,
        started: &[TunnelName],
    ) -> Result<()> {
        let called = host.expect(&Self::call(layout, action, tunnel));
        if let Err(CommandError::Status { .. }) = called {
            for tunnel in started {
                if self.start_failure(host, layout, *tunnel)?.is_some() {
                    return Ok(());
                }
            }
        }
        called?;
        Ok(())
    }

    fn call(layout: &Layout, action: &str, tunnel: Option<TunnelName>) -> Command {
        Command::new(Self::script_path(layout).to_string_lossy())
            .arg(action)
            .args(tunnel.map(TunnelName::slug))
            .with_authority(layout.system_authority())
            .timeout(SCRIPT_TIMEOUT)
            // Cut short, it would leave a process that begins only after everything was undone.
            .atomic()
    }
}

impl ServiceManager for Sysv {
    fn install_commands(&self, layout: &Layout) -> Vec<PlannedCommand> {
        let mut commands = vec![
            shared::lock_command(layout),
            shared::mkdir_command(layout, pid_dir(layout)),
            shared::mkdir_command(layout, layout.tunnels_dir()),
            shared::write_command(layout, Self::script_path(layout), 0o755),
        ];
        commands.extend(boot::register_commands(layout));
        commands
    }

    fn foreign_stops(&self, layout: &Layout, _foreign: &ForeignScript) -> Vec<Command> {
        vec![Self::call(layout, "stop", None)]
    }

    fn add_commands(
        &self,
        layout: &Layout,
        tunnel: TunnelName,
        _at_boot: AtBoot,
    ) -> Vec<PlannedCommand> {
        vec![
            shared::lock_command(layout),
            shared::write_command(layout, layout.tunnel_file(tunnel), 0o644),
            Self::call(layout, "restart", Some(tunnel)).into(),
        ]
    }

    fn uninstall_commands(&self, layout: &Layout) -> Vec<PlannedCommand> {
        let mut commands = vec![
            shared::lock_command(layout),
            shared::rm_command(layout, Self::script_path(layout)),
            shared::rmdir_command(layout, layout.tunnels_dir()),
            shared::rmdir_command(layout, pid_dir(layout)),
        ];
        commands.extend(boot::unregister_commands(layout));
        commands
    }

    fn remove_commands(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PlannedCommand> {
        let left = [
            Self::pid_file(layout, tunnel),
            Self::failure_file(layout, tunnel),
        ];
        let left = left.map(|file| shared::rm_command(layout, file).only("if a stop has left it"));
        let begin = [
            shared::lock_command(layout),
            Self::call(layout, "stop", Some(tunnel)).into(),
        ];
        let file = shared::rm_command(layout, layout.tunnel_file(tunnel));
        begin.into_iter().chain(left).chain([file]).collect()
    }

    fn check(&self, host: &dyn Host, layout: &Layout) -> Result<()> {
        ensure!(
            !layout.is_system_wide() || !host.exists(Path::new("/run/systemd/system")),
            Failure::usage(
                "this host runs systemd, which supports init scripts badly or not at all",
                "leave --init out, or use --init systemd",
            )
        );
        // Its programs for this are asked for before anything is promised.
        ensure!(
            host.which("setsid").is_some(),
            Failure::new(
                "the init script starts tunnels with `setsid`, which is not installed",
                "install util-linux, then run the same command again",
            )
        );
        Ok(())
    }

    fn install(&self, work: &mut StepContext, foreign: Option<&ForeignScript>) -> Result<bool> {
        let layout = work.layout().clone();
        let host = work.host();
        let lock = self.lock(host, work.run.ui, &layout)?;
        if let Some(foreign) = foreign {
            foreign.move_aside(work, &self.foreign_stops(&layout, foreign))?;
        }
        // There on every host; under a prefix they are this run's own.
        for dir in ["etc", "etc/init.d", "var", "var/run"] {
            work.create_dir(&layout.system(dir), 0o755, layout.system_authority())?;
        }
        shared::refuse_foreign(host, &layout, &Self::shared(&layout)?)?;
        work.record(Change::ServiceInstalled)?;
        let is_changed = Self::put_in_place(&lock, host, &layout)?;
        boot::register(host, &layout)?;
        Ok(is_changed || foreign.is_some())
    }

    fn ensure_shared(&self, lock: &HostLock, host: &dyn Host, layout: &Layout) -> Result<bool> {
        let was_there = host.exists(&Self::script_path(layout));
        if Self::put_in_place(lock, host, layout)? && !was_there {
            boot::register(host, layout)?;
        }
        Ok(!was_there)
    }

    fn write_files(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> Result<bool> {
        let layout = work.layout().clone();
        let (file, content) = (layout.tunnel_file(tunnel.id), tunnel.render()?);
        work.write_file(&file, content.as_bytes(), 0o644, layout.system_authority())
    }

    fn start(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
        is_changed: bool,
        _at_boot: AtBoot,
    ) -> Result<()> {
        let action = if is_changed { "restart" } else { "start" };
        self.call_to_start(host, layout, action, Some(tunnel), &[tunnel])
    }

    fn stop(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<()> {
        if host.exists(&Self::script_path(layout)) {
            host.expect(&Self::call(layout, "stop", Some(tunnel)))?;
        }
        Ok(())
    }

    fn remove_files(
        &self,
        _: &HostLock,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<()> {
        let authority = layout.system_authority();
        // A stop removes them; what a killed one has left would keep the folder.
        for file in [
            Self::pid_file(layout, tunnel),
            Self::failure_file(layout, tunnel),
        ] {
            if host.exists(&file) {
                host.remove_file(&file, authority)?;
            }
        }
        host.remove_file(&layout.tunnel_file(tunnel), authority)
    }

    fn remove_unless_used(
        &self,
        lock: &HostLock,
        host: &dyn Host,
        layout: &Layout,
    ) -> Result<bool> {
        if shared::is_used(host, layout)? {
            return Ok(false);
        }
        let script = Self::script_path(layout);
        let is_there = host.exists(&script);
        if !is_there || shared::is_ours(host, &script)? {
            if is_there && boot::reads_the_script(host) {
                boot::unregister(host, layout)?;
            }
            shared::remove(host, layout, &script)?;
            if !boot::reads_the_script(host) && (is_there || boot::is_registered(host, layout)) {
                boot::unregister(host, layout)?;
            }
        }
        for dir in [layout.tunnels_dir(), pid_dir(layout)] {
            shared::remove_if_empty(host, layout, &dir)?;
        }
        foreign::put_back_what_was_left(lock, host, layout)?;
        Ok(true)
    }

    fn control(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnels: &[TunnelName],
        action: Action,
    ) -> Result<()> {
        let action = action.into_str();
        if !super::is_shared_with_others(self, host, layout)? {
            return self.call_to_start(host, layout, action, None, tunnels);
        }
        for tunnel in tunnels {
            self.call_to_start(host, layout, action, Some(*tunnel), &[*tunnel])?;
        }
        Ok(())
    }

    fn restart_one(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<()> {
        self.call_to_start(host, layout, "restart", Some(tunnel), &[tunnel])
    }

    fn start_failure(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> Result<Option<StartFailure>> {
        let said = host.read_if_present(&Self::failure_file(layout, tunnel))?;
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        if lines.is_empty() || self.status(host, layout, tunnel)? == ServiceState::Running {
            return Ok(None);
        }
        let installed = self.installed(host, layout)?;
        let installed = installed.iter().find(|installed| installed.name == tunnel);
        let user = installed.map_or("", |installed| installed.user.as_str());
        let id = Command::new("id").args(["-u", "--", user]);
        let next = if !host.run(&id)?.success() {
            format!("create the user {user} again")
        } else if said.contains(" cannot be run") {
            "install autossh again with the package manager".to_owned()
        } else {
            format!(
                "do what it says; `sudo {} start {}` tries it",
                Self::script_path(layout).display(),
                tunnel.slug()
            )
        };
        Ok(Some(StartFailure {
            what: "the init script could not start it".to_owned(),
            lines,
            next,
            may_be_mounts: false,
        }))
    }

    fn rehearsals(&self, _: &dyn Host, layout: &Layout, trial: &Trial) -> Result<Vec<Command>> {
        // Where the script is not root's, it starts a tunnel as this program starts everything.
        if layout.system_authority() == Authority::User || trial.user == "root" {
            return Ok(Vec::new());
        }
        let runuser = Command::new("runuser")
            .args(["-s", "/bin/sh", "-c", LINE, &trial.user, "--"])
            .args(trial.programs());
        Ok(vec![runuser.with_authority(Authority::Root)])
    }

    fn rehearsal_failure(
        &self,
        _: &dyn Host,
        _: &Layout,
        trial: &Trial,
        output: &Output,
        _: jiff::Timestamp,
    ) -> Result<Option<StartFailure>> {
        Ok(Some(trial::of_runuser(&trial.user, output)))
    }

    fn status(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> Result<ServiceState> {
        if !host.exists(&Self::script_path(layout)) {
            return Ok(ServiceState::Unknown);
        }
        // Reading the pid file and /proc needs no rights, so status never asks for any.
        let mut command = Self::call(layout, "status", Some(tunnel));
        command.authority = Authority::User;
        Ok(match host.run(&command)?.status {
            0 => ServiceState::Running,
            1 => ServiceState::Dead,
            3 => ServiceState::Stopped,
            _ => ServiceState::Unknown,
        })
    }

    fn paths(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PathBuf> {
        vec![Self::script_path(layout), layout.tunnel_file(tunnel)]
    }

    fn files(
        &self,
        _host: &dyn Host,
        layout: &Layout,
        tunnel: &ServiceTunnel,
    ) -> Result<Vec<(PathBuf, String)>> {
        Ok(vec![
            (Self::script_path(layout), Self::script(layout)?),
            (layout.tunnel_file(tunnel.id), tunnel.render()?),
        ])
    }

    fn starts_at_boot(
        &self,
        host: &dyn Host,
        layout: &Layout,
        _tunnel: TunnelName,
    ) -> Result<Option<bool>> {
        if !layout.is_system_wide() {
            return Ok(None);
        }
        Ok(Some(boot::is_registered(host, layout)))
    }
}
