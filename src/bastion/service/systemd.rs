//! systemd: `h_autossh.service`, the umbrella, and one instance of `h_autossh@.service` for each
//! tunnel.
//!
//! An instance is wanted by the umbrella and part of it, so start, stop and restart of `h_autossh`
//! reach all of them, and each of them lives and dies alone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use askama::Template;

use super::{
    Action, ForeignScript, MARKER, SERVICE_NAME, ServiceManager, ServiceState, ServiceTunnel,
};
use crate::bastion::change::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt};
use crate::bastion::layout::Layout;
use crate::bastion::run::StepContext;
use crate::bastion::tunnel_name::TunnelName;

/// systemd waits up to 90 s for a unit that does not end; autossh ends at once.
const TIMEOUT: Duration = Duration::from_secs(120);

/// systemd.
pub struct Systemd;

#[derive(Template)]
#[template(path = "h_autossh.service", escape = "none")]
struct Umbrella<'a> {
    marker: &'a str,
}

#[derive(Template)]
#[template(path = "h_autossh@.service", escape = "none")]
struct Instance<'a> {
    marker: &'a str,
    tunnels_dir: String,
    user: &'a str,
    user_dir: String,
}

fn umbrella() -> String {
    format!("{SERVICE_NAME}.service")
}

/// The definition that all instances share.
fn instances() -> String {
    format!("{SERVICE_NAME}@.service")
}

fn instance(tunnel: TunnelName) -> String {
    format!("{SERVICE_NAME}@{}.service", tunnel.slug())
}

fn unit_path(layout: &Layout, unit: &str) -> PathBuf {
    layout.system("etc/systemd/system").join(unit)
}

fn systemctl(action: &str, unit: &str) -> Command {
    Command::new("systemctl")
        .args([action, unit])
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}

fn daemon_reload() -> Command {
    Command::new("systemctl")
        .arg("daemon-reload")
        .with_authority(Authority::Root)
        .timeout(TIMEOUT)
}

/// The two units, which are the same for all tunnels.
fn units(host: &dyn Host, layout: &Layout) -> anyhow::Result<[(String, String); 2]> {
    let instance = Instance {
        marker: MARKER,
        tunnels_dir: layout.tunnels_dir().to_string_lossy().into_owned(),
        user: &host.user().name,
        user_dir: layout.user_dir().to_string_lossy().into_owned(),
    };
    let umbrella_unit = Umbrella { marker: MARKER };
    let render = "cannot render the unit";
    Ok([
        (instances(), instance.render().context(render)?),
        (umbrella(), umbrella_unit.render().context(render)?),
    ])
}

impl ServiceManager for Systemd {
    fn install_commands(&self, layout: &Layout) -> Vec<String> {
        vec![
            format!("write {}", unit_path(layout, &umbrella()).display()),
            format!("write {}", unit_path(layout, &instances()).display()),
            format!("mkdir {}", layout.tunnels_dir().display()),
            daemon_reload().to_string(),
            systemctl("enable", &umbrella()).to_string(),
            systemctl("start", &umbrella()).to_string(),
        ]
    }

    fn add_commands(&self, layout: &Layout, tunnel: TunnelName) -> Vec<String> {
        vec![
            format!("write {}", layout.tunnel_file(tunnel).display()),
            systemctl("enable", &instance(tunnel)).to_string(),
            systemctl("restart", &instance(tunnel)).to_string(),
        ]
    }

