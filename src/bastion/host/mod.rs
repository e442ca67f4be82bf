//! The one seam through which the program touches the host: commands, files, rights, the network
//! within reach, prompts and the clock.
//!
//! It is several small traits, and [`Host`] is all of them. [`real::RealHost`] does it; in tests `scripted::ScriptedHost` pretends to, so that every branch
//! can be tested without the machine it needs. Nothing else in `bastion` calls the operating system.

pub mod command;
mod effect;
mod ending;
pub mod exchange;
pub mod files;
pub mod host_lock;
pub mod http;
mod interrupts;
pub mod lock_file;
mod network;
mod pauses;
pub mod privilege;
mod process;
pub mod real;
pub mod redaction;
mod root;
pub mod run_log;
#[cfg(test)]
pub mod scripted;
mod socket;
pub(super) mod sudo_rules;
pub mod terminal;
pub mod untrusted;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use command::{Command, CommandError, Output};
pub use effect::{Effect, WayToRoot};
pub use host_lock::HostLock;
pub use interrupts::aside;
pub use lock_file::LockAttempt;
pub use pauses::Pauses;
pub use privilege::Privilege;
pub use root::RootProof;
pub use untrusted::FileEnd;

use super::failure::Interrupted;

/// With whose rights an effect happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    User,
    Root,
}

/// What stands at a path, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Link,
    /// A socket, a device or something else.
    Other,
}

/// A path's kind and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    /// When it was last written.
    pub modified: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub home: PathBuf,
    /// Who called `sudo`, if the program was started through it.
    pub sudo_user: Option<String>,
}

/// Why nothing was found to listen.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("interrupted")]
    Interrupted(#[from] Interrupted),
}

/// A TCP connection within a bound of time.
pub trait Connection: io::Read + io::Write {}

impl<T: io::Read + io::Write> Connection for T {}

/// Runs commands, with the user's rights or the superuser's.
pub trait Commands {
    /// Runs a command and waits for its end, at most for its timeout.
    ///
    /// A status other than 0 is not an error here; see [`HostExt::expect`].
    fn run(&self, command: &Command) -> Result<Output, CommandError>;

    /// Starts commands whose time has not come yet, beside whatever is done meanwhile: [`Commands::run`] of the
    /// same one then waits for its end. Only for what changes nothing.
    fn begin(&self, _: &[Command]) {}

    /// Waits for the end of those of these that were begun and not run.
    fn end_begun(&self, _: &[Command]) -> Result<(), CommandError> {
        Ok(())
    }

    /// Gives this process to a command. It returns only if that fails.
    fn exec(&self, command: &Command) -> CommandError;

    fn which(&self, program: &str) -> Option<PathBuf>;

    fn privilege(&self) -> Privilege;

    /// Asks whether each of these commands may be run with the superuser's rights. Nobody is asked for a
    /// password, and nothing is run.
    ///
    /// # Errors
    /// Some may not, for all that is known now. The error names them, so that somebody who has the rights
    /// can look at them.
    fn prove_root(&self, purpose: &str, commands: &[Command]) -> anyhow::Result<RootProof>;

    /// What [`Commands::prove_root`] will ask about these commands, for [`Commands::begin`].
    fn root_questions(&self, _: &[Command]) -> Result<Vec<Command>, CommandError> {
        Ok(Vec::new())
    }

    /// Makes sure that these commands can have the superuser's rights: without a word where that is
    /// possible, else by one question on the terminal that says what they are for.
    ///
    /// # Errors
    /// As [`Commands::prove_root`]; or the question was not answered rightly.
    fn acquire_root(&self, purpose: &str, commands: &[Command]) -> anyhow::Result<()>;

    /// Takes the lock of what all users of the host share, with these rights; another holder is waited
    /// for, within a bound, and `waits` is told who it is.
    fn lock_host(
        &self,
        path: &Path,
        authority: Authority,
        holder: &str,
        waits: &dyn Fn(&str),
    ) -> anyhow::Result<HostLock>;
}

/// Looks at files and changes them, with the user's rights or the superuser's.
pub trait Files {
    /// A file's content, read as the user.
    ///
    /// # Errors
    /// As the system gives them; `NotFound` is for the caller to judge.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// What stands at a path, or nothing.
    fn stat(&self, path: &Path) -> io::Result<Option<Stat>>;

    /// The names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// The beginning of a file, at most so many bytes.
    fn read_at_most(&self, path: &Path, bytes: u64) -> io::Result<Vec<u8>>;

    /// At most so many bytes from the end of a file below a user's home, where the user may have put
    /// anything in its place: see [`untrusted`].
    ///
    /// # Errors
    /// As the system gives them, `NotFound` among them; or it is no file to be read.
    fn read_end(&self, home: &Path, file: &Path, bytes: u64) -> io::Result<FileEnd>;

    /// What a link says, not followed any further.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// Writes a file in one piece: it has its old content or its new one, never a part.
    fn write(
        &self,
        path: &Path,
        content: &[u8],
        mode: u32,
        authority: Authority,
    ) -> anyhow::Result<()>;

    /// Makes one folder, whose parent exists.
    fn create_dir(&self, path: &Path, mode: u32, authority: Authority) -> anyhow::Result<()>;

    /// Removes a file or a link. One that is not there is no error.
    fn remove_file(&self, path: &Path, authority: Authority) -> anyhow::Result<()>;

    /// Removes an empty folder. One that is not there is no error.
    fn remove_dir(&self, path: &Path, authority: Authority) -> anyhow::Result<()>;

    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;

    /// Whether the user may make files in this folder.
    fn is_writable(&self, dir: &Path) -> bool;

