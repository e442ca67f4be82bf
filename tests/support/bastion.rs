//! The customer's bastion: a home and a system folder of its own, and the real `holistics-tunnel`.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holistics_tunnel::protocol::TunnelId;

use super::process::{self, Finished, Process, Running};
use super::server::Server;
use super::snapshot::Snapshot;
use super::workspace::{Workspace, write_program};

/// The `PATH` of a login shell on Debian.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The kind of key that bastions have in tests: it is made in a moment, where the default, RSA of
/// 4096 bits, may take seconds. A journey and the README's transcripts keep the default.
pub const KEY_TYPE: &str = "ed25519";

/// How long setup may take up to a point that depends on nobody else; an RSA key may be made.
pub const SETUP_LIMIT: Duration = Duration::from_secs(120);

/// A bastion. Dropped, whatever it still runs is killed.
pub struct Bastion {
    path: String,
    runs: std::cell::Cell<u32>,
    workspace: Workspace,
}

impl Bastion {
    /// A fresh one.
    pub fn new() -> Self {
        let bastion = Bastion {
            path: PATH.into(),
            runs: std::cell::Cell::new(0),
            workspace: Workspace::new(),
        };
        for folder in ["home", "system", "logs"] {
            bastion.workspace.folder(folder);
        }
        bastion
    }

    /// One on which these programs are not installed, and no package manager is.
    pub fn without(programs: &[&str]) -> Self {
        let mut bastion = Self::new();
        let folder = bastion.workspace.folder("bin");
        for installed in PATH.split(':').flat_map(entries) {
            let name = installed.file_name().expect("a file has a name");
            if programs.iter().any(|&program| name == program) || is_package_manager(name) {
                continue;
            }
            // What stands twice in PATH is taken where it stands first.
            let _ = symlink(&installed, folder.join(name));
        }
        bastion.path = folder.to_str().expect("a path in UTF-8").to_owned();
        bastion
    }

    /// Puts a program of the test's own, a shell script, on `PATH` of a bastion that was made without it.
    pub fn put_program(&self, name: &str, script: &str) {
        let path = self.program_path(name);
        // Without this, the script would be written through a link to the real program.
        let _ = std::fs::remove_file(&path);
        write_program(&path, &format!("#!/bin/sh\n{script}\n"));
    }

    /// Puts a link to a program on `PATH` in the same way.
    pub fn link_program(&self, name: &str, target: &Path) {
        let path = self.program_path(name);
        // In place of what stands there.
        let _ = std::fs::remove_file(&path);
        symlink(target, path).expect("a link");
    }

    /// Where a program of a bastion stands that was made without some.
    pub fn program_path(&self, name: &str) -> PathBuf {
        self.workspace.folder("bin").join(name)
    }

