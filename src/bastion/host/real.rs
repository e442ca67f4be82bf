//! The host this program runs on.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::{AccessFlags, Uid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::privilege::Privilege;
use super::run_log::RunLog;
use super::terminal::Terminal;
use super::{
    Authority, Command, CommandError, Connection, Host, HostExt, HostLock, LockAttempt, Output,
    Stat, User, files, host_lock, http, lock_file, network,
};
use crate::bastion::failure::{Failure, Interrupted};

/// How often a wait looks whether the run was interrupted.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

/// The host this program runs on.
pub struct RealHost {
    user: User,
    privilege: Privilege,
    started: Instant,
    interrupted: Arc<AtomicBool>,
    hung_up: Arc<AtomicBool>,
    outlives_terminal: Cell<bool>,
    /// What asks to stop is not heard meanwhile.
    is_undisturbed: Cell<bool>,
    http: http::Http,
    log: RunLog,
    trace: RefCell<Option<Trace>>,
}

/// Is told of every command that ran, and how it ended.
type Trace = Rc<dyn Fn(&Command, &str)>;

impl RealHost {
    /// Finds out who runs the program and catches the signals that ask it to stop.
    ///
    /// # Errors
    /// The user has no name or no home folder, or signals cannot be caught.
    pub fn new() -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let hung_up = Arc::new(AtomicBool::new(false));
        for (signal, flag) in [
            (SIGINT, &interrupted),
            (SIGTERM, &interrupted),
            (SIGHUP, &hung_up),
        ] {
            signal_hook::flag::register(signal, Arc::clone(flag))
                .context("cannot catch the signals that ask to stop")?;
        }
        let user = current_user()?;
        let privilege = find_privilege(&user);
        Ok(RealHost {
            user,
            privilege,
            started: Instant::now(),
            interrupted,
            hung_up,
            outlives_terminal: Cell::new(false),
            is_undisturbed: Cell::new(false),
            http: http::Http::default(),
            log: RunLog::default(),
            trace: RefCell::default(),
        })
    }

    /// From here on, shows every command that runs, and how it ended.
    pub fn trace_commands(&self, trace: impl Fn(&Command, &str) + 'static) {
        self.trace.replace(Some(Rc::new(trace)));
    }

    /// The way to the superuser's rights on this host.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    fn expression(&self, command: &Command) -> duct::Expression {
        let mut words: Vec<String> = Vec::new();
        if command.authority == Authority::Root {
            words = self.privilege.prefix(command, |name| self.env(name));
        }
        words.extend(command.words().into_iter().map(str::to_owned));
        let mut expression = duct::cmd(&words[0], &words[1..]).stdin_null().unchecked();
        expression = match &command.said_to {
            None => expression.stdout_capture().stderr_capture(),
            Some(file) => expression.stdout_null().stderr_path(file),
        };
        for (name, value) in &command.env {
            expression = expression.env(name, value);
        }
        if words[0] != command.program {
            // What sudo itself says is understood by its English words; the command it runs gets
            // this user's locale.
            expression = expression.env("LC_ALL", "C");
        }
        if command.atomic || self.is_undisturbed.get() {
            // A group of its own, so that Ctrl-C on the terminal does not reach it.
            expression = expression.before_spawn(|child| {
                child.process_group(0);
                Ok(())
            });
        }
        expression
    }

    fn wait_for(&self, command: &Command, handle: &duct::Handle) -> Result<Output, CommandError> {
        let start_error = |cause| CommandError::Start {
            command: command.to_string(),
            cause,
        };
        let deadline = Instant::now() + command.timeout;
        loop {
            let next_look = deadline.min(Instant::now() + INTERRUPT_CHECK);
            if let Some(output) = handle.wait_deadline(next_look).map_err(start_error)? {
                if !command.atomic && !output.status.success() {
                    // Ctrl-C on the terminal ends the command as well, and then it is not the command
                    // that failed.
                    self.check_interrupt()?;
                }
                return Ok(Output {
                    status: exit_status(output.status),
                    stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
                });
            }
            if !command.atomic
                && let Err(interrupted) = self.check_interrupt()
            {
                handle.kill().map_err(start_error)?;
                return Err(interrupted.into());
            }
            if Instant::now() >= deadline {
                handle.kill().map_err(start_error)?;
                return Err(CommandError::Timeout {
                    command: command.to_string(),
                    timeout: command.timeout,
                });
            }
        }
    }

    fn ask_for_root(
        &self,
        program: &str,
        purpose: &str,
        commands: &[String],
    ) -> anyhow::Result<()> {
        let silent = Command::new("true").with_authority(Authority::Root);
        if self.run_once(&silent)?.success() {
            return Ok(());
        }
        let refusal = || {
            let user = &self.user.name;
            refused_root(
                format!(
                    "{purpose} needs the rights of root, and {program} does not grant them to {user}"
                ),
                format!("let {user} use {program} (`{program} true` tries it)"),
                commands,
            )
        };
        if self.privilege != Privilege::Sudo || Terminal::open().is_none() {
            bail!(refusal());
        }
        // sudo reads the password from the terminal itself; it never passes through this program.
        let prompt = format!(
            "{purpose} needs the rights of root. Password of {}: ",
            self.user.name
        );
        let asked = duct::cmd("sudo", ["-v", "-p", &prompt]).unchecked().run();
        self.check_interrupt()?;
        match asked {
            Ok(output) if output.status.success() => Ok(()),
            _ => bail!(refusal()),
        }
    }

    fn run_once(&self, command: &Command) -> Result<Output, CommandError> {
        let begun = Instant::now();
        let result = self
            .expression(command)
            .start()
            .map_err(|cause| CommandError::Start {
                command: command.to_string(),
                cause,
            })
            .and_then(|handle| self.wait_for(command, &handle));
        self.log
            .command(self.now(), command, &result, begun.elapsed());
        let trace = self.trace.borrow().clone();
        if let Some(trace) = trace {
            let outcome = match &result {
                Ok(output) => output.status.to_string(),
                Err(error) => error.to_string(),
            };
            trace(command, &outcome);
        }
        result
    }

    /// Whether an effect has to go through `sudo` or `doas`.
    fn needs_help(&self, authority: Authority) -> bool {
        authority == Authority::Root && self.user.uid != 0
    }
}

