//! A folder of a test's own, and the promise that nothing started in it outlives the test.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::process;

/// A folder under `/tmp`.
///
/// When it is dropped, every process whose arguments or environment name it is killed, and it is
/// deleted. `ssh` and `autossh` leave their parent's process group, so a guard stands beside the
/// test and does the same if the test process is killed before it can.
pub struct Workspace {
    folder: TempDir,
    guard: Child,
}

/// Reads the folder's name, waits until the pipe closes, and cleans up. The name comes through the
/// pipe so that the guard does not find itself. A database ended with KILL would leave its shared
/// memory behind, so TERM comes first.
const GUARD: &str = r#"
read -r folder || exit 0
cat >/dev/null
for signal in TERM KILL; do
    found=
    for process in /proc/[0-9]*; do
        if grep -qsF -e "$folder" "$process/cmdline" "$process/environ"; then
            kill -s "$signal" "${process#/proc/}" 2>/dev/null && found=yes
        fi
    done
    [ -z "$found" ] || sleep 1
done
rm -rf "$folder"
"#;

/// Writes a program of a test's own.
///
/// By another process: one that a test beside this starts at the same moment would have the file open for writing until
/// its exec, and a program that anybody can still write is not run ("Text file busy").
pub fn write_program(path: &Path, text: &str) {
    let mut writer = Command::new("sh");
    writer.args(["-c", r#"cat >"$0" && chmod 755 "$0""#]);
    writer.arg(path).stdin(Stdio::piped());
    let mut writer = writer.spawn().expect("a shell");
    let mut input = writer.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("a program");
    drop(input);
    let written = writer.wait().expect("its end");
    assert!(written.success(), "cannot write {}", path.display());
}

impl Workspace {
    /// Makes the folder, in `/tmp` and not in `TMPDIR`: the path of a control socket must be short.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ht-")
            .tempdir_in("/tmp")
            .expect("a temporary folder");
        let guard = start_guard(folder.path());
        Workspace { folder, guard }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A folder in it, made if it is not there.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder in the workspace");
        folder
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        process::kill_all_naming(self.path());
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn start_guard(folder: &Path) -> Child {
    let mut guard = Command::new("/bin/sh")
        .args(["-c", GUARD])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C at the terminal is for the test; the guard acts on its end.
        .process_group(0)
        .spawn()
        .expect("a shell");
    let pipe = guard.stdin.as_mut().expect("stdin is piped");
    writeln!(pipe, "{}", folder.display()).expect("the guard listens");
    guard
}
