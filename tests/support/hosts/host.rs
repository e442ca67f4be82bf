//! A booted host: its power switch, its files, and its users' commands.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::image::Image;
use super::namespace::Namespace;
use super::terminal::Terminal;
use crate::support::process::{self, Finished, Running};
use crate::support::wait;
use crate::support::workspace::Workspace;

/// How long a command may take that has little to do.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

const BOOT: &str = include_str!("boot.sh");
const BOOT_LIMIT: Duration = Duration::from_secs(90);
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(120);
const POWER_CUT_LIMIT: Duration = Duration::from_secs(10);

/// Where the program under test is on every host.
const PROGRAM: &str = "/usr/local/bin/holistics-tunnel";

/// A host. Dropped, it loses its power and its disk.
pub struct Host {
    image: Image,
    /// What systemd-nspawn is told besides: what it must not be able to do.
    confinement: &'static [&'static str],
    program: PathBuf,
    network: PathBuf,
    workspace: PathBuf,
    folder: PathBuf,
    runs: Cell<u32>,
    power: Option<Power>,
}

/// What there is only while a host is on.
struct Power {
    nspawn: Running,
    /// The number of the host's first process, seen from outside.
    init: u32,
}

impl Host {
    /// Boots a fresh host from an image, with this program and this network, confined like this.
    pub fn boot(
        image: Image,
        confinement: &'static [&'static str],
        program: &Path,
        network: &Namespace,
        workspace: &Workspace,
    ) -> Self {
        let mut host = Host {
            image,
            confinement,
            program: program.to_owned(),
            network: network.file(),
            workspace: workspace.path().to_owned(),
            folder: folder(workspace, "host"),
            runs: Cell::new(0),
            power: None,
        };
        host.power_on();
        host
    }

    /// Another machine with a copy of this one's disk, as it is now. It is off.
    pub fn copy(&self, network: &Namespace, workspace: &Workspace) -> Self {
        let copy = Host {
            image: self.image,
            confinement: self.confinement,
            program: self.program.clone(),
            network: network.file(),
            workspace: self.workspace.clone(),
            folder: folder(workspace, "copy"),
            runs: Cell::new(0),
            power: None,
        };
        let mut command = Command::new("cp");
        command.args(["--archive", "--no-target-directory"]);
        command.args([self.disk(), copy.disk()]);
        process::run(&mut command, &copy.logs(), "cp").expect_code(0);
        copy
    }

    /// Switches it on and waits until it is up.
    pub fn power_on(&mut self) {
        assert!(self.power.is_none(), "it is on");
        let nspawn = Running::start(&mut self.nspawn(), &self.logs(), &self.next_name("boot"));
        let init = wait::until(
            "the host to be up",
            BOOT_LIMIT,
            || nspawn.output(),
            || {
                assert!(nspawn.is_running(), "no boot:\n{}", nspawn.output());
                only_child(nspawn.pid()).filter(|&init| is_up(init, self.image))
            },
        );
        self.power = Some(Power { nspawn, init });
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.power.is_some()
    }

    /// Ends every process at once.
    pub fn power_cut(&mut self) {
        let power = self.power.take().expect("it is on");
        end(power.init);
        power.nspawn.wait(POWER_CUT_LIMIT);
    }

    /// Reboots as its administrator does.
    pub fn reboot(&mut self) {
        // The answer is lost with the host.
        let reboot = self.start("root", "reboot");
        let power = self.power.take().expect("it is on");
        power.nspawn.wait(SHUTDOWN_LIMIT);
        drop(reboot);
        self.power_on();
    }

    /// Runs a line of shell in this user's login shell, to its end.
    #[track_caller]
    pub fn run(&self, user: &str, line: &str) -> Finished {
        self.start(user, line).wait(COMMAND_LIMIT)
    }

    /// Starts a line of shell in this user's login shell. It has no terminal.
    pub fn start(&self, user: &str, line: &str) -> Running {
        let command = &mut self.login_shell(user, line);
        Running::start(command, &self.logs(), &self.next_name(user))
    }

    /// Starts a line of shell in this user's login shell, at a terminal.
    pub fn at_terminal(&self, user: &str, line: &str) -> Terminal {
        let quoted = shell_words::quote(line);
        let line = format!("exec script --quiet --return --command {quoted} /dev/null");
        let command = &mut self.login_shell(user, &line);
        Terminal::start(command, &self.logs(), &self.next_name(user))
    }

    /// The path from outside to a file of this host.
    pub fn path(&self, path: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.init());
        Path::new(&root).join(path.trim_start_matches('/'))
    }

    /// Writes a file as root while it is off.
    pub fn write_to_disk(&self, path: &str, content: &str) {
        let path = self.disk().join(path.trim_start_matches('/'));
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    }

    /// Writes a file as root.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        // A link in the image would lead outside.
        let _ = std::fs::remove_file(self.path(path));
        std::fs::write(self.path(path), content).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// The content of a file.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn init(&self) -> u32 {
        self.power.as_ref().expect("it is on").init
    }

    fn login_shell(&self, user: &str, line: &str) -> Command {
        let mut command = inside(self.init());
        command.args(["runuser", "--login", user, "--command", line]);
        // By this the workspace finds it at the end: a host with a stopped visitor is never gone.
        command.env("HOLISTICS_LAB", &self.workspace);
        command
    }

    fn nspawn(&self) -> Command {
        static BOOTED: AtomicU32 = AtomicU32::new(0);
        let number = BOOTED.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", BOOT])
            .arg("boot.sh")
            .arg(self.image.layers())
            .arg(&self.folder)
            .arg(&self.network)
            .arg(format!("{}-{number}", std::process::id()))
            .arg(&self.workspace)
            .arg(format!("--bind-ro={}:{PROGRAM}", self.program.display()))
            .args(self.confinement);
        if self.image == Image::Fuse {
            command.arg("--bind=/dev/fuse");
        }
        command
    }

    /// What it has written over its image.
    fn disk(&self) -> PathBuf {
        self.folder.join("upper")
    }

    fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    fn next_name(&self, what: &str) -> String {
        self.runs.set(self.runs.get() + 1);
        format!("{:03}-{what}", self.runs.get())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(power) = self.power.take() else {
            return;
        };
        end(power.init);
        let deadline = Instant::now() + POWER_CUT_LIMIT;
        while power.nspawn.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A folder for all of a host.
fn folder(workspace: &Workspace, name: &str) -> PathBuf {
    let folder = workspace.folder(name);
    for part in ["upper", "work", "root", "logs"] {
        std::fs::create_dir_all(folder.join(part)).expect("the host's folder");
    }
    folder
}

/// A command in all namespaces of this process.
fn inside(pid: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid.to_string(), "--all", "--"]);
    command
}

/// Ends a host's first process and, with it, all others. One that has ended already is no error.
fn end(init: u32) {
    let init = Pid::from_raw(init as i32).expect("a process number is not zero");
    let _ = kill_process(init, Signal::KILL);
}

/// The one child of a process; nobody while there are none or several.
fn only_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.trim().parse().ok()
}

fn is_up(init: u32, image: Image) -> bool {
    let state = inside(init)
        .args(["sh", "-c", image.init().is_up()])
        .output();
    state.is_ok_and(|state| state.status.success())
}