impl Host for RealHost {
    fn run(&self, command: &Command) -> Result<Output, CommandError> {
        let output = self.run_once(command)?;
        // A password given to sudo is forgotten after some minutes, and setup waits for the browser
        // for longer than that.
        let has_expired = command.authority == Authority::Root
            && self.privilege == Privilege::Sudo
            && output.stderr.contains("sudo: a password is required");
        if has_expired && self.ask_for_root("sudo", "Going on", &[]).is_ok() {
            return self.run_once(command);
        }
        Ok(output)
    }

    fn exec(&self, command: &Command) -> CommandError {
        let cause = std::process::Command::new(&command.program)
            .args(&command.args)
            .envs(command.env.iter().map(|(name, value)| (name, value)))
            .exec();
        CommandError::Start {
            command: command.to_string(),
            cause,
        }
    }

    fn which(&self, program: &str) -> Option<PathBuf> {
        // An ordinary user's PATH often lacks the folders of the system's own programs.
        let path = self.env("PATH").unwrap_or_default();
        which::which_in(program, Some(format!("{path}:/usr/sbin:/sbin")), "/").ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        files::stat(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn read_at_most(&self, path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        fs::File::open(path)?
            .take(bytes)
            .read_to_end(&mut content)?;
        Ok(content)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn write(
        &self,
        path: &Path,
        content: &[u8],
        mode: u32,
        authority: Authority,
    ) -> anyhow::Result<()> {
        if !self.needs_help(authority) {
            return files::write_atomically(path, content, mode);
        }
        // Staged where only this user can write, copied by root beside the target, renamed there.
        let staging = tempfile::Builder::new().prefix("h_autossh-").tempdir()?;
        let staged = staging.path().join("content");
        files::write_atomically(&staged, content, 0o600)?;
        let beside = files::unfinished(path)?;
        let install = Command::new("install")
            .args(["-o", "root", "-g", "0", "-m", &format!("{mode:o}")])
            .path(&staged)
            .path(&beside)
            .with_authority(Authority::Root);
        self.expect(&install)?;
        let rename = Command::new("mv").arg("-f").path(&beside).path(path);
        self.expect(&rename.with_authority(Authority::Root))?;
        Ok(())
    }

    fn create_dir(&self, path: &Path, mode: u32, authority: Authority) -> anyhow::Result<()> {
        if !self.needs_help(authority) {
            return files::create_dir(path, mode)
                .with_context(|| format!("cannot make {}", path.display()));
        }
        let mkdir = Command::new("mkdir")
            .args(["-m", &format!("{mode:o}")])
            .path(path);
        self.expect(&mkdir.with_authority(Authority::Root))?;
        Ok(())
    }

    fn remove_file(&self, path: &Path, authority: Authority) -> anyhow::Result<()> {
        if !self.needs_help(authority) {
            return files::remove(path);
        }
        let rm = Command::new("rm")
            .arg("-f")
            .path(path)
            .path(&files::unfinished(path)?);
        self.expect(&rm.with_authority(Authority::Root))?;
        Ok(())
    }

    fn remove_dir(&self, path: &Path, authority: Authority) -> anyhow::Result<()> {
        if !self.needs_help(authority) {
            return files::ignore_absent(fs::remove_dir(path))
                .with_context(|| format!("cannot remove {}", path.display()));
        }
        if !self.exists(path) {
            return Ok(());
        }
        let rmdir = Command::new("rmdir").path(path);
        self.expect(&rmdir.with_authority(Authority::Root))?;
        Ok(())
    }

    fn is_writable(&self, dir: &Path) -> bool {
        nix::unistd::access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
    }

    fn own_program(&self) -> Option<PathBuf> {
        std::env::current_exe().ok()
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn user(&self) -> &User {
        &self.user
    }

    fn hostname(&self) -> String {
        nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_else(|_| "unknown".to_owned())
    }

    fn probe_tcp(&self, host: &str, port: u16, timeout: Duration) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, port).to_socket_addrs()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn resolve(&self, name: &str, port: u16, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
        network::resolve(name, port, timeout, &self.interrupted)
    }

    fn connect(&self, address: SocketAddr, timeout: Duration) -> io::Result<Box<dyn Connection>> {
        network::connect(address, timeout, &self.interrupted)
    }

    fn http(&self, request: http::Request) -> Result<http::Response, http::HttpError> {
        self.http.send(request, &|| self.check_interrupt())
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        let deadline = Instant::now() + time;
        loop {
            self.check_interrupt()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(INTERRUPT_CHECK));
        }
    }

    fn check_interrupt(&self) -> Result<(), Interrupted> {
        if self.is_undisturbed.get() {
            return Ok(());
        }
        let hung_up = self.hung_up.swap(false, Ordering::Relaxed) && !self.outlives_terminal.get();
        if self.interrupted.swap(false, Ordering::Relaxed) || hung_up {
            return Err(Interrupted);
        }
        Ok(())
    }

    fn outlive_terminal(&self) {
        self.outlives_terminal.set(true);
    }

    fn acquire_root(&self, purpose: &str, commands: &[String]) -> anyhow::Result<()> {
        match self.privilege {
            Privilege::Root => Ok(()),
            Privilege::Sudo => self.ask_for_root("sudo", purpose, commands),
            Privilege::Doas => self.ask_for_root("doas", purpose, commands),
            Privilege::None => bail!(refused_root(
                format!(
                    "{purpose} needs the rights of root, and neither sudo nor doas is installed"
                ),
                format!("install sudo and let {} use it", self.user.name),
                commands,
            )),
        }
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<LockAttempt> {
        lock_file::acquire(path, holder)
    }

    fn lock_host(
        &self,
        path: &Path,
        authority: Authority,
        holder: &str,
        waits: &dyn Fn(&str),
    ) -> anyhow::Result<HostLock> {
        self.log_line(&format!("locking {}", path.display()));
        if !self.needs_help(authority) {
            return host_lock::take(path, holder, host_lock::LIMIT, waits, &|time| {
                self.sleep(time)
            });
        }
        // As every command, it may be the first after sudo has forgotten the password.
        self.expect(&Command::new("true").with_authority(Authority::Root))?;
        let command = host_lock::command(path, holder);
        let mut words = self.privilege.prefix(&command, |name| self.env(name));
        words.extend(command.words().into_iter().map(str::to_owned));
        host_lock::take_through(&words, path, waits, &|| self.check_interrupt())
    }

    fn hold_interrupts(&self, hold: bool) {
        self.is_undisturbed.set(hold);
    }

    fn has_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    fn yes_or_no(&self, question: &str, default: bool) -> anyhow::Result<Option<bool>> {
        Terminal::open()
            .map(|terminal| terminal.yes_or_no(question, default, &|| self.check_interrupt()))
            .transpose()
    }

    fn ask(&self, question: &str, secret: bool) -> anyhow::Result<Option<String>> {
        let interrupted = || self.check_interrupt();
        Terminal::open()
            .map(|terminal| {
                if secret {
                    terminal.secret(question, &interrupted)
                } else {
                    terminal.text(question, &interrupted)
                }
            })
            .transpose()
    }

    fn choose(&self, question: &str, choices: &[String]) -> anyhow::Result<Option<Option<usize>>> {
        Terminal::open()
            .map(|terminal| terminal.choice(question, choices, &|| self.check_interrupt()))
            .transpose()
    }

    fn log(&self) -> &RunLog {
        &self.log
    }
}

/// Nothing was changed; whoever has the rights sees what they are needed for.
fn refused_root(what: String, remedy: String, commands: &[String]) -> Failure {
    let shown: Vec<String> = commands
        .iter()
        .map(|command| format!("\n    {command}"))
        .collect();
    let next = if shown.is_empty() {
        format!("{remedy}, then run the same command again")
    } else {
        format!(
            "{remedy}, then run the same command again. It is needed for:{}",
            shown.concat()
        )
    };
    Failure::usage(what, next)
}

fn exit_status(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(-1)
}

fn current_user() -> anyhow::Result<User> {
    let uid = Uid::effective();
    let entry = nix::unistd::User::from_uid(uid)
        .context("the user database cannot be read")?
        .with_context(|| format!("user id {uid} has no name on this host"))?;
    // $HOME counts where it is set, as it does for ssh-keygen and every other tool of the shell.
    let home = std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map_or(entry.dir, PathBuf::from);
    if !home.is_dir() {
        bail!(Failure::new(
            format!("the home folder {} does not exist", home.display()),
            "set HOME to an existing folder of this user, or have the home folder made",
        ));
    }
    Ok(User {
        name: entry.name,
        uid: uid.as_raw(),
        home,
        sudo_user: std::env::var("SUDO_USER")
            .ok()
            .filter(|name| !name.is_empty()),
    })
}

fn find_privilege(user: &User) -> Privilege {
    if user.uid == 0 {
        Privilege::Root
    } else if which::which("sudo").is_ok() {
        Privilege::Sudo
    } else if which::which("doas").is_ok() {
        Privilege::Doas
    } else {
        Privilege::None
    }
}
