//! The bastion's side of a test: real keys by `ssh-keygen`, real tunnels by `ssh`.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::tunnel_server::raw::RawKey;

/// A key pair on disk.
#[derive(Clone)]
pub struct Key {
    pub private: PathBuf,
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub public: String,
}

impl Key {
    pub fn generate(dir: &Path, name: &str, arguments: &[&str]) -> Self {
        let private = dir.join(name);
        let status = std::process::Command::new("ssh-keygen")
            .args(arguments)
            .args(["-q", "-N", "", "-C", "someone@bastion", "-f"])
            .arg(&private)
            .status()
            .expect("ssh-keygen is needed: apt-get install openssh-client");
        assert!(status.success());
        let public = std::fs::read_to_string(private.with_extension("pub")).unwrap();
        let public = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
        Key { private, public }
    }
}

/// One that no ssh uses.
impl From<&RawKey> for Key {
    fn from(key: &RawKey) -> Self {
        Key {
            private: PathBuf::new(),
            public: key.public(),
        }
    }
}

/// A running `ssh`; killed when dropped.
pub struct Ssh {
    child: Child,
}

impl Ssh {
    pub fn spawn(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("ssh is needed: apt-get install openssh-client");
        Ssh { child }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("ssh has ended already");
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process number is not zero");
        kill_process(pid, signal).unwrap();
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end; says how it ended, and what ssh printed.
    pub async fn output(self) -> (Option<i32>, String) {
        let output: Output = timeout(Duration::from_secs(15), self.child.wait_with_output())
            .await
            .expect("ssh should have ended")
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}
