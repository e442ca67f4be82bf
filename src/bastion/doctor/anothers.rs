//! Another user's tunnel, as far as root can tell without that user's key and token.

use super::check::{Checks, Finding, Outcome, Subject};
use super::database;
use super::installation::{boot, cannot_ask, processes, service_state, writable_by_others};
use super::log::{self, Up};
use crate::bastion::facts::Init;
use crate::bastion::failure::Interrupted;
use crate::bastion::host::{Command, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::service::{self, InstalledTunnel, ServiceManager};

/// Looks at its user's account, its files, its service, its processes, its log and its database.
pub fn examine(
    checks: &mut Checks,
    tunnel: &InstalledTunnel,
    layout: &Layout,
    init: Init,
) -> Result<(), Interrupted> {
    let (id, user) = (tunnel.name, &tunnel.user);
    let subject = Subject::shared(format!("Tunnel {id} of {user} ({id:?})")).of(id);
    let manager = service::manager(init);
    let with = |look: &dyn Fn(&dyn ServiceManager) -> anyhow::Result<Finding>| match &manager {
        Ok(manager) => look(manager.as_ref()).unwrap_or_else(|error| cannot_ask(&error)),
        Err(error) => cannot_ask(error),
    };
    checks.run("account", &subject, "", |host| account(host, tunnel))?;
    checks.run("files", &subject, "", |host| {
        with(&|manager| Ok(files(host, manager, layout, tunnel)))
    })?;
    checks.run("service-boot", &subject, "the service manager", |host| {
        with(&|manager| boot(host, manager, layout, id, Some(init)))
    })?;
    // Whether it is up is not known; what its log says is a reason only for one that does not run.
    let said = log::examine(checks.host, tunnel.home(), &tunnel.log, Up::No);
    let running = checks.run("service", &subject, "the service manager", |host| {
        with(&|manager| service_state(host, manager, layout, id, &said))
    })?;
    let processes = checks.run("processes", &subject, "", |host| {
        processes(host, tunnel.remote_port, tunnel.user_dir(), true)
    })?;
    let is_down = running == Outcome::Fail || processes == Outcome::Fail;
    checks.run("log", &subject, "", |host| {
        if is_down {
            said
        } else {
            log::examine(host, tunnel.home(), &tunnel.log, Up::Unknown)
        }
    })?;
    let (target, port) = (tunnel.target_host.as_str(), tunnel.target_port);
    database::examine(checks, &subject, target, port, None)?;
    for name in ["setup", "server-key", "target", "tunnel"] {
        checks.run(name, &subject, "", |_| {
            Finding::skip(format!(
                "it takes {user}'s receipt, key or token: run `holistics-tunnel doctor {id}` as {user}"
            ))
        })?;
    }
    Ok(())
}

/// Whether its user still has an account.
fn account(host: &dyn Host, tunnel: &InstalledTunnel) -> Finding {
    let user = &tunnel.user;
    let id = Command::new("id").args(["-u", "--", user]);
    match host.run(&id) {
        Ok(output) if output.success() => {
            Finding::pass(format!("{user} is user {}", output.stdout.trim()))
        }
        Ok(_) => Finding::fail(
            format!("this host has no user {user} any more, so the tunnel cannot start again"),
            format!(
                "remove it with `holistics-tunnel uninstall-tunnel {}`, as root",
                tunnel.name
            ),
        ),
        Err(error) => Finding::skip(error.to_string()),
    }
}

/// Whether the files that root's service manager obeys are there, and root's alone.
fn files(
    host: &dyn Host,
    manager: &dyn ServiceManager,
    layout: &Layout,
    tunnel: &InstalledTunnel,
) -> Finding {
    for path in manager.paths(layout, tunnel.name) {
        let wrong = if host.exists(&path) {
            writable_by_others(host, &path)
        } else {
            Some("it is not there".to_owned())
        };
        if let Some(wrong) = wrong {
            return Finding::fail(
                format!("{}: {wrong}", path.display()),
                format!(
                    "`holistics-tunnel update-tunnel {}` writes it anew, run as {}",
                    tunnel.name, tunnel.user
                ),
            );
        }
    }
    Finding::pass("they are there, and root alone can change them")
}
