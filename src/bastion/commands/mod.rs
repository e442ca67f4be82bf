//! What each command does, one file each. They tie the parts together and decide the exit code.

mod completions;
mod doctor;
#[cfg(test)]
mod in_memory;
mod list;
mod logs;
mod man;
mod manual;
mod others;
mod plan;
mod questions;
#[cfg(test)]
mod root_view;
mod rotate_key;
mod run;
mod service;
mod setup;
mod status;
mod token;
mod tunnels;
mod uninstall;
mod update_tunnel;
#[cfg(test)]
mod walk;

use std::rc::Rc;

use anyhow::{Context as _, ensure};

use super::cli::{Cli, Command, PlanOptions};
use super::facts::{Facts, Init};
use super::failure::{Exit, Failure, OneLine, exit_of};
use super::host::real::RealHost;
use super::host::{self, Host, HostExt as _, RunControl as _, User, own_name};
use super::layout::Layout;
use super::receipt::Receipt;
use super::service::{self as services, ForeignScript};
use super::settings::Settings;
use super::ssh::Forward;
use super::steps::{Step, planned};
use super::tunnel_name::TunnelName;
use super::ui::{Event, Style, Ui};

/// Runs a command; everything it has to say is said when this returns.
pub fn run(cli: Cli) -> Exit {
    let json = match &cli.command {
        Command::Setup(command) => command.json,
        Command::UninstallTunnel(command) => command.json,
        Command::UpdateTunnel(command) => command.json,
        Command::RotateKey(command) => command.json,
        // The others print one JSON document, and their errors as text.
        Command::Plan(_)
        | Command::Service(_)
        | Command::List(_)
        | Command::Status(_)
        | Command::Doctor(_)
        | Command::Logs(_)
        | Command::Run(_)
        | Command::Manual(_)
        | Command::Completions(_)
        | Command::Man(_) => false,
    };
    let host = match RealHost::new() {
        Ok(host) => host,
        Err(error) => {
            let exit = exit_of(&error);
            Ui::new(json, false, true).failed(&error, exit, None);
            return exit;
        }
    };
    let style = Style::detect(&host, cli.global.no_color);
    let ui = Ui::with_style(style, json, cli.global.quiet).called(own_name(&host));
    let ui = Rc::new(ui);
    if cli.global.verbose {
        let ui = Rc::clone(&ui);
        host.trace_commands(move |command, outcome| {
            ui.show(&Event::Trace { command, outcome });
        });
    }
    let result = begin_log(&host, &cli.command).and_then(|()| match &cli.command {
        Command::Setup(command) => setup::run(&host, &ui, command),
        Command::Plan(command) => plan::run(&host, command),
        Command::UninstallTunnel(command) => uninstall::run(&host, &ui, command),
        Command::UpdateTunnel(command) => update_tunnel::run(&host, &ui, command),
        Command::RotateKey(command) => rotate_key::run(&host, &ui, command),
        Command::List(command) => list::run(&host, command),
        Command::Status(command) => status::run(&host, command),
        Command::Doctor(command) => doctor::run(&host, command, cli.global.quiet),
        Command::Manual(command) => manual::run(&host, command),
        Command::Service(command) => service::run(&host, &ui, command),
        Command::Completions(command) => completions::run(command),
        Command::Man(command) => man::run(&host, command),
        Command::Logs(command) => logs::run(&host, command),
        Command::Run(command) => run::run(&host, command),
    });
    match result {
        Ok(exit) => {
            host.log_line(&format!("ended with exit status {}", exit as i32));
            exit
        }
        Err(error) => {
            let exit = exit_of(&error);
            let message = OneLine(&error);
            host.log_line(&format!(
                "ended with exit status {}: {message}",
                exit as i32
            ));
            ui.failed(&error, exit, host.log().finish().as_deref());
            exit
        }
    }
}

/// Begins the log of a command that changes this host.
fn begin_log(host: &dyn Host, command: &Command) -> anyhow::Result<()> {
    let (run, file) = match command {
        Command::Setup(command) if !command.dry_run => ("setup", &command.log_file),
        Command::UninstallTunnel(command) => ("uninstall-tunnel", &command.log_file),
        Command::UpdateTunnel(command) if !command.dry_run => ("update-tunnel", &None),
        Command::RotateKey(command) if !command.dry_run => ("rotate-key", &None),
        _ => return Ok(()),
    };
    host.log()
        .begin(run, host.now(), file.as_deref())
        .with_context(|| {
            let file = file.as_deref().unwrap_or(std::path::Path::new(""));
            Failure::usage(
                format!("cannot write the log file {}", file.display()),
                "give another place with --log-file; nothing was changed",
            )
        })?;
    let user = &host.user().name;
    let version = env!("CARGO_PKG_VERSION");
    host.log_line(&format!(
        "holistics-tunnel {version} {run}, by {user} on {}",
        host.hostname()
    ));
    Ok(())
}

/// The tunnels belong to an ordinary user; with sudo in front, everything would land in the wrong
/// home folder, or run as root.
fn refuse_sudo(user: &User) -> anyhow::Result<()> {
    let Some(caller) = user.sudo_user.as_deref().filter(|_| user.uid == 0) else {
        return Ok(());
    };
    ensure!(
        caller == "root",
        Failure::usage(
            "holistics-tunnel does not run under sudo: the tunnels belong to an ordinary user",
            format!(
                "run the same command as {caller}, without sudo; single commands ask for root themselves"
            ),
        )
    );
    Ok(())
}

/// Makes sure that these steps can have root's rights, where one of them needs them.
fn acquire_root<'s>(
    host: &dyn Host,
    purpose: &str,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>>,
) -> anyhow::Result<()> {
    let mut privileged = steps
        .into_iter()
        .filter(|step| step.needs_root())
        .peekable();
    if privileged.peek().is_none() {
        return Ok(());
    }
    host.acquire_root(purpose, &planned::root_commands(host, privileged))
}

fn settings(options: &PlanOptions, wait: std::time::Duration) -> anyhow::Result<Settings> {
    ensure!(
        options.prefix.is_absolute(),
        Failure::usage(
            "--prefix needs a path that begins with /",
            "give the folder's whole path"
        )
    );
    Ok(Settings {
        key_type: options.key_type,
        init: options.init.init(),
        wait,
        prefix: options.prefix.clone(),
        autossh_source: options.autossh_source.clone().unwrap_or_default(),
        proxy_command: options.proxy_command.clone(),
        enable_epel: options.enable_epel,
    })
}

/// A service of somebody else's under our service's name, which has to make room.
fn foreign_service(
    host: &dyn Host,
    facts: &Facts,
    settings: &Settings,
    layout: &Layout,
    receipt: Option<&Receipt>,
) -> anyhow::Result<Option<ForeignScript>> {
    match super::plan::init(facts, settings, receipt)? {
        Init::None => Ok(None),
        init => services::manager(init)?.foreign(host, layout),
    }
}

/// What shows before anything is promised that the service can start this tunnel here.
fn rehearsals(
    host: &dyn Host,
    init: Init,
    layout: &Layout,
    tunnel: TunnelName,
    forward: &Forward,
) -> anyhow::Result<Vec<host::Command>> {
    match init {
        Init::None => Ok(Vec::new()),
        init => {
            let trial = services::Trial::of(host, layout, tunnel, forward);
            services::manager(init)?.rehearsals(host, layout, &trial)
        }
    }
}

/// `user@host`, for the public key.
fn key_comment(host: &dyn Host) -> String {
    format!("{}@{}", host.user().name, host.hostname())
}
