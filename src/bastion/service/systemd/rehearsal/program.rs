//! What a rehearsed unit runs: all that a tunnel does in it before the tunnel server is shown a key.

use std::time::Duration;

use anyhow::Result;

use super::LIMIT;
use crate::bastion::host::Host;
use crate::bastion::service::{StartFailure, Trial};
use crate::bastion::ssh::trial::{Heard, Stage};
use crate::bastion::way_out;

/// How long ssh may take to connect to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the line ends with where the unit keeps the tunnel from its key or its logs.
const WITHOUT_FILES: i32 = 77;
/// And where it keeps ssh from the tunnel server: as ssh itself ends.
const WITHOUT_SERVER: i32 = 255;

/// Given autossh, ssh, the key, the logs' folder, and what ssh is to be given. ssh itself cannot succeed without a key,
/// so it is looked whether it has met a server, and nobody waits for what it does then: it ends with the unit. systemd
/// puts its own values for what looks like `${NAME}` and `$$`.
const LINE: &str = r#"export SHELL=/bin/sh; "$0" -M 0 -V && "$1" -V || exit; [ -r "$2" ] && [ -w "$3" ] || { ls -ld "$2" "$3" >&2; exit 77; }; ssh=$1; shift 3; [ "$#" != 0 ] || exit 0; { "$ssh" "$@" 2>&1 & } | { while IFS= read -r line; do echo "$line" >&2; case $line in *"remote software version "*) exit 0 ;; esac; done; exit 255; }"#;

/// The words of the rehearsed command.
pub(super) fn words(trial: &Trial) -> Vec<String> {
    let forward = &trial.forward;
    let files = [&forward.private_key, &trial.logs].map(|path| path.to_string_lossy().into_owned());
    let ssh = match way_out::address(forward) {
        Some(_) => forward.greeting_arguments(CONNECT_TIMEOUT),
        None => Vec::new(),
    };
    let shell = ["/bin/sh", "-c", LINE].map(str::to_owned).into_iter();
    shell
        .chain(trial.programs())
        .chain(files)
        .chain(ssh)
        .collect()
}

/// What the unit keeps the tunnel from, where its programs could be started in it and have said this. `drop_ins` are
/// what administrators have added to it.
pub(super) fn hindrance(
    host: &dyn Host,
    trial: &Trial,
    status: i32,
    said: &[&str],
    drop_ins: &[String],
) -> Result<Option<StartFailure>> {
    let (what, lines) = match status {
        WITHOUT_FILES => (
            "the unit keeps it from its key or its logs",
            said.iter().map(|line| (*line).to_owned()).collect(),
        ),
        WITHOUT_SERVER if gets_there(host, trial)? => (
            "ssh does not get to the tunnel server from the unit, while it does outside of it",
            vec![Heard(&said.join("\n")).last_words()],
        ),
        // Not by systemd's fault, and told by the step that needs it.
        _ => return Ok(None),
    };
    let next = match drop_ins {
        [] => {
            "look at what this host keeps services from (systemd's own settings, SELinux, AppArmor)"
                .to_owned()
        }
        _ => format!(
            "correct or remove what was added to the unit: {}",
            drop_ins.join(", ")
        ),
    };
    Ok(Some(StartFailure {
        what: what.to_owned(),
        lines,
        next,
        // What an administrator has set is not to be got round.
        may_be_mounts: status == WITHOUT_FILES && drop_ins.is_empty(),
    }))
}

/// Whether this host's ssh, started by this program, meets a server on the same way now.
fn gets_there(host: &dyn Host, trial: &Trial) -> Result<bool> {
    let forward = &trial.forward;
    let command = forward.ssh(forward.greeting_arguments(CONNECT_TIMEOUT));
    let output = host.run(&command.timeout(LIMIT))?;
    Ok(Heard(&output.stderr).stage() != Stage::Unheard)
}
