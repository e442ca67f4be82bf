//! `run`: one tunnel in the foreground, for containers and supervisors.
//!
//! This program gives its process to autossh: signals reach autossh itself, and nothing of ours
//! keeps running.

use anyhow::{Context as _, ensure};

use super::{refuse_sudo, tunnels};
use crate::bastion::cli::Run;
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::host::{Command, Host};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Receipt;
use crate::bastion::service::{self, ServiceState};
use crate::bastion::ssh::command_line::foreground_command;
use crate::bastion::ssh::control_socket;
use crate::bastion::steps::autossh::installed;
use crate::bastion::steps::temporary_tunnel::{self, enrolled_forward};
use crate::bastion::tunnel_name::TunnelName;

pub(super) fn run(host: &dyn Host, command: &Run) -> anyhow::Result<Exit> {
    refuse_sudo(host.user())?;
    let (receipt, layout) = tunnels::installed(host)?.with_context(tunnels::none)?;
    let id = tunnels::only(host, Some(&receipt), &command.which)?;
    refuse_a_second_one(host, &receipt, &layout, id)?;
    let command = autossh_command(host, &receipt, &layout, id)?;
    Err(host.exec(&command).into())
}

fn autossh_command(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    id: TunnelName,
) -> anyhow::Result<Command> {
    let forward = enrolled_forward(host, receipt, layout, id).with_context(|| {
        Failure::new(
            format!("the setup of tunnel {id} is not finished"),
            "run the command from the browser again; it continues where it stopped",
        )
    })?;
    let autossh = installed::find(host, layout).with_context(|| {
        Failure::new(
            "autossh is not installed",
            "install the autossh package, or run the command from the browser again",
        )
    })?;
    Ok(foreground_command(&autossh.to_string_lossy(), &forward))
}

/// The tunnel server gives a port to one live session.
fn refuse_a_second_one(
    host: &dyn Host,
    receipt: &Receipt,
    layout: &Layout,
    id: TunnelName,
) -> anyhow::Result<()> {
    let by_service = match receipt.init {
        Some(init) => service::manager(init)?.status(host, layout, id)? == ServiceState::Running,
        None => false,
    };
    ensure!(
        !by_service,
        Failure::usage(
            format!("the service already runs tunnel {id}"),
            "`holistics-tunnel status` shows it; `holistics-tunnel service stop` ends all of the service's tunnels",
        )
    );
    let record = receipt.tunnels.get(&id);
    for socket in record.map(temporary_tunnel::sockets).unwrap_or_default() {
        ensure!(
            !control_socket::is_alive(host, &socket)?,
            Failure::usage(
                format!("a setup is running tunnel {id}"),
                "wait for the setup to finish, or stop it",
            )
        );
    }
    Ok(())
}
