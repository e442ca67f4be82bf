//! SysV init: `/etc/init.d/h_autossh` and one pid file for each tunnel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use askama::Template;

use super::{
    Action, ForeignScript, MARKER, SERVICE_NAME, ServiceManager, ServiceState, ServiceTunnel, boot,
    foreign,
};
use crate::bastion::change::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Command, Host, HostExt};
use crate::bastion::layout::Layout;
use crate::bastion::run::StepContext;
use crate::bastion::tunnel_name::TunnelName;

/// The script waits up to 5 s for a tunnel to end before it kills it.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(30);

/// SysV init.
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

    fn pid_dir(layout: &Layout) -> PathBuf {
        // `/var/run` is a link to `/run` where there is one, and the only one of the two on old hosts.
        layout.system("var/run").join(SERVICE_NAME)
    }

    fn script(layout: &Layout) -> anyhow::Result<String> {
        let script = InitScript {
            marker: MARKER,
            tunnels_dir: shell_words::quote(&layout.tunnels_dir().to_string_lossy()).into_owned(),
            pid_dir: shell_words::quote(&Self::pid_dir(layout).to_string_lossy()).into_owned(),
        };
        script.render().context("cannot render the init script")
    }

    /// For one tunnel, or for all of them.
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
    fn install_commands(&self, layout: &Layout) -> Vec<String> {
        let mut commands = vec![
            format!("write {}", Self::script_path(layout).display()),
            format!("mkdir {}", layout.tunnels_dir().display()),
        ];
        if layout.is_system_wide() {
            commands.push(format!("register {SERVICE_NAME} to start at boot"));
        }
        commands
    }

    fn add_commands(&self, layout: &Layout, tunnel: TunnelName) -> Vec<String> {
        vec![
            format!("write {}", layout.tunnel_file(tunnel).display()),
            Self::call(layout, "start", Some(tunnel)).to_string(),
        ]
    }

    fn check(&self, host: &dyn Host, layout: &Layout) -> anyhow::Result<()> {
        ensure!(
            !layout.is_system_wide() || !host.exists(Path::new("/run/systemd/system")),
            Failure::usage(
                "systemd runs this host, and reads an init script badly or not at all",
                "leave --init out, or use --init systemd",
            )
        );
        Ok(())
    }

    fn install(
        &self,
        work: &mut StepContext,
        foreign: Option<&ForeignScript>,
    ) -> anyhow::Result<()> {
        let layout = work.layout().clone();
        let authority = layout.system_authority();
        let script = Self::script_path(&layout);
        if let Some(foreign) = foreign {
            foreign.move_aside(work, &[Self::call(&layout, "stop", None)])?;
        }
        for dir in ["etc", "etc/init.d", "var", "var/run"] {
            work.create_dir(&layout.system(dir), 0o755, authority)?;
        }
        work.create_dir(&Self::pid_dir(&layout), 0o755, authority)?;
        work.create_dir(&layout.tunnels_dir(), 0o755, authority)?;
        let enable = boot::register_command(work.host(), &layout);
        let enabled = Change::ServiceEnabled {
            name: SERVICE_NAME.to_owned(),
        };
        // What is recorded first is undone last.
        let is_undone_last = !boot::reads_the_script(work.host());
        if enable.is_some() && is_undone_last {
            work.record(enabled.clone())?;
        }
        work.write_file(&script, Self::script(&layout)?.as_bytes(), 0o755, authority)?;
        if let Some(enable) = enable {
            if !is_undone_last {
                work.record(enabled)?;
            }
            work.host().expect(&enable)?;
        }
        Ok(())
    }

    fn add(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> anyhow::Result<()> {
        let layout = work.layout().clone();
        let file = layout.tunnel_file(tunnel.id);
        let changed = work.write_file(
            &file,
            tunnel.render()?.as_bytes(),
            0o644,
            layout.system_authority(),
        )?;
        work.record(Change::ServiceTunnelStarted)?;
        let action = if changed { "restart" } else { "start" };
        work.host()
            .expect(&Self::call(&layout, action, Some(tunnel.id)))?;
        Ok(())
    }

    fn stop(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> anyhow::Result<()> {
        if host.exists(&Self::script_path(layout)) {
            host.expect(&Self::call(layout, "stop", Some(tunnel)))?;
        }
        Ok(())
    }

    fn govern(
        &self,
        host: &dyn Host,
        layout: &Layout,
        _tunnels: &[TunnelName],
        action: Action,
    ) -> anyhow::Result<()> {
        host.expect(&Self::call(layout, action.as_str(), None))?;
        Ok(())
    }

    fn restart_one(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<()> {
        host.expect(&Self::call(layout, "restart", Some(tunnel)))?;
        Ok(())
    }

    fn status(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<ServiceState> {
        if !host.exists(&Self::script_path(layout)) {
            return Ok(ServiceState::Unknown);
        }
        // Reading the pid file and /proc needs no rights, so status never asks for any.
        let mut command = Self::call(layout, "status", Some(tunnel));
        command.authority = crate::bastion::host::Authority::User;
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
    ) -> anyhow::Result<Vec<(PathBuf, String)>> {
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
    ) -> anyhow::Result<Option<bool>> {
        if !layout.is_system_wide() {
            return Ok(None);
        }
        Ok(Some(boot::is_registered(host, layout)))
    }

    fn disable(&self, host: &dyn Host, layout: &Layout) -> anyhow::Result<()> {
        boot::unregister(host, layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;

    fn tunnel() -> TunnelName {
        "bi.example.com-7".parse().unwrap()
    }

    #[test]
    fn one_tunnel_is_restarted_and_its_siblings_are_not() {
        let host = ScriptedHost::new();
        host.expect(
            "sudo /etc/init.d/h_autossh restart bi.example.com-7",
            0,
            "",
            "",
        );
        let layout = Layout::new(&host, Path::new("/"));
        Sysv.restart_one(&host, &layout, tunnel()).unwrap();
        assert!(host.is_finished());
    }
}
