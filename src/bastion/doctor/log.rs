//! The last words in a tunnel's log, and what to do about them.
//!
//! ssh writes no time before its lines, and says nothing when all is well. So a line in the log counts
//! as trouble only while the tunnel is not up.

use std::io;
use std::path::Path;

use super::check::Finding;
use crate::bastion::copies::REFUSED;
use crate::bastion::host::Host;

/// As many bytes as are looked at, from the end.
const BYTES: u64 = 32 * 1024;
/// As many lines as can hold the present trouble.
const RECENT: usize = 20;

/// What ssh writes, and the remedy; a tunnel's number stands for `{id}`.
const TROUBLES: [(&str, &str); 14] = [
    (
        REFUSED,
        "another live session of this key holds the remote port, for instance on a copy of this machine: stop it there \
         (`ps aux | grep autossh`)",
    ),
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "run `holistics-tunnel update-tunnel {id}`, which pins what the control plane announces; if that does not help, ask \
         the vendor whether its tunnel server has a new host key, and pin nothing by hand",
    ),
    (
        "Host key verification failed",
        "run `holistics-tunnel update-tunnel {id}`, which pins what the control plane announces; if that does not help, ask \
         the vendor whether its tunnel server has a new host key, and pin nothing by hand",
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE",
        "run `chmod 600` on the private key in ~/.holistics",
    ),
    (
        "Permission denied",
        "look at the data source in the browser: its key was revoked, or it was deleted",
    ),
    (
        "Could not resolve hostname",
        "look at the name servers in /etc/resolv.conf: the tunnel server's name is not found",
    ),
    (
        "Connection refused",
        "ask the vendor whether the tunnel server runs",
    ),
    (
        "Connection timed out",
        "allow outbound TCP to the tunnel server in the firewall",
    ),
    (
        "Network is unreachable",
        "look at this host's network: it has no route to the tunnel server",
    ),
    (
        "No route to host",
        "look at this host's network and firewall: the tunnel server cannot be reached",
    ),
    (
        "not responding",
        "check whether a firewall between this host and the tunnel server drops idle or long connections",
    ),
    (
        "Connection reset",
        "check whether a firewall on the way to the tunnel server cuts SSH off",
    ),
    (
        "Broken pipe",
        "check whether the line to the tunnel server is stable; autossh connects again by itself",
    ),
    (
        "Connection closed by",
        "ask the vendor: the tunnel server ends the connection",
    ),
];

/// Whether the tunnel is up, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Up {
    /// The tunnel server says so.
    Yes,
    /// It says so, and another machine holds it.
    Elsewhere,
    /// The tunnel server says no.
    No,
    /// Nobody can be asked.
    Unknown,
}

/// The end of a log below this home.
pub fn tail(host: &dyn Host, home: &Path, log: &Path) -> Result<String, String> {
    match host.read_end(home, log, BYTES) {
        Ok(end) => Ok(String::from_utf8_lossy(&end.content).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{} is not there", log.display()))
        }
        Err(error) => Err(format!("{} cannot be read: {error}", log.display())),
    }
}

/// Reads the end of a tunnel's log.
pub fn examine(host: &dyn Host, home: &Path, log: &Path, up: Up) -> Finding {
    match tail(host, home, log) {
        Ok(said) => interpret(&said, up),
        Err(reason) => Finding::skip(reason),
    }
}

fn interpret(said: &str, up: Up) -> Finding {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let recent = &lines[lines.len().saturating_sub(RECENT)..];
    let trouble = recent.iter().rev().find_map(|line| {
        let known = TROUBLES.iter().find(|(sign, _)| line.contains(sign))?;
        Some((*line, known.1))
    });
    match (up, trouble, lines.last()) {
        (_, _, None) => Finding::pass("it is empty, as that of a tunnel without trouble is"),
        (Up::Yes, None, Some(last)) | (Up::No | Up::Elsewhere | Up::Unknown, None, Some(last)) => {
            Finding::pass(format!("no known trouble; its last line: {last}"))
        }
        (Up::Yes, Some((line, _)), _) => {
            Finding::pass(format!("the tunnel is up; its last trouble was: {line}"))
        }
        (Up::No | Up::Elsewhere, Some((line, remedy)), _) => {
            Finding::fail(format!("the last trouble: {line}"), remedy)
        }
        (Up::Unknown, Some((line, _)), _) => Finding::skip(format!(
            "whether the tunnel is up is not known, so this may be old: {line}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::doctor::check::Outcome;

    const LOG_OF_A_COPY: &str = "2026/11/24 02:00:00 autossh[7]: starting ssh (count 3)\n\
        Warning: remote port forwarding failed for listen port 20001\n\
        2026/11/24 02:00:01 autossh[7]: ssh exited with error status 255; restarting ssh\n";

    #[test]
    fn trouble_counts_while_the_tunnel_is_down_and_is_history_once_it_is_up() {
        let down = interpret(LOG_OF_A_COPY, Up::No);
        assert_eq!(down.outcome, Outcome::Fail);
        assert!(down.remedy.unwrap().contains("copy of this machine"));
        assert_eq!(interpret(LOG_OF_A_COPY, Up::Yes).outcome, Outcome::Pass);
        assert_eq!(interpret(LOG_OF_A_COPY, Up::Unknown).outcome, Outcome::Skip);
    }

    #[test]
    fn the_latest_trouble_counts_and_old_ones_do_not() {
        let both = format!("{LOG_OF_A_COPY}tunnel@x: Permission denied (publickey).\n");
        assert!(
            interpret(&both, Up::No)
                .detail
                .contains("Permission denied")
        );
        let long_ago = format!("{LOG_OF_A_COPY}{}", "something else\n".repeat(RECENT));
        assert_eq!(interpret(&long_ago, Up::No).outcome, Outcome::Pass);
        assert_eq!(interpret("", Up::No).outcome, Outcome::Pass);
    }
}
