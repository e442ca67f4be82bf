//! Registering an init script to start at boot, with the host's own tool.

use anyhow::Result;
use std::path::PathBuf;

use super::SERVICE_NAME;
use crate::bastion::host::{Command, Host, HostExt as _};
use crate::bastion::layout::Layout;

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
    let command = tool(
        host,
        layout,
        &["-f", SERVICE_NAME, "remove"],
        &["--del", SERVICE_NAME],
    );
    if let Some(command) = command {
        host.expect(&command)?;
    }
    Ok(())
}

/// The command of [`register`], where the host has a tool for it.
pub(super) fn register_command(host: &dyn Host, layout: &Layout) -> Option<Command> {
    tool(
        host,
        layout,
        &[SERVICE_NAME, "defaults"],
        &["--add", SERVICE_NAME],
    )
}

fn tool(
    host: &dyn Host,
    layout: &Layout,
    update_rc: &[&str],
    chkconfig: &[&str],
) -> Option<Command> {
    if !layout.is_system_wide() {
        return None;
    }
    let command = if host.which("update-rc.d").is_some() {
        Command::new("update-rc.d").args(update_rc.iter().copied())
    } else if host.which("chkconfig").is_some() {
        Command::new("chkconfig").args(chkconfig.iter().copied())
    } else {
        return None;
    };
    Some(command.with_authority(layout.system_authority()))
}
