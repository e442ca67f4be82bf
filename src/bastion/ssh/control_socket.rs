//! A running ssh master, spoken to through its control socket.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;

use crate::bastion::failure::Failure;
use crate::bastion::host::{Authority, Command, Host, HostExt};

/// The longest path a Unix socket may have, less the suffix ssh adds while it makes one.
const LONGEST_SOCKET_PATH: usize = 104 - 18;

/// How often a master is asked to end.
const ATTEMPTS: u32 = 3;
/// How long ssh may take to answer on its own socket.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Fails early where ssh would fail late and unclearly.
pub fn check_length(socket: &Path) -> anyhow::Result<()> {
    ensure!(
        socket.as_os_str().len() <= LONGEST_SOCKET_PATH,
        Failure::new(
            format!(
                "the path {} is too long for a control socket",
                socket.display()
            ),
            "use a user whose home folder has a shorter path",
        )
    );
    Ok(())
}

/// Whether a master answers on the socket.
pub fn is_alive(host: &dyn Host, socket: &Path) -> anyhow::Result<bool> {
    if !host.exists(socket) {
        return Ok(false);
    }
    Ok(host.run(&control(socket, "check"))?.success())
}

/// Ends the master, and removes the socket that one killed with -9 would leave: a master started
/// on a stale socket runs without control and reports success.
pub fn end(host: &dyn Host, socket: &Path) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        // ssh removes the socket when it goes; one that is dead has left it.
        if !is_alive(host, socket)? {
            break;
        }
        host.run(&control(socket, "exit"))?;
    }
    ensure!(
        !is_alive(host, socket)?,
        Failure::new(
            format!("the ssh process behind {} does not exit", socket.display()),
            "end it by hand (`pgrep -af ssh` shows it), then run the same command again",
        )
    );
    host.remove_file(socket, Authority::User)
}

fn control(socket: &Path, request: &str) -> Command {
    Command::new("ssh")
        .args(["-F", "none", "-S"])
        .path(socket)
        .args(["-O", request, "master"])
        .timeout(ANSWER_TIMEOUT)
}
