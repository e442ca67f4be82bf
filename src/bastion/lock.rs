//! One run at a time that changes this user's tunnels.

use anyhow::{Context as _, bail};

use super::failure::Failure;
use super::host::lock_file::FileLock;
use super::host::{Host, HostExt as _, LockAttempt};
use super::layout::Layout;
use super::steps::directory;

/// Before the number of the process in the line that a holder leaves.
const PROCESS: &str = "process ";

/// Held while it lives. The file stays; its lock goes with the process, however that ends.
pub struct Lock {
    _file: Option<FileLock>,
}

/// Refuses to begin while another run is at work, so that nobody answers questions in vain. Nothing is
/// made or held.
pub fn refuse_a_second_run(host: &dyn Host, layout: &Layout) -> anyhow::Result<()> {
    if host.exists(&layout.lock()) {
        acquire(host, layout)?;
    }
    Ok(())
}

/// Takes the lock, in `~/.holistics`, which is made if it is missing.
pub fn acquire(host: &dyn Host, layout: &Layout) -> anyhow::Result<Lock> {
    directory::ensure_private(host, layout)?;
    let path = layout.lock();
    let attempt = host
        .lock(&path, &holder(host))
        .with_context(|| format!("cannot take the lock {}", path.display()))?;
    match attempt {
        LockAttempt::Taken(file) => Ok(Lock { _file: file }),
        LockAttempt::HeldBy(holder) => bail!(is_held_by(&holder)),
    }
}

/// Says who holds a lock, for whoever comes next.
pub fn holder(host: &dyn Host) -> String {
    format!(
        "holistics-tunnel {} of {}, {PROCESS}{}, since {}",
        host.log().run(),
        host.user().name,
        std::process::id(),
        host.now().strftime("%Y-%m-%d %H:%M:%S UTC")
    )
}

fn is_held_by(holder: &str) -> Failure {
    let process: String = holder
        .split_once(PROCESS)
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
        .unwrap_or_default();
    let next = if process.is_empty() {
        "wait until it is done, then run the same command again".to_owned()
    } else {
        format!(
            "wait until it is done, or stop it with `kill {process}`, which lets it clean up; then run the same command again"
        )
    };
    Failure::new(
        format!("another holistics-tunnel command is running: {holder}"),
        next,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_work_can_be_ended_by_the_number_that_is_shown() {
        let failure =
            is_held_by("holistics-tunnel setup, process 4711, since 2026-01-02 03:04:05 UTC");
        assert!(failure.what.ends_with("03:04:05 UTC"));
        assert!(failure.next.contains("`kill 4711`"));
        assert!(!is_held_by("").next.contains("kill"));
    }
}
