//! The host this program runs on: what each of the seam's traits comes to here.

use std::cell::RefCell;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::{AccessFlags, Uid};

use super::interrupts::Interrupts;
use super::privilege::Privilege;
use super::process::Runner;
use super::root::Root;
use super::run_log::RunLog;
use super::terminal::Terminal;
use super::{
    Authority, Command, CommandError, Commands, Connection, Environment, FileEnd, FileSystem,
    Files, HostExt, HostLock, LockAttempt, Net, Output, ProbeError, Prompts, RootProof, RunControl,
    Stat, User, files, host_lock, http, lock_file, network, socket, untrusted,
};
use crate::bastion::failure::{Failure, Interrupted};

pub struct RealHost {
    user: User,
    runner: Runner,
    interrupts: Arc<Interrupts>,
    started: Instant,
    http: http::Http,
    log: RunLog,
    trace: RefCell<Option<Trace>>,
    /// What commands have said that say the same for the whole run.
    constants: RefCell<Vec<(Command, Output)>>,
}

/// What a password is asked for that was given and is forgotten.
const GOING_ON: &str = "Going on";

/// Is told of every command that ran, and how it ended.
type Trace = Rc<dyn Fn(&str, &str)>;

impl RealHost {
    /// Finds out who runs the program and catches the signals that ask it to stop.
    pub fn new() -> anyhow::Result<Self> {
        let interrupts = Arc::new(Interrupts::catch()?);
        let user = current_user()?;
        let runner = Runner::new(Root::find(&user), Arc::clone(&interrupts));
        Ok(RealHost {
            user,
            runner,
            interrupts,
            started: Instant::now(),
            http: http::Http::default(),
            log: RunLog::default(),
            trace: RefCell::default(),
            constants: RefCell::default(),
        })
    }

    /// From here on, shows every command that runs, and how it ended.
    pub fn trace_commands(&self, trace: impl Fn(&str, &str) + 'static) {
        self.trace.replace(Some(Rc::new(trace)));
    }

    fn run_once(&self, command: &Command) -> Result<Output, CommandError> {
        let mut constants = self.constants.borrow_mut();
        if let Some((_, output)) = constants.iter().find(|(known, _)| known == command) {
            return Ok(output.clone());
        }
        let mut results = self.run_all(std::slice::from_ref(command));
        let output = results.remove(0)?;
        if command.constant && output.success() {
            constants.push((command.clone(), output.clone()));
        }
        Ok(output)
    }

    /// Each of these, side by side.
    fn run_all(&self, commands: &[Command]) -> Vec<Result<Output, CommandError>> {
        let mut results = Vec::with_capacity(commands.len());
        self.runner.run(commands, |command, result, took| {
            let shown = &self.shown(command);
            self.log.command(self.now(), command, shown, &result, took);
            let trace = self.trace.borrow().clone();
            if let Some(trace) = trace {
                let outcome = match &result {
                    Ok(output) => output.status.to_string(),
                    Err(error) => error.to_string(),
                };
                trace(shown, &outcome);
            }
            results.push(result);
        });
        results
    }

    /// Asks for a password that was forgotten, where this command was refused; whether there was a question. A
    /// password is forgotten after some minutes, and setup waits for the browser for longer than that.
    fn ask_again(&self, command: &Command) -> anyhow::Result<bool> {
        let run = |commands: &[Command]| self.run_all(commands);
        let root = self.runner.root();
        root.forget_silence(Duration::ZERO);
        root.acquire(
            &run,
            &self.interrupts,
            GOING_ON,
            std::slice::from_ref(command),
        )
    }

    /// Whether an effect has to go through `sudo` or `doas`.
    fn needs_help(&self, authority: Authority) -> bool {
        authority == Authority::Root && self.user.uid != 0
    }
}

impl Commands for RealHost {
    fn run(&self, command: &Command) -> Result<Output, CommandError> {
        let output = self.run_once(command)?;
        let program = self.privilege().program();
        let program = program.filter(|_| command.authority == Authority::Root);
        if program.is_some_and(|program| may_be_refusal(&output, program)) {
            // A command runs again only if there was a question: it did not run then.
            if self.ask_again(command).unwrap_or(false) {
                return self.run_once(command);
            }
        }
        Ok(output)
    }

    fn begin(&self, commands: &[Command]) {
        self.runner.begin(commands);
    }

    fn end_begun(&self, commands: &[Command]) -> Result<(), CommandError> {
        self.runner.end_begun(commands)
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

    fn privilege(&self) -> Privilege {
        self.runner.root().privilege()
    }

    fn prove_root(&self, purpose: &str, commands: &[Command]) -> anyhow::Result<RootProof> {
        let run = |commands: &[Command]| self.run_all(commands);
        self.runner.root().prove(&run, purpose, commands)
    }

    fn root_questions(&self, commands: &[Command]) -> Result<Vec<Command>, CommandError> {
        let run = |commands: &[Command]| self.run_all(commands);
        self.runner.root().questions(&run, commands)
    }

    fn acquire_root(&self, purpose: &str, commands: &[Command]) -> anyhow::Result<()> {
        let run = |commands: &[Command]| self.run_all(commands);
        let root = self.runner.root();
        root.acquire(&run, &self.interrupts, purpose, commands)?;
        Ok(())
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
        let command = host_lock::command(path);
        let words = self.runner.root().start(&command).words;
        let take =
            || host_lock::take_through(&words, path, holder, waits, &|| self.check_interrupt());
        let program = words.first().map_or("", String::as_str);
        match take() {
            // It may be the first after the password was forgotten.
            Err(error) if is_from(&error, program) => {
                if self.ask_again(&command)? {
                    take()
                } else {
                    Err(error)
                }
            }
            taken => taken,
        }
    }
}

impl Files for RealHost {
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

