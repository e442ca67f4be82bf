//! How ssh gets to the tunnel server where it does not connect by itself: a file of settings with a proxy
//! command, and a private script where the proxy asks for a login.

use anyhow::Context as _;

use super::{Outcome, PlannedCommand, Proofs, Step, StepName};
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, CommandError, Effect, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Scope;
use crate::bastion::run::StepContext;
use crate::bastion::ssh::proxy_command::{self, ProxyCommand};
use crate::bastion::ssh::{Forward, Way};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::way_out::{self, Program, WayOut};
use crate::bastion::web_proxy::Proxy;

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
            WayOut::Proxy(proxy, _) => format!(
                "Have ssh connect through the proxy {proxy} of {}",
                proxy.variable
            ),
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
        const WHAT: &str = "the way to the tunnel server";
        let Some((name, port)) = way_out::address(&self.preview) else {
            if self.way != WayOut::Direct {
                proofs.could_not_see(WHAT, "the control plane has not told its address yet");
            }
            return Ok(());
        };
        match &self.way {
            // The temporary tunnel proves that.
            WayOut::Direct => {}
            WayOut::Proxy(proxy, _) => {
                proofs.saw(format!(
                    "the tunnel server answers at {name}:{port} through the proxy {proxy}"
                ));
            }
            WayOut::Command(_) if host.which("ssh").is_none() => {
                proofs.could_not_see(WHAT, "ssh is about to be installed, and tries it then");
            }
            WayOut::Command(command) => {
                self.try_way(host, Way::Command(command.clone()))?;
                proofs.saw(format!(
                    "the tunnel server answers at {name}:{port} through the proxy command"
                ));
            }
        }
        Ok(())
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
            self.try_way(work.host(), Way::Settings(settings))?;
        }
        let record = work.run.receipt.tunnels.get_mut(&self.tunnel);
        let record = record.context("the tunnel is not in the receipt")?;
        let is_as_before = record.proxy_command == command;
        record.proxy_command = command;
        work.run.save()?;
        let said = match &self.way {
            WayOut::Direct => "directly".to_owned(),
            WayOut::Command(_) => "through the proxy command".to_owned(),
            WayOut::Proxy(proxy, _) => format!("through the proxy {proxy}"),
        };
        Ok(if is_as_before {
            Outcome::AlreadyPresent(said)
        } else {
            Outcome::Changed(said)
        })
    }
}

impl WayOutStep {
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
                    shell_words::quote(login)
                );
                work.write_file(&script, content.as_bytes(), 0o600, Authority::User)?;
                format!("/bin/sh {} %h %p", proxy_command::word(&script))
            }
        };
        line.parse().map_err(anyhow::Error::msg)
    }

    fn try_way(&self, host: &dyn Host, way: Way) -> anyhow::Result<()> {
        if way_out::address(&self.preview).is_none() {
            return Ok(());
        }
        let forward = Forward {
            way,
            ..self.preview.clone()
        };
        let Err(error) = proxy_command::greeting(host, &forward) else {
            return Ok(());
        };
        if error.stops_the_run() {
            return Err(error.into());
        }
        let said = match error {
            CommandError::Status { stderr, .. } => stderr,
            error => error.to_string(),
        };
        let Forward {
            server_host,
            server_port,
            ..
        } = &self.preview;
        Err(Failure::new(
            format!("no SSH server answers through the way to {server_host}:{server_port}: {said}"),
            "try that command by hand until it shows \"SSH-2.0-…\", and give it with --proxy-command (or none, for \
             the direct way); then run the same command again",
        )
        .into())
    }
}
