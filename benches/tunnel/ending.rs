//! Leaves nothing behind, however the bench ends: every process that it started, also those that
//! made themselves independent (PostgreSQL, sshd's sessions), is its descendant, and everything it
//! writes is in one folder. Its network namespaces and devices end with its last process.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};
use tokio::signal::unix::{SignalKind, signal};

use crate::processes::family;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Cleans up when dropped.
pub struct Ending(());

impl Ending {
    /// From now on the end is clean, also after Ctrl-C.
    pub fn arranged() -> anyhow::Result<Self> {
        // Orphans come to us instead of to init. The kernel looks only whether the argument is zero.
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let kinds = [
                    SignalKind::interrupt(),
                    SignalKind::terminate(),
                    SignalKind::hangup(),
                ];
                if let [Ok(mut a), Ok(mut b), Ok(mut c)] = kinds.map(signal) {
                    tokio::select! { _ = a.recv() => {} _ = b.recv() => {} _ = c.recv() => {} }
                    clean_up();
                    std::process::exit(130);
                }
            });
        });
        Ok(Ending(()))
    }

    /// The folder that is removed.
    pub fn remove_folder(&self, folder: PathBuf) {
        let _ = FOLDER.set(folder);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        clean_up();
    }
}

fn clean_up() {
    // Some may be starting others just now.
    for _ in 0..3 {
        for process in family(std::process::id())
            .unwrap_or_default()
            .drain(1..)
            .rev()
        {
            if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
        // Those that are nobody's any more are ours, and would stay as zombies.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
    if let Some(folder) = FOLDER.get() {
        let _ = std::fs::remove_dir_all(folder);
    }
}
