//! The lock of what all users of a host share, which only root can hold.
//!
//! An ordinary user's run holds it through a shell of root's that keeps the file locked while a pipe
//! of this run is open: across as many commands as it takes, and never longer than the run lives. The
//! file is root's alone, so nobody else can open it, let alone keep it.

use std::any::Any;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::lock_file::{self, FileLock, LockAttempt};
use super::{Authority, Command};
use crate::bastion::failure::{Failure, Interrupted};

/// How long another holder is waited for. What is done under the lock takes some seconds.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether a file that is this user's own is free.
const PAUSE: Duration = Duration::from_millis(100);
/// How long root's shell may take to begin, and to end.
const SLACK: Duration = Duration::from_secs(10);

/// The file, and for how long another holder is waited for: `$1` and `$2`; who takes it is said on standard
/// input, so that the plan can show the command. The file goes with its last holder, so whoever waited looks
/// whether it is still the one that others will find.
const HOLD: &str = concat!(
    r#"umask 077; IFS= read -r holder || exit 1; while :; do exec 9>>"$1" || exit 1; "#,
    r#"flock -n 9 || { echo "waiting $(cat "$1")"; flock -w "$2" 9 || exit 75; }; "#,
    r#"[ /proc/self/fd/9 -ef "$1" ] && break; done; "#,
    r#"echo "$holder" >"$1"; echo held; cat >/dev/null; rm -f "$1""#
);

const HELD: &str = "held";
const WAITING: &str = "waiting ";

/// The lock, which is let go of when this is dropped, or by the kernel when the process ends.
pub struct HostLock(
    #[allow(dead_code, reason = "the lock lasts as long as it is kept")] Box<dyn Any>,
);

impl HostLock {
    /// Held by what lets go of it when it is dropped.
    pub fn new(held: impl Any) -> Self {
        HostLock(Box::new(held))
    }

    /// Where nothing is shared, there is nothing to lock.
    pub fn of_nothing() -> Self {
        Self::new(())
    }
}

/// The command that holds the lock for a user who is not root.
pub fn command(path: &Path) -> Command {
    let limit = LIMIT.as_secs().to_string();
    Command::new("sh")
        .args(["-c", HOLD, "sh"])
        .path(path)
        .arg(limit)
        .with_authority(Authority::Root)
}

/// Takes the lock as a file of this user's own. `waits` is told who has it, once; `pause` waits and is
/// where a run is interrupted.
pub fn take(
    path: &Path,
    holder: &str,
    limit: Duration,
    waits: &dyn Fn(&str),
    pause: &dyn Fn(Duration) -> Result<(), Interrupted>,
) -> anyhow::Result<HostLock> {
    let deadline = Instant::now() + limit;
    let mut is_told = false;
    loop {
        let attempt = lock_file::acquire(path, holder)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        let other = match attempt {
            LockAttempt::Taken(file) => {
                return Ok(HostLock::new(OwnFile {
                    _file: file,
                    path: path.to_owned(),
                }));
            }
            LockAttempt::HeldBy(other) => other,
        };
        if Instant::now() >= deadline {
            return Err(held_too_long(path, &other, limit).into());
        }
        if !std::mem::replace(&mut is_told, true) {
            waits(&other);
        }
        pause(PAUSE)?;
    }
}

/// Root's shell has ended before it waited for the lock or had it; with what was said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotBegun(pub String);