    /// Tries in this folder what ssh does with a control socket. Nothing is left of it.
    ///
    /// # Errors
    /// What does not work there.
    fn try_socket(&self, dir: &Path) -> anyhow::Result<()>;

    /// Takes a lock that goes with the process, however that ends. `holder` says who has it then, in
    /// one line, for whoever comes next.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<LockAttempt>;
}

/// What a file system has for new files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    pub is_read_only: bool,
    /// Whether root can write some small files more: a part of the disk may be kept for it.
    pub has_room_for_root: bool,
    /// Whether everybody else can.
    pub has_room: bool,
}

/// Who runs the program, and where.
pub trait Environment {
    fn env(&self, name: &str) -> Option<String>;

    fn user(&self) -> &User;

    fn hostname(&self) -> String;

    /// Where the running program stands, as far as the system tells.
    fn own_program(&self) -> Option<PathBuf>;
}

/// The network within reach.
pub trait Net {
    /// Opens a TCP connection and closes it: is something listening there? All addresses of a name are
    /// tried.
    fn probe_tcp(&self, host: &str, port: u16, timeout: Duration) -> Result<(), ProbeError>;

    /// The addresses of a name; those of an address are itself.
    fn resolve(&self, name: &str, port: u16, timeout: Duration) -> io::Result<Vec<SocketAddr>>;

    /// Opens a TCP connection. `timeout` bounds all of it, from its opening to the last byte read.
    ///
    /// # Errors
    /// As the system gives them; silence is `TimedOut`.
    fn connect(&self, address: SocketAddr, timeout: Duration) -> io::Result<Box<dyn Connection>>;

    fn http(&self, request: http::Request) -> Result<http::Response, http::HttpError>;

    /// Sends a request whose answer is not needed yet: [`Net::http`] of the same one then waits for it. Only for
    /// what changes nothing.
    fn begin_http(&self, _: &http::Request) {}
}

/// The run itself: its time, what may interrupt it, and its log.
pub trait RunControl {
    fn now(&self) -> jiff::Timestamp;

    /// Time since some fixed moment, for deadlines.
    fn uptime(&self) -> Duration;

    fn sleep(&self, time: Duration) -> Result<(), Interrupted>;

    fn check_interrupt(&self) -> Result<(), Interrupted>;

    /// Has the run undisturbed by whatever asks it to stop, or no longer. What is brought back in order
    /// must not be cut short by a second Ctrl-C.
    fn hold_interrupts(&self, hold: bool);

    /// From now on, the end of the terminal does not interrupt the run.
    fn ignore_hangup(&self);

    /// The log of this run. Commands stand in it without being asked for.
    fn log(&self) -> &run_log::RunLog;
}

/// Questions on the terminal.
pub trait Prompts {
    fn has_terminal(&self) -> bool;

    /// Asks a yes-or-no question on the terminal; `None` without one. So for all questions.
    fn yes_or_no(&self, question: &str, default: bool) -> anyhow::Result<Option<bool>>;

    /// The same where most people say yes.
    fn confirm(&self, question: &str) -> anyhow::Result<Option<bool>> {
        self.yes_or_no(question, true)
    }

    /// Asks for a line of text; a secret one is not shown while it is typed.
    fn ask(&self, question: &str, secret: bool) -> anyhow::Result<Option<String>>;

    /// Has one of several chosen, by its place; `Some(None)` if the person wants none of them.
    fn choose(&self, question: &str, choices: &[String]) -> anyhow::Result<Option<Option<usize>>>;
}

pub trait Host: Commands + Files + Environment + Net + RunControl + Prompts {}

impl<H: Commands + Files + Environment + Net + RunControl + Prompts + ?Sized> Host for H {}

/// What follows from [`Host`] alone.
pub trait HostExt: Host {
    /// Runs a command that has to exit with 0.
    ///
    /// # Errors
    /// As [`Commands::run`], and [`CommandError::Status`] with what it said.
    fn expect(&self, command: &Command) -> Result<Output, CommandError> {
        let output = self.run(command)?;
        if output.success() {
            return Ok(output);
        }
        Err(CommandError::Status {
            command: self.shown(command),
            status: output.status,
            stderr: output.stderr,
            stdout: output.stdout,
        })
    }

    /// Works with these commands begun. None of them is left when this returns.
    fn beside<T>(&self, commands: &[Command], work: impl FnOnce() -> T) -> Result<T, CommandError> {
        self.begin(commands);
        let result = work();
        self.end_begun(commands)?;
        Ok(result)
    }

    /// A command as it is typed on this host.
    fn shown(&self, command: &Command) -> String {
        self.privilege().shown(command, |_| None)
    }

    fn log_line(&self, text: &str) {
        self.log().line(self.now(), text);
    }

    fn exists(&self, path: &Path) -> bool {
        matches!(self.stat(path), Ok(Some(_)))
    }

    /// A file's content, or nothing where there is no such file.
    fn read_if_present(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self.read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<H: Host + ?Sized> HostExt for H {}

/// A text that names commands of this program, in backticks, with each of them as it can be typed
/// where the program is called `own_name`.
pub fn as_callable(text: &str, own_name: &str) -> String {
    text.replace("`holistics-tunnel ", &format!("`{own_name} "))
}

/// How this program is called on this host: the bootstrap script puts it where PATH does not reach.
pub fn own_name(host: &dyn Host) -> String {
    const NAME: &str = "holistics-tunnel";
    match host.own_program() {
        Some(path) if host.which(NAME).is_none() => path.display().to_string(),
        _ => NAME.to_owned(),
    }
}
