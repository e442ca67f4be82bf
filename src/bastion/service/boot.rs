//! Registering an init script to start at boot, with the host's own tool.

use anyhow::Result;
use std::path::PathBuf;

use super::SERVICE_NAME;
use crate::bastion::host::{Command, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::steps::PlannedCommand;

/// Where the links are that start scripts at boot: Debian's and, on older hosts, Red Hat's.
const RUNLEVELS: [&str; 4] = ["rc2.d", "rc3.d", "rc4.d", "rc5.d"];

pub(super) fn is_registered(host: &dyn Host, layout: &Layout) -> bool {
    let starts = |name: &String| name.starts_with('S') && name.ends_with(SERVICE_NAME);
    let folders = RUNLEVELS.iter().flat_map(|runlevel| {
        ["etc", "etc/rc.d"].map(|parent| PathBuf::from(parent).join(runlevel))
    });
    folders
        .map(|folder| layout.system(&folder.to_string_lossy()))
        .any(|folder| {
            host.list(&folder)
                .is_ok_and(|names| names.iter().any(starts))
        })
}

/// Has the script start at boot. Under a prefix, there is no boot.
pub(super) fn register(host: &dyn Host, layout: &Layout) -> Result<()> {
    if let Some(command) = register_command(host, layout) {
        host.expect(&command)?;
    }
    Ok(())
}

/// Whether the script has to be there when its registration is taken back: chkconfig reads it, while
/// update-rc.d gives the other scripts their former numbers back only if this one is gone.
pub(super) fn reads_the_script(host: &dyn Host) -> bool {
    host.which("update-rc.d").is_none()
}

pub(super) fn unregister(host: &dyn Host, layout: &Layout) -> Result<()> {
    if let Some(command) = found(host, unregister_tools(layout)) {
        host.expect(&command)?;
    }
    Ok(())
}

/// The command of [`register`], where the host has a tool for it.
pub(super) fn register_command(host: &dyn Host, layout: &Layout) -> Option<Command> {
    found(host, register_tools(layout))
}

/// What the plan says of [`register`].
pub(super) fn register_commands(layout: &Layout) -> impl Iterator<Item = PlannedCommand> {
    planned(register_tools(layout))
}

/// What the plan says of [`unregister`].
pub(super) fn unregister_commands(layout: &Layout) -> impl Iterator<Item = PlannedCommand> {
    planned(unregister_tools(layout))
}

fn register_tools(layout: &Layout) -> Vec<Command> {
    tools(
        layout,
        &[SERVICE_NAME, "defaults"],
        &["--add", SERVICE_NAME],
    )
}

fn unregister_tools(layout: &Layout) -> Vec<Command> {
    tools(
        layout,
        &["-f", SERVICE_NAME, "remove"],
        &["--del", SERVICE_NAME],
    )
}

/// One for each tool; none under a prefix, where there is no boot.
fn tools(layout: &Layout, update_rc: &[&str], chkconfig: &[&str]) -> Vec<Command> {
    if !layout.is_system_wide() {
        return Vec::new();
    }
    [("update-rc.d", update_rc), ("chkconfig", chkconfig)]
        .map(|(tool, arguments)| {
            Command::new(tool)
                .args(arguments.iter().copied())
                .with_authority(layout.system_authority())
        })
        .into()
}

fn found(host: &dyn Host, tools: Vec<Command>) -> Option<Command> {
    let mut tools = tools.into_iter();
    tools.find(|tool| host.which(&tool.program).is_some())
}

fn planned(tools: Vec<Command>) -> impl Iterator<Item = PlannedCommand> {
    let tools = tools.into_iter();
    tools.map(|tool| PlannedCommand::from(tool).only("whichever this host has"))
}
