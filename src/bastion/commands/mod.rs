//! What each command does, one file each. They tie the parts together and decide the exit code.

mod list;
mod manual;
mod plan;
mod rotate_key;
mod service;
mod setup;
mod status;
mod token;
mod tunnels;
mod uninstall;
mod update_tunnel;

use anyhow::ensure;

use super::cli::{Cli, Command, PlanOptions};
use super::failure::{Exit, Failure, exit_of};
use super::host::real::RealHost;
use super::host::{Host, User};
use super::settings::Settings;
use super::ui::Ui;

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
        | Command::Manual(_) => false,
    };
    let ui = Ui::new(json, cli.global.quiet, cli.global.no_color);
    let result = RealHost::new(cli.global.verbose).and_then(|host| match &cli.command {
        Command::Setup(command) => setup::run(&host, &ui, command),
        Command::Plan(command) => plan::run(&host, command),
        Command::UninstallTunnel(command) => uninstall::run(&host, &ui, command),
        Command::UpdateTunnel(command) => update_tunnel::run(&host, &ui, command),
        Command::RotateKey(command) => rotate_key::run(&host, &ui, command),
        Command::List(command) => list::run(&host, command),
        Command::Status(command) => status::run(&host, command),
        Command::Manual(command) => manual::run(&host, command),
        Command::Service(command) => service::run(&host, command),
    });
    match result {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit_of(&error);
            ui.failed(&error, exit);
            exit
        }
    }
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
            "sudo in front of holistics-tunnel is refused: the tunnels run as an ordinary user",
            format!(
                "run the same command as {caller}, without sudo; single commands ask for root themselves"
            ),
        )
    );
    Ok(())
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
        enable_epel: options.enable_epel,
    })
}

/// `user@host`, for the public key.
fn key_comment(host: &dyn Host) -> String {
    format!("{}@{}", host.user().name, host.hostname())
}
