//! An `/etc/init.d/h_autossh` that is not ours, such as the one the original bash script made.
//!
//! Somebody may rely on its tunnels. So it is shown, and moved aside only after a yes; with our last
//! tunnel it comes back to where it was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{MARKER, SERVICE_NAME, boot, shared};
use crate::bastion::change::Change;
use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, CommandError, Host, HostExt as _, HostLock};
use crate::bastion::layout::Layout;
use crate::bastion::run::StepContext;
use crate::bastion::steps::PlannedCommand;

/// The script may wait for each of its tunnels to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Lines of the script that a person is shown.
const SHOWN_LINES: usize = 12;

/// A script of somebody else's under our service's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignScript {
    pub path: PathBuf,
    /// Where it is kept while ours is in its place.
    pub kept: PathBuf,
    content: String,
}

/// The script that stands where ours would.
pub fn script_path(layout: &Layout) -> PathBuf {
    layout.system("etc/init.d").join(SERVICE_NAME)
}

/// Where a script is kept while ours is in its place.
fn kept_path(layout: &Layout) -> PathBuf {
    layout
        .system("etc")
        .join(format!("{SERVICE_NAME}.replaced"))
}

/// Says that the script there is left to the removal of the last tunnel of anybody, and whether it
/// started at boot.
fn left_path(layout: &Layout) -> PathBuf {
    layout
        .system("etc")
        .join(format!("{SERVICE_NAME}.replaced.left"))
}

const AT_BOOT: &str = "It started at boot.\n";

/// Looks for a script that is not ours.
pub fn find(host: &dyn Host, layout: &Layout) -> Result<Option<ForeignScript>> {
    let path = script_path(layout);
    let Some(content) = host.read_if_present(&path)? else {
        return Ok(None);
    };
    let content = String::from_utf8_lossy(&content).into_owned();
    Ok((!content.contains(MARKER)).then(|| ForeignScript {
        path,
        // Outside of every folder that an init system reads.
        kept: kept_path(layout),
        content,
    }))
}

impl ForeignScript {
    /// What a person has to see before the decision: what it is, and what will become of it.
    pub fn description(&self) -> String {
        let tells = |line: &&str| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with("#!") && !line.starts_with("###")
        };
        let shown: Vec<String> = self
            .content
            .lines()
            .filter(tells)
            .take(SHOWN_LINES)
            .map(|line| format!("    {}", printable(line)))
            .collect();
        format!(
            "There is a service {SERVICE_NAME} already, {}, which holistics-tunnel did not write. It begins:\n\n{}\n\n\
             Its tunnels would be stopped, and it would be moved to {}. With the last tunnel of this \
             setup it comes back.",
            self.path.display(),
            shown.join("\n"),
            self.kept.display()
        )
    }

    /// Whether it can be moved aside.
    ///
    /// # Errors
    /// It could be changed by others than root, who would have to run it; or something stands where
    /// it would be kept.
    pub fn check(&self, host: &dyn Host, layout: &Layout) -> Result<()> {
        let stat = host.stat(&self.path)?;
        let only_root_writes = stat.is_some_and(|stat| stat.uid == 0 && stat.mode & 0o022 == 0);
        ensure!(
            only_root_writes || !layout.is_system_wide(),
            Failure::new(
                format!(
                    "{} is writable by non-root users; refusing to run it as root to stop its tunnels",
                    self.path.display()
                ),
                "look at it, stop its tunnels by hand, remove it, and run the same command again",
            )
        );
        ensure!(
            !host.exists(&self.kept),
            Failure::new(
                format!("{} is there already", self.kept.display()),
                "move it somewhere else, and run the same command again",
            )
        );
        Ok(())
    }

    /// What the plan says of [`ForeignScript::move_aside`].
    pub fn commands(&self, layout: &Layout, stops: Vec<Command>) -> Vec<PlannedCommand> {
        let authority = layout.system_authority();
        let stops = stops.into_iter();
        let stops = stops.map(|stop| PlannedCommand::from(stop.with_authority(authority)));
        stops
            .map(|stop| stop.only("until one succeeds"))
            .chain([rename_command(&self.path, &self.kept, authority).into()])
            .chain(boot::unregister_commands(layout))
            .collect()
    }

    /// What brings it back.
    pub fn put_back_command(&self, layout: &Layout) -> PlannedCommand {
        put_back_command(layout, &self.kept, &self.path)
    }

    /// Stops its tunnels, by the first of these commands that succeeds, and moves it aside; recorded
    /// before, so that it can come back. A script that cannot stop its tunnels is moved all the same:
    /// newer systems run no init scripts at all.
    pub(super) fn move_aside(&self, work: &mut StepContext, stops: &[Command]) -> Result<()> {
        let layout = work.layout().clone();
        let host = work.host();
        self.check(host, &layout)?;
        let authority = layout.system_authority();
        work.record(Change::ServiceReplaced {
            script: self.path.clone(),
            kept: self.kept.clone(),
            at_boot: boot::is_registered(host, &layout),
            authority,
        })?;
        if !is_stopped_by(host, stops, authority)? {
            work.run.ui.note(&format!(
                "{} could not stop its tunnels, and may still run some: `pgrep -a autossh` shows them.",
                self.path.display()
            ));
        }
        if boot::reads_the_script(host) {
            boot::unregister(host, &layout)?;
            rename(host, &self.path, &self.kept, authority)
        } else {
            rename(host, &self.path, &self.kept, authority)?;
            boot::unregister(host, &layout)
        }
    }
}

