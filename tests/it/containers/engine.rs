//! podman with a store of its own, so that nothing of the machine's own containers is touched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::process::{Finished, Running};

/// How long one call may take: an image may be built.
const LIMIT: Duration = Duration::from_secs(600);

/// podman as the tests use it.
pub struct Engine {
    folder: PathBuf,
    logs: PathBuf,
}

impl Engine {
    /// One whose calls are logged in this folder.
    pub fn new(logs: &Path) -> Self {
        let folder = target_folder().join("containers");
        let store = folder.join("store");
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            text(&store),
            text(&folder.join("run"))
        );
        std::fs::create_dir_all(&store).expect("a folder");
        std::fs::write(folder.join("storage.conf"), storage).expect("a file");
        // Neither systemd nor a journal has to be there.
        let engine = "[engine]\ncgroup_manager = \"cgroupfs\"\nruntime = \"runc\"\nevents_logger = \"file\"\n\
                      [containers]\nlog_driver = \"k8s-file\"\n\
                      default_ulimits = [\"nofile=16384:16384\", \"nproc=16384:16384\"]\n";
        std::fs::write(folder.join("containers.conf"), engine).expect("a file");
        Engine {
            folder,
            logs: logs.to_owned(),
        }
    }

    /// `podman` with these arguments, to its end.
    pub fn podman(&self, arguments: &[&str]) -> Finished {
        self.run(Command::new("podman").args(arguments))
    }

    /// `podman-compose` with these arguments in this folder, to its end.
    pub fn compose(&self, folder: &Path, arguments: &[&str]) -> Finished {
        let program = self.folder.join("tools/bin/podman-compose");
        self.run(Command::new(program).args(arguments).current_dir(folder))
    }

    fn run(&self, command: &mut Command) -> Finished {
        command
            .env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"))
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = CALLS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Running::start(command, &self.logs, &format!("podman-{number}")).wait(LIMIT)
    }
}

/// Where the programs under test lie in `debug` or `release`.
pub fn target_folder() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    let target = program.parent().and_then(Path::parent);
    target.expect("a target folder").to_owned()
}
