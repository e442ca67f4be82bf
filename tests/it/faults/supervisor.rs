//! What keeps a tunnel running: it does what systemd does by the installed unit, on a machine that has no systemd.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::bastion::PATH;
use crate::support::machines::Machine;
use crate::support::process::{self, Process};

/// The unit, of which the pause and the environment are taken.
const UNIT: &str = include_str!("../../../templates/h_autossh@.service");

/// How often is looked whether a tunnel's process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Runs a program where names are looked up by a file of the bastion's own.
pub const BY_OWN_NAMES: &str = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;

/// The tunnel's program as the unit runs it: `$0` is the tunnel's file.
const TUNNEL: &str =
    r#"set -a; . "$0"; set +a; set -f; exec "$H_AUTOSSH_PROGRAM" $H_AUTOSSH_ARGUMENTS"#;

/// A tunnel's service. It is off until it is booted.
pub struct Supervised {
    /// The tunnel's file, and its log, by which its processes are known.
    file: PathBuf,
    log: PathBuf,
    names: PathBuf,
    /// Further variables, from the next boot on.
    pub environment: Vec<(&'static str, String)>,
    is_on: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Supervised {
    /// A service for the tunnel of this file, on a machine that looks names up by `names`.
    pub fn new(file: PathBuf, log: PathBuf, names: PathBuf) -> Self {
        Supervised {
            file,
            log,
            names,
            environment: Vec::new(),
            is_on: Arc::default(),
            thread: None,
        }
    }

    /// Starts it on its machine, and keeps it running until the power is cut.
    pub fn boot(&mut self, machine: &Machine) {
        assert!(self.thread.is_none(), "it runs");
        self.is_on = Arc::new(AtomicBool::new(true));
        let is_on = Arc::clone(&self.is_on);
        let (mut command, log) = (self.command(), self.log.clone());
        let _inside = machine.enter();
        self.thread = Some(std::thread::spawn(move || keep(&mut command, &log, &is_on)));
    }

    /// Ends all of it at once, without a word.
    pub fn cut_power(&mut self) {
        self.is_on.store(false, Ordering::SeqCst);
        kill(&self.log);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the supervisor's thread");
        }
    }

    /// Its processes.
    pub fn processes(&self) -> Vec<Process> {
        process::naming(&self.log)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("unshare");
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
        command.envs(unit_environment());
        command.args(["--mount", "sh", "-c", BY_OWN_NAMES]);
        command.arg(&self.names);
        command.arg("env");
        for (name, value) in &self.environment {
            command.arg(format!("{name}={value}"));
        }
        command.args(["sh", "-c", TUNNEL]).arg(&self.file);
        // By this it is found before it has read the tunnel's file.
        command.env("AUTOSSH_LOGFILE", &self.log);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).process_group(0);
        command
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.cut_power();
    }
}

/// `Restart=always`, `RestartSec=`, and `KillMode=control-group`, which is systemd's own.
fn keep(command: &mut Command, log: &Path, is_on: &AtomicBool) {
    assert_eq!(unit_value("Restart"), "always");
    let pause = Duration::from_secs(unit_value("RestartSec").parse().expect("seconds"));
    while is_on.load(Ordering::SeqCst) {
        let mut child = command.spawn().expect("a tunnel's process");
        while child.try_wait().expect("a child's state").is_none() {
            if !is_on.load(Ordering::SeqCst) {
                kill(log);
            }
            std::thread::sleep(LOOK);
        }
        kill(log);
        let ended = Instant::now();
        while ended.elapsed() < pause && is_on.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK);
        }
    }
}

fn kill(log: &Path) {
    for process in process::naming(log) {
        process::signal(&process, Signal::KILL);
    }
}

fn unit_value(key: &str) -> &'static str {
    let mut lines = UNIT.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{key} is not in the unit"))
}

fn unit_environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = UNIT.lines();
    lines.filter_map(|line| line.strip_prefix("Environment=")?.split_once('='))
}
