//! The documented plain command, `autossh -M 0 -N …`, against a stock sshd, on the same machines.
//!
//! It is started when its machine boots, and nobody looks after it.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::faults::resolver::VENDOR_NAME;
use crate::faults::supervisor::BY_OWN_NAMES;
use crate::support::bastion::PATH;
use crate::support::machines::Machine;
use crate::support::process::{self, Process, Running};
use crate::support::wait;
use crate::support::workspace::Workspace;

/// The port of sshd, and the one that is forwarded.
pub const SSH_PORT: u16 = 22;
pub const PORT: u16 = 15_432;

/// autossh gives up where its first ssh ends sooner, however long it is meant to run: nothing is to happen to a command
/// that has just begun, but where that is the fault.
const GATE: Duration = Duration::from_secs(31);

/// The command as it was started on a machine, and the log by which its processes are found.
struct Line {
    autossh: Child,
    log: PathBuf,
}

/// The command and its sshd.
pub struct Plain {
    names: PathBuf,
    begun: Instant,
    to: (Ipv4Addr, u16),
    /// Further variables, from the next boot on.
    pub environment: Vec<(&'static str, String)>,
    lines: Vec<Line>,
    sshd: Option<Running>,
    // The order of the fields is the order of the end: the processes, then their folders.
    bastion: Workspace,
    vendor: Workspace,
}

impl Plain {
    /// Both, not started. The command leads to this database.
    pub fn new(names: PathBuf, to: (Ipv4Addr, u16)) -> Self {
        let plain = Plain {
            names,
            begun: Instant::now(),
            to,
            environment: Vec::new(),
            lines: Vec::new(),
            sshd: None,
            bastion: Workspace::new(),
            vendor: Workspace::new(),
        };
        // sshd insists on this folder, which its service unit makes otherwise.
        std::fs::create_dir_all("/run/sshd").expect("root may make it");
        let (host_key, key) = (plain.vendor.path().join("host"), plain.key());
        for file in [&host_key, &key] {
            let mut generate = Command::new("ssh-keygen");
            generate
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(file);
            process::run(&mut generate, plain.vendor.path(), "keygen").expect_code(0);
        }
        std::fs::copy(key.with_extension("pub"), plain.authorized_keys()).expect("its key");
        let config = format!(
            "Port {SSH_PORT}\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\n",
            host_key.display(),
            plain.authorized_keys().display()
        );
        std::fs::write(plain.vendor.path().join("config"), config).expect("its configuration");
        plain
    }

    /// Starts sshd on the vendor's machine.
    pub fn start_sshd(&mut self, vendor: &Machine) {
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f"])
            .arg(self.vendor.path().join("config"));
        let _inside = vendor.enter();
        self.sshd = Some(Running::start(&mut sshd, self.vendor.path(), "sshd"));
    }

    /// Ends sshd with all its sessions, as a machine does that goes down. It may be down.
    pub fn kill_sshd(&mut self) {
        let Some(sshd) = self.sshd.take() else { return };
        for pid in process::descendants(sshd.pid()) {
            process::signal_pid(pid, Signal::KILL);
        }
    }

    /// Sends sshd and its sessions a signal.
    pub fn signal_sshd(&self, signal: Signal) {
        let Some(sshd) = &self.sshd else { return };
        for pid in process::descendants(sshd.pid()) {
            process::signal_pid(pid, signal);
        }
        sshd.signal(signal);
    }

    /// Starts the command on the bastion, or on a copy of it.
    pub fn boot(&mut self, bastion: &Machine) {
        let mut line = Command::new("unshare");
        line.args(["--mount", "sh", "-c", BY_OWN_NAMES])
            .arg(&self.names);
        line.args(["autossh", "-M", "0", "-N"]);
        line.args([
            "-o",
            "ServerAliveInterval 60",
            "-o",
            "ServerAliveCountMax 3",
        ]);
        // What a person has answered and configured before.
        let known = self.bastion.path().join("known_hosts");
        line.args(["-o", &format!("UserKnownHostsFile {}", known.display())]);
        line.args(["-o", "StrictHostKeyChecking no", "-i"])
            .arg(self.key());
        let (host, port) = self.to;
        line.args(["-R", &format!("{PORT}:{host}:{port}")]);
        line.arg(format!("root@{VENDOR_NAME}"));
        line.env_clear().env("PATH", PATH).process_group(0);
        line.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = self
            .bastion
            .folder(&format!("line-{:04}", self.lines.len()));
        let log = log.join("log");
        line.env("AUTOSSH_LOGFILE", &log);
        line.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _inside = bastion.enter();
        let autossh = line.spawn().expect("autossh");
        self.lines.push(Line { autossh, log });
        self.begun = Instant::now();
    }

    /// Waits until it is one that has run for a while.
    pub fn settle(&self) {
        std::thread::sleep(GATE.saturating_sub(self.begun.elapsed()));
    }

    /// Ends the command without a word. It may have ended.
    pub fn cut_power(&mut self) {
        while !self.lines.is_empty() {
            self.cut_power_of_last();
        }
    }

    /// The same on the machine alone on which it was started last.
    pub fn cut_power_of_last(&mut self) {
        let Some(mut line) = self.lines.pop() else {
            return;
        };
        process::kill_all_naming(&line.log);
        wait::until(
            "the end of autossh",
            process::FOREGROUND_LIMIT,
            String::new,
            || line.autossh.try_wait().expect("a child's state"),
        );
    }

    /// Whether any of its programs runs. Nobody starts one that has ended.
    pub fn is_running(&self) -> bool {
        let mut processes = self.processes().into_iter();
        processes.any(|process| matches!(process.name.as_str(), "autossh" | "ssh"))
    }

    /// The command's processes.
    pub fn processes(&self) -> Vec<Process> {
        process::naming(self.bastion.path())
    }

    /// Takes its key away from sshd.
    pub fn revoke(&self) {
        std::fs::write(self.authorized_keys(), "").expect("its keys");
    }

    fn key(&self) -> PathBuf {
        self.bastion.path().join("key")
    }

    fn authorized_keys(&self) -> PathBuf {
        self.vendor.path().join("authorized_keys")
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.cut_power();
        self.kill_sshd();
    }
}