    fn read_end(&self, home: &Path, file: &Path, bytes: u64) -> io::Result<FileEnd> {
        untrusted::read_end(home, file, bytes)
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
        let staging = files::staging(&self.user.uid.to_string());
        let staged = files::staged(&staging, path);
        let _staging = files::make_staging(&staging)?;
        files::write_atomically(&staged, content, 0o600)?;
        for command in files::put_in_place(&staged, path, mode) {
            self.expect(&command)?;
        }
        Ok(())
    }

    fn create_dir(&self, path: &Path, mode: u32, authority: Authority) -> anyhow::Result<()> {
        if !self.needs_help(authority) {
            return files::create_dir(path, mode)
                .with_context(|| format!("cannot make {}", path.display()));
        }
        self.expect(&files::mkdir(path, mode))?;
        Ok(())
    }

    fn remove_file(&self, path: &Path, authority: Authority) -> anyhow::Result<()> {
        if !self.needs_help(authority) {
            return files::remove(path);
        }
        self.expect(&files::rm(path))?;
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
        self.expect(&files::rmdir(path))?;
        Ok(())
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        files::file_system(path)
    }

    fn is_writable(&self, dir: &Path) -> bool {
        nix::unistd::access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
    }

    fn try_socket(&self, dir: &Path) -> anyhow::Result<()> {
        socket::try_in(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<LockAttempt> {
        lock_file::acquire(path, holder)
    }
}

impl Environment for RealHost {
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

    fn own_program(&self) -> Option<PathBuf> {
        std::env::current_exe().ok()
    }
}

impl Net for RealHost {
    fn probe_tcp(&self, host: &str, port: u16, timeout: Duration) -> Result<(), ProbeError> {
        let probed = network::probe(host, port, timeout, &self.interrupts);
        self.check_interrupt()?;
        Ok(probed?)
    }

    fn resolve(&self, name: &str, port: u16, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
        network::resolve(name, port, timeout, &self.interrupts)
    }

    fn connect(&self, address: SocketAddr, timeout: Duration) -> io::Result<Box<dyn Connection>> {
        network::connect(address, timeout, &self.interrupts)
    }

    fn http(&self, request: http::Request) -> Result<http::Response, http::HttpError> {
        self.http.send(request, &|| self.check_interrupt())
    }

    fn begin_http(&self, request: &http::Request) {
        self.http.begin(request);
    }
}

impl RunControl for RealHost {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        self.interrupts.sleep(time)
    }

    fn check_interrupt(&self) -> Result<(), Interrupted> {
        self.interrupts.check()
    }

    fn ignore_hangup(&self) {
        self.interrupts.ignore_hangup();
    }

    fn hold_interrupts(&self, hold: bool) {
        self.interrupts.hold(hold);
    }

    fn log(&self) -> &RunLog {
        &self.log
    }
}

impl Prompts for RealHost {
    fn has_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    fn yes_or_no(&self, question: &str, default: bool) -> anyhow::Result<Option<bool>> {
        Terminal::open(&|| self.check_interrupt())
            .map(|terminal| terminal.yes_or_no(question, default))
            .transpose()
    }

    fn ask(&self, question: &str, secret: bool) -> anyhow::Result<Option<String>> {
        Terminal::open(&|| self.check_interrupt())
            .map(|terminal| terminal.line(question, secret))
            .transpose()
    }

    fn choose(&self, question: &str, choices: &[String]) -> anyhow::Result<Option<Option<usize>>> {
        Terminal::open(&|| self.check_interrupt())
            .map(|terminal| terminal.choice(question, choices))
            .transpose()
    }
}

/// Whether sudo or doas may have refused to run a command. Their words differ, so that they are asked once
/// more whether they allow it.
fn may_be_refusal(output: &Output, program: &str) -> bool {
    output.status == 1 && output.stdout.is_empty() && output.stderr.contains(program)
}

/// The same of the lock of the host.
fn is_from(error: &anyhow::Error, program: &str) -> bool {
    let said = error.downcast_ref::<host_lock::NotBegun>();
    said.is_some_and(|host_lock::NotBegun(said)| said.contains(program))
}

fn current_user() -> anyhow::Result<User> {
    let uid = Uid::effective();
    let entry = nix::unistd::User::from_uid(uid)
        .context("the user database cannot be read")?
        .with_context(|| format!("user id {uid} has no name on this host"))?;
    let sudo_user = std::env::var("SUDO_USER")
        .ok()
        .filter(|name| !name.is_empty());
    // $HOME counts where it is set, as it does for ssh-keygen and every other tool of the shell. Some sudo
    // leaves it as it is, and root takes nobody's home for its own.
    let is_by_sudo = uid.is_root() && sudo_user.is_some();
    let home = std::env::var_os("HOME")
        .filter(|home| !is_by_sudo && !home.is_empty())
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
        sudo_user,
    })
}