    /// A second machine with a copy of this one's home, as cloning a machine's disk makes it.
    pub fn clone_machine(&self) -> Self {
        let clone = Self::new();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.own_folder()).arg(clone.home());
        assert!(copy.status().expect("cp").success(), "the home is copied");
        // A real clone has its home under the same path.
        let receipt = std::fs::read_to_string(self.receipt()).expect("the receipt");
        let moved = receipt.replace(self.path_text(), clone.path_text());
        std::fs::write(clone.receipt(), moved).expect("the clone's receipt");
        clone
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.workspace.path().join("home")
    }

    /// Where system files go.
    pub fn prefix(&self) -> PathBuf {
        self.workspace.path().join("system")
    }

    /// The folder `~/.holistics`.
    pub fn own_folder(&self) -> PathBuf {
        self.home().join(".holistics")
    }

    /// Where this bastion's programs put what is temporary.
    pub fn temporary(&self) -> PathBuf {
        self.workspace.folder("tmp")
    }

    /// The private key of its tunnels.
    pub fn private_key(&self) -> PathBuf {
        self.own_folder().join(format!("id_{KEY_TYPE}"))
    }

    /// The receipt.
    pub fn receipt(&self) -> PathBuf {
        self.own_folder().join("receipt.json")
    }

    /// What the receipt holds of a tunnel.
    pub fn tunnel_record(&self, tunnel: TunnelId) -> serde_json::Value {
        self.tunnel_entry(tunnel).1
    }

    /// A tunnel's name on this bastion.
    pub fn slug(&self, tunnel: TunnelId) -> String {
        self.tunnel_entry(tunnel).0
    }

    fn tunnel_entry(&self, tunnel: TunnelId) -> (String, serde_json::Value) {
        let receipt = std::fs::read(self.receipt()).expect("the receipt");
        let receipt: serde_json::Value = serde_json::from_slice(&receipt).expect("JSON");
        let tunnels = receipt["tunnels"].as_object().expect("tunnels");
        let ending = format!("-{tunnel}");
        let mut entries = tunnels.iter().filter(|(name, _)| name.ends_with(&ending));
        let (name, record) = entries.next().expect("the tunnel's record");
        (name.clone(), record.clone())
    }

    /// The installed service script.
    pub fn service_script(&self) -> PathBuf {
        self.prefix().join("etc/init.d/h_autossh")
    }

    /// The file of a tunnel's service.
    pub fn tunnel_file(&self, tunnel: TunnelId) -> PathBuf {
        named(&self.prefix().join("etc/h_autossh"), "", tunnel, "env")
    }

    /// The file with the number of the process that keeps a tunnel.
    pub fn pid_file(&self, tunnel: TunnelId) -> PathBuf {
        named(&self.prefix().join("var/run/h_autossh"), "", tunnel, "pid")
    }

    /// The log of a tunnel's service.
    pub fn tunnel_log(&self, tunnel: TunnelId) -> PathBuf {
        named(&self.own_folder().join("logs"), "tunnel-", tunnel, "log")
    }

    /// What is on this bastion's disk.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&[&self.home(), &self.prefix()])
    }

    /// The same without logs, which grow while a tunnel runs.
    pub fn snapshot_of_what_lasts(&self) -> Snapshot {
        self.snapshot().without(&self.own_folder().join("logs"))
    }

    /// `holistics-tunnel` with these arguments.
    pub fn program<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = self.any_program(env!("CARGO_BIN_EXE_holistics-tunnel"));
        command.args(arguments);
        command
    }

    /// `holistics-tunnel setup` for this token, with all answers given.
    pub fn setup(&self, server: &Server, token: &str) -> Command {
        let mut command = self.setup_without_yes(server, token);
        command.arg("--yes");
        command
    }

    /// The same where somebody would have to be asked.
    pub fn setup_without_yes(&self, server: &Server, token: &str) -> Command {
        self.setup_at(&server.url, token)
    }

    /// The same for a server at this URL.
    pub fn setup_at(&self, url: &str, token: &str) -> Command {
        let mut command = self.setup_with_default_key(url, token);
        command.args(["--key-type", KEY_TYPE]);
        command
    }

    /// The same with the kind of key that setup makes if nobody chooses one.
    pub fn setup_with_default_key(&self, url: &str, token: &str) -> Command {
        let token_file = self.logs().join(self.next_name()).with_extension("token");
        std::fs::write(&token_file, token).expect("a token file");
        let mut command = self.program(["setup", "--init", "sysv", "--server", url]);
        command.arg("--token-file").arg(token_file);
        command.arg("--prefix").arg(self.prefix());
        command
    }

    /// The options of a setup by the command from the browser, as a bastion needs them that lives in a
    /// folder.
    pub fn setup_options(&self) -> String {
        format!(
            "--key-type {KEY_TYPE} {}",
            self.setup_options_with_default_key()
        )
    }

    /// The same with the kind of key that setup makes if nobody chooses one.
    pub fn setup_options_with_default_key(&self) -> String {
        format!("--init sysv --prefix {}", self.prefix().display())
    }

    /// A program in this bastion's environment.
    pub fn any_program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.home())
            .env("LANG", "C.UTF-8")
            .env("TMPDIR", self.temporary())
            .current_dir(self.home());
        command
    }

    /// A line of shell as the user types it, to its end.
    pub fn type_line(&self, line: &str) -> Finished {
        self.run(self.any_program("sh").args(["-c", line]))
    }

    /// The installed service script with one argument.
    pub fn service(&self, action: &str) -> Finished {
        self.run(self.any_program(self.service_script()).arg(action))
    }

    /// Runs a command of this bastion to its end.
    pub fn run(&self, command: &mut Command) -> Finished {
        process::run(command, &self.logs(), &self.next_name())
    }

    /// Starts a command of this bastion.
    pub fn start(&self, command: &mut Command) -> Running {
        Running::start(command, &self.logs(), &self.next_name())
    }

    /// The processes of this bastion with this name: `ssh`, `autossh`.
    pub fn processes(&self, name: &str) -> Vec<Process> {
        let mut found = process::naming(&self.home());
        found.retain(|process| process.name == name);
        found
    }

    fn path_text(&self) -> &str {
        self.workspace.path().to_str().expect("a path in UTF-8")
    }

    fn logs(&self) -> PathBuf {
        self.workspace.path().join("logs")
    }

    fn next_name(&self) -> String {
        self.runs.set(self.runs.get() + 1);
        format!("run-{}", self.runs.get())
    }
}

fn entries(folder: &str) -> Vec<PathBuf> {
    let entries = Path::new(folder).read_dir().into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

fn is_package_manager(name: &OsStr) -> bool {
    ["apt", "apt-get", "dnf", "yum", "microdnf", "brew", "sudo"]
        .iter()
        .any(|manager| name == *manager)
}

/// A tunnel's file in a folder, whose name holds its control plane, too; one that does not exist where
/// there is none.
fn named(folder: &Path, begins: &str, tunnel: TunnelId, extension: &str) -> PathBuf {
    let ending = format!("-{tunnel}.{extension}");
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found = names.find(|name| name.starts_with(begins) && name.ends_with(&ending));
    folder.join(found.unwrap_or(format!("{begins}absent{ending}")))
}