    fn check(&self, _host: &dyn Host, layout: &Layout) -> anyhow::Result<()> {
        ensure!(
            layout.is_system_wide(),
            Failure::usage(
                "systemd reads its units from /etc/systemd/system, and --prefix puts them elsewhere",
                "leave --prefix out, or use --init sysv with it",
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
        let tunnels_dir = layout.tunnels_dir();
        let files = units(work.host(), &layout)?;
        // Recorded first and so undone last: systemd has to forget the units once they are gone.
        work.record(Change::UnitsLoaded)?;
        if let Some(foreign) = foreign {
            // Beside a unit of the same name, a script would start a second copy on some hosts.
            let by_itself = Command::new(foreign.path.to_string_lossy()).arg("stop");
            foreign.move_aside(work, &[systemctl("stop", &umbrella()), by_itself])?;
        }
        work.create_dir(&tunnels_dir, 0o755, Authority::Root)?;
        let mut is_new = false;
        for (unit, content) in files {
            let path = unit_path(&layout, &unit);
            is_new |= work.write_file(&path, content.as_bytes(), 0o644, Authority::Root)?;
        }
        if is_new {
            work.host().expect(&daemon_reload())?;
        }
        work.record(Change::ServiceEnabled {
            name: SERVICE_NAME.to_owned(),
        })?;
        work.host().expect(&systemctl("enable", &umbrella()))?;
        work.host().expect(&systemctl("start", &umbrella()))?;
        Ok(())
    }

    fn add(&self, work: &mut StepContext, tunnel: &ServiceTunnel) -> anyhow::Result<()> {
        let file = work.layout().tunnel_file(tunnel.id);
        work.write_file(&file, tunnel.render()?.as_bytes(), 0o644, Authority::Root)?;
        work.record(Change::ServiceTunnelStarted)?;
        let unit = instance(tunnel.id);
        work.host().expect(&systemctl("enable", &unit))?;
        work.host().expect(&systemctl("restart", &unit))?;
        Ok(())
    }

    fn stop(&self, host: &dyn Host, layout: &Layout, tunnel: TunnelName) -> anyhow::Result<()> {
        if !host.exists(&unit_path(layout, &instances())) {
            return Ok(());
        }
        let unit = instance(tunnel);
        host.expect(&systemctl("stop", &unit))?;
        host.expect(&systemctl("disable", &unit))?;
        // Only a unit that has failed needs it, and for any other it fails.
        host.run(&systemctl("reset-failed", &unit))?;
        Ok(())
    }

    fn journal(&self, host: &dyn Host, tunnel: TunnelName, lines: usize) -> Option<Command> {
        host.which("journalctl")?;
        let journalctl = Command::new("journalctl")
            .args(["--unit", &instance(tunnel)])
            .args(["--lines", &lines.to_string()])
            .args(["--no-pager", "--quiet", "--output", "short-iso"]);
        Some(journalctl)
    }

    fn govern(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        _tunnels: &[TunnelName],
        action: Action,
    ) -> anyhow::Result<()> {
        host.expect(&systemctl(action.as_str(), &umbrella()))?;
        Ok(())
    }

    fn restart_one(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<()> {
        host.expect(&systemctl("restart", &instance(tunnel)))?;
        Ok(())
    }

    fn status(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<ServiceState> {
        if !host.exists(&unit_path(layout, &instances())) {
            return Ok(ServiceState::Unknown);
        }
        // Asking needs no rights.
        let mut command = systemctl("is-active", &instance(tunnel));
        command.authority = Authority::User;
        Ok(match host.run(&command)?.stdout.trim() {
            "active" => ServiceState::Running,
            "failed" | "activating" => ServiceState::Dead,
            "inactive" | "deactivating" => ServiceState::Stopped,
            _ => ServiceState::Unknown,
        })
    }

    fn paths(&self, layout: &Layout, tunnel: TunnelName) -> Vec<PathBuf> {
        vec![
            unit_path(layout, &umbrella()),
            unit_path(layout, &instances()),
            layout.tunnel_file(tunnel),
        ]
    }

    fn files(
        &self,
        host: &dyn Host,
        layout: &Layout,
        tunnel: &ServiceTunnel,
    ) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let mut files: Vec<(PathBuf, String)> = units(host, layout)?
            .into_iter()
            .map(|(unit, content)| (unit_path(layout, &unit), content))
            .collect();
        files.push((layout.tunnel_file(tunnel.id), tunnel.render()?));
        Ok(files)
    }

    fn starts_at_boot(
        &self,
        host: &dyn Host,
        _layout: &Layout,
        tunnel: TunnelName,
    ) -> anyhow::Result<Option<bool>> {
        // The umbrella is wanted at boot, and wants the instance.
        for unit in [umbrella(), instance(tunnel)] {
            let mut command = systemctl("is-enabled", &unit);
            command.authority = Authority::User;
            if host.run(&command)?.stdout.trim() != "enabled" {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    fn disable(&self, host: &dyn Host, _layout: &Layout) -> anyhow::Result<()> {
        host.expect(&systemctl("stop", &umbrella()))?;
        host.expect(&systemctl("disable", &umbrella()))?;
        Ok(())
    }

    fn reload(&self, host: &dyn Host) -> anyhow::Result<()> {
        host.expect(&daemon_reload())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bastion::host::scripted::ScriptedHost;

    fn tunnel() -> TunnelName {
        "bi.example.com-7".parse().unwrap()
    }

    #[test]
    fn one_tunnel_is_restarted_and_its_siblings_are_not() {
        let host = ScriptedHost::new();
        host.expect(
            "sudo systemctl restart h_autossh@bi.example.com-7.service",
            0,
            "",
            "",
        );
        let layout = Layout::new(&host, Path::new("/"));
        Systemd.restart_one(&host, &layout, tunnel()).unwrap();
        assert!(host.is_finished());
    }
}