/// Takes the lock through [`command`], given as the words that are to be run.
pub fn take_through(
    words: &[String],
    path: &Path,
    holder: &str,
    waits: &dyn Fn(&str),
    check: &dyn Fn() -> Result<(), Interrupted>,
) -> anyhow::Result<HostLock> {
    let cannot = || format!("cannot lock {}", path.display());
    let (program, arguments) = words.split_first().with_context(cannot)?;
    let mut shell = std::process::Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that Ctrl-C on the terminal does not end it in the middle.
        .process_group(0)
        .spawn()
        .with_context(cannot)?;
    let lines = lines_of(&mut shell).with_context(cannot)?;
    if let Some(input) = &mut shell.stdin {
        // One that has ended at once says why below.
        let _ = writeln!(input, "{holder}");
    }
    // Dropped on the way out, it lets go.
    let mut shell = RootShell(shell);
    let mut other = String::new();
    let deadline = Instant::now() + LIMIT + SLACK;
    loop {
        match lines.recv_timeout(PAUSE) {
            Ok(line) if line == HELD => return Ok(HostLock::new(shell)),
            Ok(line) => {
                if let Some(holder) = line.strip_prefix(WAITING) {
                    other = holder.to_owned();
                    waits(holder);
                }
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => check()?,
            Err(_) if !other.is_empty() => return Err(held_too_long(path, &other, LIMIT).into()),
            Err(_) => {
                check()?;
                return Err(anyhow::Error::new(NotBegun(shell.last_words())).context(cannot()));
            }
        }
    }
}

fn held_too_long(path: &Path, other: &str, limit: Duration) -> Failure {
    let other = if other.is_empty() {
        "another run"
    } else {
        other
    };
    Failure::new(
        format!(
            "another user is still changing the service after {} s: {other}",
            limit.as_secs()
        ),
        format!(
            "wait until it is done, then run the same command again (`sudo cat {}` says who it is)",
            path.display()
        ),
    )
}

/// What the shell prints, line by line.
fn lines_of(shell: &mut Child) -> io::Result<mpsc::Receiver<String>> {
    let output = shell.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

/// A file that goes while it is held; the lock goes with it.
struct OwnFile {
    _file: Option<FileLock>,
    path: PathBuf,
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // What is left would be in nobody's way.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// It ends when its input does.
struct RootShell(Child);

impl RootShell {
    /// What it said before it ended.
    fn last_words(&mut self) -> String {
        let mut said = String::new();
        if let Some(errors) = self.0.stderr.as_mut() {
            let _ = errors.take(4096).read_to_string(&mut said);
        }
        said.trim().to_owned()
    }
}

impl Drop for RootShell {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Root's process cannot be ended, only waited for: whoever comes next then finds the lock free.
        let deadline = Instant::now() + SLACK;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use super::*;
    use crate::shell;

    fn words(path: &Path) -> Vec<String> {
        let command = command(path);
        command.words().into_iter().map(str::to_owned).collect()
    }

    fn through_a_shell(
        path: &Path,
        holder: &str,
        told: &RefCell<Vec<String>>,
    ) -> anyhow::Result<HostLock> {
        let waits = |other: &str| told.borrow_mut().push(other.to_owned());
        take_through(&words(path), path, holder, &waits, &|| Ok(()))
    }

    #[test]
    fn whoever_waits_is_told_for_whom_and_both_ways_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h_autossh.lock");
        let told = RefCell::default();
        let first = through_a_shell(&path, "setup of ada", &told).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "setup of ada\n");

        let waits = |other: &str| told.borrow_mut().push(other.to_owned());
        let pause = |time| {
            std::thread::sleep(time);
            Ok(())
        };
        let soon = Duration::from_millis(300);
        let error = take(&path, "setup of bob", soon, &waits, &pause)
            .err()
            .unwrap();
        assert!(error.to_string().contains("setup of ada"), "{error:#}");
        assert_eq!(*told.borrow(), ["setup of ada"]);

        drop(first);
        let second = take(&path, "setup of bob", soon, &waits, &pause).unwrap();
        let thread = std::thread::spawn({
            let path = path.clone();
            move || {
                let told = RefCell::default();
                let lock = through_a_shell(&path, "setup of carol", &told);
                (lock.map(drop).is_ok(), told.into_inner())
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        assert!(!thread.is_finished(), "two holders");
        drop(second);
        assert_eq!(
            thread.join().unwrap(),
            (true, vec!["setup of bob".to_owned()])
        );
        assert!(!path.exists(), "the file is left");
    }

    #[test]
    fn a_holder_that_is_killed_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h_autossh.lock");
        // The run that holds it is a shell here, which is killed with its end of the pipe.
        let holding = format!(
            "{{ echo a; sleep 60; }} | {} | cat",
            shell::join(words(&path))
        );
        let mut run = std::process::Command::new("sh")
            .args(["-c", &holding])
            .process_group(0)
            .spawn()
            .unwrap();
        while !path.exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let group = nix::unistd::Pid::from_raw(-(run.id() as i32));
        nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL).unwrap();
        run.wait().unwrap();
        let told = RefCell::default();
        through_a_shell(&path, "b", &told).unwrap();
    }

    #[test]
    fn what_the_shell_says_is_passed_on_where_the_lock_cannot_be_had() {
        let told = RefCell::default();
        let nowhere = Path::new("/nonexistent/h_autossh.lock");
        let error = through_a_shell(nowhere, "a", &told).err().unwrap();
        assert!(format!("{error:#}").contains("nonexistent"), "{error:#}");
    }
}
