//! What a removal asks before anything is changed.

use super::own_tunnel;
use super::target::Target;
use crate::bastion::cli::UninstallTunnel;
use crate::bastion::commands::questions::require_yes;
use crate::bastion::failure::Failure;
use crate::bastion::host::Host;

/// Whether to go on at all; `takes_service` says that the user's last tunnel is among them.
pub(super) fn confirm(
    host: &dyn Host,
    command: &UninstallTunnel,
    targets: &[Target],
    takes_service: bool,
) -> anyhow::Result<()> {
    if command.yes {
        return Ok(());
    }
    let names: Vec<&str> = targets
        .iter()
        .map(|target| target.described.as_str())
        .collect();
    let what = if takes_service {
        ", and with it the service"
    } else {
        ""
    };
    let question = match names.as_slice() {
        [] => "Remove what an earlier removal left behind?".to_owned(),
        names => format!("Remove tunnel {}{what}?", names.join(", ")),
    };
    let unasked = Failure::usage(
        "cannot confirm the removal without a terminal",
        "pass --yes to remove without asking; nothing was changed",
    );
    require_yes(host.yes_or_no(&question, false)?, unasked)
}

/// On a copy of a machine, a removal would end the tunnel of the original.
pub(super) fn confirm_copy(
    host: &dyn Host,
    command: &UninstallTunnel,
    targets: &[Target],
) -> anyhow::Result<()> {
    if command.local_only || command.force {
        return Ok(());
    }
    let copied: Vec<&Target> = targets
        .iter()
        .filter(|target| target.copy.is_some())
        .collect();
    let Some(copy) = copied.first().and_then(|target| target.copy.as_ref()) else {
        return Ok(());
    };
    let names = copied.iter().map(|target| target.tunnel.to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    let warning = format!("{copy}: removing tunnel {names} would end it there");
    let question = format!("Note that {warning}. Remove it there, too?");
    let unasked = Failure::usage(
        warning,
        "add --local-only to take its files off this host alone, or --force to end it there, too; nothing was \
         changed",
    );
    require_yes(host.yes_or_no(&question, false)?, unasked)
}

/// Somebody who came to this host through a tunnel cannot come back once it is gone.
pub(super) fn confirm_own_tunnel(
    host: &dyn Host,
    command: &UninstallTunnel,
    targets: &[Target],
) -> anyhow::Result<()> {
    let carries_this_session =
        |target: &&Target| own_tunnel::carries_this_session(host, target.database_port);
    let Some(target) = targets.iter().find(carries_this_session) else {
        return Ok(());
    };
    let warning = format!(
        "This session seems to come through tunnel {}: removing it ends the session, and this host can no longer be reached that way",
        target.tunnel
    );
    // With a yes, the removal comes to its end without its terminal.
    host.ignore_hangup();
    if command.force {
        return Ok(());
    }
    let question = format!("{warning}. Remove it all the same?");
    let unasked = Failure::usage(
        warning,
        "run it from a session that came another way, or add --force; nothing was changed",
    );
    require_yes(host.confirm(&question)?, unasked)
}