/// What brings a script back that was moved aside.
pub fn put_back_command(layout: &Layout, kept: &Path, script: &Path) -> PlannedCommand {
    rename_command(kept, script, layout.system_authority()).into()
}

/// Puts a script back that was moved aside. Its tunnels are not started. While a tunnel of anybody is
/// left, it stays aside, for the last one's removal to put back. Returns whether it is back.
pub(super) fn put_back(
    _: &HostLock,
    host: &dyn Host,
    layout: &Layout,
    change: &Change,
) -> Result<bool> {
    let Change::ServiceReplaced {
        script,
        kept,
        at_boot,
        authority,
    } = change
    else {
        return Ok(false);
    };
    if shared::is_used(host, layout)? {
        if host.exists(kept) {
            let at_boot = if *at_boot { AT_BOOT } else { "" };
            let said = format!("{MARKER}.\n{at_boot}");
            shared::put(host, &left_path(layout), &said, 0o644, *authority)?;
        }
        return Ok(false);
    }
    if host.exists(kept) && !host.exists(script) {
        rename(host, kept, script, *authority)?;
    }
    if *at_boot {
        boot::register(host, layout)?;
    }
    Ok(true)
}

/// Puts a script back that another user's removal has left aside.
pub(super) fn put_back_what_was_left(_: &HostLock, host: &dyn Host, layout: &Layout) -> Result<()> {
    let left = left_path(layout);
    let Some(said) = host.read_if_present(&left)? else {
        return Ok(());
    };
    let (kept, script) = (kept_path(layout), script_path(layout));
    let authority = layout.system_authority();
    if host.exists(&kept) && !host.exists(&script) {
        rename(host, &kept, &script, authority)?;
        if String::from_utf8_lossy(&said).contains(AT_BOOT) {
            boot::register(host, layout)?;
        }
    }
    host.remove_file(&left, authority)
}

fn is_stopped_by(
    host: &dyn Host,
    stops: &[Command],
    authority: Authority,
) -> Result<bool, CommandError> {
    for stop in stops {
        let stop = stop.clone().with_authority(authority).timeout(STOP_TIMEOUT);
        match host.run(&stop) {
            Ok(output) if output.success() => return Ok(true),
            Err(error) if error.stops_the_run() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}

fn rename(host: &dyn Host, from: &Path, to: &Path, authority: Authority) -> Result<()> {
    host.expect(&rename_command(from, to, authority))?;
    Ok(())
}

fn rename_command(from: &Path, to: &Path, authority: Authority) -> Command {
    let mv = Command::new("mv").args(["-n", "--"]).path(from).path(to);
    mv.with_authority(authority)
}

/// A line of somebody else's file cannot move the cursor of the person who reads it.
fn printable(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(100)
        .collect()
}
