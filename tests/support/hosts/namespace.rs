//! The network of one machine.

use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::process::{self, Running};
use crate::support::workspace::Workspace;

const START_LIMIT: Duration = Duration::from_secs(10);

/// A network of its own, held by a process and gone with it: it has no name that could be left
/// behind.
pub struct Namespace {
    holder: Running,
    logs: PathBuf,
}

impl Namespace {
    /// Makes one, with loopback up.
    pub fn new(workspace: &Workspace, name: &str) -> Self {
        let logs = workspace.folder("networks");
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-ec"])
            .arg("ip link set lo up; echo ready; exec sleep infinity")
            // By this the workspace finds it at the end.
            .env("HOLISTICS_LAB", workspace.path());
        let holder = Running::start(&mut command, &logs, name);
        holder.wait_for_output("ready", START_LIMIT);
        Namespace { holder, logs }
    }

    /// The process that stands for it.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// The file that stands for it.
    pub fn file(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// `ip` with these arguments, separated by blanks, on this machine.
    #[track_caller]
    pub fn ip(&self, arguments: &str) {
        let arguments = arguments.split(' ');
        self.run(&["ip"].into_iter().chain(arguments).collect::<Vec<_>>());
    }

    /// Runs a command on this machine, which has to succeed.
    #[track_caller]
    pub fn run(&self, command: &[&str]) {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.pid().to_string(), "--net"]);
        inside.args(command);
        process::run(&mut inside, &self.logs, "command").expect_code(0);
    }

    /// Where its commands' outputs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Moves the calling thread to this machine until the answer is dropped. What the thread
    /// starts meanwhile, threads and programs, is on this machine too, and stays there.
    pub fn enter(&self) -> Inside {
        let open = |path: PathBuf| File::open(path).expect("a network namespace");
        let home = open("/proc/thread-self/ns/net".into());
        move_to(&open(self.file()));
        Inside {
            home,
            not_for_other_threads: PhantomData,
        }
    }
}

/// The calling thread is on another machine for as long as this lives.
pub struct Inside {
    home: File,
    not_for_other_threads: PhantomData<*const ()>,
}

impl Drop for Inside {
    fn drop(&mut self) {
        move_to(&self.home);
    }
}

fn move_to(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a network namespace");
}
