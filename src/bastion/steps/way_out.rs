//! How ssh gets to the tunnel server where it does not connect by itself: a file of settings with a proxy
//! command, and a private script where the proxy asks for a login.

use anyhow::Context as _;

use super::{Outcome, PlannedCommand, Proofs, Step, StepName};
use crate::bastion::host::{Authority, Effect, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;
use crate::bastion::ssh::proxy_command::{self, ProxyCommand};
use crate::bastion::ssh::{Forward, Way, proof};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::way_out::{Program, WayOut};
use crate::bastion::web_proxy::Proxy;
use crate::shell;

pub struct WayOutStep {
    pub layout: Layout,
    pub tunnel: TunnelName,
    pub way: WayOut,
    /// The command line as far as it is known before enrollment.
    pub preview: Forward,
}

impl Step for WayOutStep {
    fn name(&self) -> StepName {
        StepName::WayOut
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.tunnel)
    }

    fn summary(&self) -> String {
        match &self.way {
            WayOut::Direct => "Have ssh connect to the tunnel server directly again".to_owned(),
            WayOut::Command(command) => format!("Have ssh connect through: {command}"),
            WayOut::Proxy(proxy, _) => {
                format!(
                    "Have ssh connect through the proxy {proxy} {}",
                    proxy.origin()
                )
            }
        }
    }

    fn commands(&self) -> Vec<PlannedCommand> {
        let command = match &self.way {
            WayOut::Direct => return Vec::new(),
            WayOut::Command(command) => command.to_string(),
            WayOut::Proxy(proxy, program) => program.line(program.name(), proxy, "%h", "%p"),
        };
        let write = |path| {
            PlannedCommand::from(Effect::Write {
                path,
                mode: 0o600,
                authority: Authority::User,
            })
        };
        let login = self.login().map(|_| self.layout.proxy_script(self.tunnel));
        let mut commands: Vec<PlannedCommand> = login.map(write).into_iter().collect();
        commands.push(write(self.layout.ssh_config(self.tunnel)));
        commands.push(command.into());
        commands
    }

    fn prove(&self, host: &dyn Host, proofs: &mut Proofs) -> anyhow::Result<()> {
        let try_through = |command: &ProxyCommand, proofs: &mut Proofs| {
            self.try_way(host, Way::Command(command.clone()), proofs)
        };
        match &self.way {
            // The temporary tunnel proves that.
            WayOut::Direct => Ok(()),
            WayOut::Command(command) => try_through(command, proofs),
            WayOut::Proxy(proxy, program) => match host.which(program.name()) {
                Some(path) if proxy.login().is_none() => {
                    let path = proxy_command::word(&path);
                    try_through(&command(program.line(&path, proxy, "%h", "%p"))?, proofs)
                }
                _ => {
                    // Whoever chose it has looked; ssh is tried once it can be.
                    proofs.saw(format!("the tunnel server answers{}", self.through()));
                    Ok(())
                }
            },
        }
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let command = match &self.way {
            WayOut::Direct => None,
            WayOut::Command(command) => Some(command.clone()),
            WayOut::Proxy(proxy, program) => Some(self.lead_through(work, proxy, *program)?),
        };
        if let Some(command) = &command {
            let settings = self.layout.ssh_config(self.tunnel);
            let content = command.settings();
            work.write_file(&settings, content.as_bytes(), 0o600, Authority::User)?;
            // With the very files that the tunnel will use, before anything is promised.
            self.try_way(work.host(), Way::Settings(settings), &mut Proofs::default())?;
        }
        let record = work.run.receipt.tunnels.get_mut(&self.tunnel);
        let record = record.context("the tunnel is not in the receipt")?;
        let is_as_before = record.proxy_command == command;
        record.proxy_command = command;
        work.run.save()?;
        let said = match &self.way {
            WayOut::Direct => "directly".to_owned(),
            _ => self.through().trim().to_owned(),
        };
        Ok(if is_as_before {
            Outcome::AlreadyPresent(said)
        } else {
            Outcome::Changed(said)
        })
    }
}

fn command(line: String) -> anyhow::Result<ProxyCommand> {
    line.parse().map_err(anyhow::Error::msg)
}

impl WayOutStep {
    /// Which way, behind what is said of the tunnel server.
    fn through(&self) -> String {
        match &self.way {
            WayOut::Direct => String::new(),
            WayOut::Command(_) => " through the proxy command".to_owned(),
            WayOut::Proxy(proxy, _) => format!(" through the proxy {proxy}"),
        }
    }

    fn login(&self) -> Option<&str> {
        match &self.way {
            WayOut::Proxy(proxy, _) => proxy.login(),
            WayOut::Direct | WayOut::Command(_) => None,
        }
    }

    /// The command that leads through the proxy, with its script where there is a login: that stands on no
    /// command line.
    fn lead_through(
        &self,
        work: &mut StepContext,
        proxy: &Proxy,
        program: Program,
    ) -> anyhow::Result<ProxyCommand> {
        let name = program.name();
        let path = work
            .host()
            .which(name)
            .with_context(|| format!("{name} is not on PATH"))?;
        let path = proxy_command::word(&path);
        let line = match proxy.login() {
            None => program.line(&path, proxy, "%h", "%p"),
            Some(login) => {
                work.host().log().hide(login);
                let script = self.layout.proxy_script(self.tunnel);
                let line = program
                    .line(&path, proxy, "\"$1\"", "\"$2\"")
                    .replace("%%", "%");
                let content = format!(
                    "# holistics-tunnel: the way through the proxy {proxy}, with its login.\n\
                     NCAT_PROXY_AUTH={}\nexport NCAT_PROXY_AUTH\nexec {line}\n",
                    shell::word(login)
                );
                work.write_file(&script, content.as_bytes(), 0o600, Authority::User)?;
                format!("/bin/sh {} %h %p", proxy_command::word(&script))
            }
        };
        command(line)
    }

    fn try_way(&self, host: &dyn Host, way: Way, proofs: &mut Proofs) -> anyhow::Result<()> {
        let forward = Forward {
            way,
            ..self.preview.clone()
        };
        proof::prove(host, &forward, &self.through(), proofs)
    }
}
