//! A rehearsal beside the units of other tunnels: systemd lets no transient unit have a name of theirs, and only under
//! such a name has a unit what administrators have added to all of them. So an instance is made of the definition that
//! is there, for a moment and in `/run`, and what it is made of goes with it.

use anyhow::Result;

use super::{LIMIT, of_service, program};
use crate::bastion::host::{Authority, Command};
use crate::bastion::service::Trial;
use crate::bastion::service::systemd::units::{Mounts, drop_in};
use crate::shell;

/// Given the unit's name, the command, and the lines of two drop-ins with `--` between them. It tells how the unit
/// ended as `systemd-run --wait` does.
const SCRIPT: &str = r#"d=/run/systemd/system/$0.d; show() { systemctl show --value --property "$1" "$unit"; }; unit=$0; umask 022; trap 'rm -rf "$d"; systemctl daemon-reload' EXIT; mkdir -p "$d" || exit; printf "%s\n" "$1" >"$d/rehearsal"; shift; while [ "$1" != -- ]; do printf "%s\n" "$1"; shift; done >"$d/00-rehearsal.conf"; shift; printf "%s\n" "$@" >"$d/tunnel.conf"; systemctl daemon-reload || exit; systemctl start "$unit" 2>/dev/null && exit; echo "Running as unit: $unit" >&2; cat "$d/said" >&2; code=$(show ExecMainCode) status=$(show ExecMainStatus); echo "Finished with result: $(show Result)" >&2; systemctl reset-failed "$unit"; case $code-$status in [23]-31) echo "status=SYS" >&2; exit 1 ;; [23]-* | *-0) exit 1 ;; esac; exit "$status""#;

/// The first drop-in, which others may overrule: what of the definition is about a tunnel that is there, and lasts.
fn first_drop_in(unit: &str) -> Vec<String> {
    let folder = format!("/run/systemd/system/{unit}.d");
    let limit = LIMIT.as_secs();
    [
        "[Unit]",
        "ConditionPathExists=",
        "[Service]",
        "Type=oneshot",
        "Restart=no",
        "EnvironmentFile=",
        "ExecStartPre=",
        "ExecStart=",
        &format!("ExecStart=/bin/sh {folder}/rehearsal"),
        &format!("TimeoutStartSec={limit}"),
        &format!("StandardOutput=file:{folder}/said"),
        "StandardError=inherit",
    ]
    .map(str::to_owned)
    .to_vec()
}

pub(super) fn command(unit: &str, trial: &Trial, mounts: Mounts) -> Result<Command> {
    let own = drop_in(trial.tunnel, &trial.user, &trial.logs, mounts)?;
    let own = of_service(&own).map(str::to_owned);
    let rehearsed = format!("exec {}", shell::join(program::words(trial)));
    Ok(Command::new("sh")
        .args(["-c", SCRIPT, unit, &rehearsed])
        .args(first_drop_in(unit))
        .args(["--", "[Service]"])
        .args(own.collect::<Vec<_>>())
        .with_authority(Authority::Root))
}
