//! A host in memory for tests: files that are a map, and commands whose answers a test has written
//! down. A command nobody expected fails the test.

mod listener;
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::http;
use super::run_log::RunLog;
use super::{
    Authority, Command, CommandError, Commands, Connection, Environment, Files, Host, HostLock,
    Kind, LockAttempt, Net, Output, Privilege, ProbeError, Prompts, RunControl, Stat, User,
};
use crate::bastion::failure::{Failure, Interrupted};
pub use listener::Listener;

const UID: u32 = 1000;

/// What a command answers, and what it does to the files.
type Effect = Box<dyn Fn(&ScriptedHost)>;

struct Expected {
    begins: String,
    output: Output,
    effect: Option<Effect>,
}

/// A program that answers as often as it is run.
type Handler = Rc<dyn Fn(&ScriptedHost, &Command) -> Output>;

#[derive(Clone, PartialEq, Eq)]
enum Entry {
    File { content: Vec<u8>, mode: u32 },
    Directory { mode: u32 },
}

/// All files as they were at one moment, to be compared with another.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<PathBuf, Entry>);

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (path, entry) in &self.0 {
            match entry {
                Entry::Directory { mode } => writeln!(f, "{mode:o} {}/", path.display())?,
                Entry::File { content, mode } => {
                    let content = String::from_utf8_lossy(content);
                    writeln!(f, "{mode:o} {}: {content:?}", path.display())?;
                }
            }
        }
        Ok(())
    }
}

pub struct ScriptedHost {
    user: User,
    entries: RefCell<BTreeMap<PathBuf, Entry>>,
    expected: RefCell<Vec<Expected>>,
    ran: RefCell<Vec<String>>,
    clock: Cell<Duration>,
    programs: RefCell<Vec<String>>,
    log: RunLog,
    names: RefCell<BTreeMap<String, Vec<IpAddr>>>,
    listeners: RefCell<BTreeMap<SocketAddr, Listener>>,
    variables: RefCell<BTreeMap<String, String>>,
    web: RefCell<Option<Web>>,
    /// Whether the host's lock is held.
    lock: Rc<Cell<bool>>,
    unlocked: RefCell<Vec<PathBuf>>,
    handlers: RefCell<Vec<(String, Handler)>>,
    answers: RefCell<VecDeque<bool>>,
    refuses_root: Cell<bool>,
    /// How many effects there were: commands, and changes of files.
    effects: Cell<usize>,
    interrupt_at: Cell<usize>,
    fail_at: Cell<usize>,
    is_interrupted: Cell<bool>,
    holds_interrupts: Cell<bool>,
}

/// What the web answers.
type Web = Box<dyn Fn(&ScriptedHost, &http::Request) -> Result<http::Response, http::HttpError>>;

impl ScriptedHost {
    /// A host with a home folder and nothing else.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let host = ScriptedHost {
            user: User {
                name: "ada".to_owned(),
                uid: UID,
                home: "/home/ada".into(),
                sudo_user: None,
            },
            entries: RefCell::default(),
            expected: RefCell::default(),
            ran: RefCell::default(),
            clock: Cell::default(),
            programs: RefCell::default(),
            log: RunLog::default(),
            names: RefCell::default(),
            listeners: RefCell::default(),
            variables: RefCell::default(),
            web: RefCell::default(),
            lock: Rc::default(),
            unlocked: RefCell::default(),
            handlers: RefCell::default(),
            answers: RefCell::default(),
            refuses_root: Cell::default(),
            effects: Cell::default(),
            interrupt_at: Cell::default(),
            fail_at: Cell::default(),
            is_interrupted: Cell::default(),
            holds_interrupts: Cell::default(),
        };
        for dir in ["/", "/home", "/home/ada"] {
            host.entries
                .borrow_mut()
                .insert(dir.into(), Entry::Directory { mode: 0o755 });
        }
        host
    }

    /// The same for root.
    pub fn as_root() -> Self {
        let mut host = Self::new();
        host.user.name = "root".to_owned();
        host.user.uid = 0;
        host
    }

    /// Has another user at the keyboard from here on.
    pub fn log_in(&mut self, name: &str) {
        self.user.name = name.to_owned();
        self.user.home = Path::new("/home").join(name);
        let home = Entry::Directory { mode: 0o755 };
        self.entries
            .borrow_mut()
            .insert(self.user.home.clone(), home);
    }

    /// What was changed as root while that lock was not held.
    pub fn changed_unlocked(&self) -> Vec<PathBuf> {
        self.unlocked.borrow().clone()
    }

    fn note_unlocked(&self, path: &Path, authority: Authority) {
        if authority == Authority::Root && !self.lock.get() {
            self.unlocked.borrow_mut().push(path.to_owned());
        }
    }

    /// Whose a path is: a home's user's, or root's.
    fn owner(&self, path: &Path) -> u32 {
        if path.starts_with("/home") { UID } else { 0 }
    }

    pub fn set_env(&self, name: &str, value: &str) {
        self.variables
            .borrow_mut()
            .insert(name.to_owned(), value.to_owned());
    }

    /// The next command has to begin like this; it ends with this status and these words.
    pub fn expect(&self, begins: &str, status: i32, stdout: &str, stderr: &str) {
        self.expected.borrow_mut().push(Expected {
            begins: begins.to_owned(),
            output: Output {
                status,
                stdout: stdout.to_owned(),
                stderr: stderr.to_owned(),
            },
            effect: None,
        });
    }

    /// The last expected command also does this.
    pub fn doing(&self, effect: impl Fn(&ScriptedHost) + 'static) {
        let mut expected = self.expected.borrow_mut();
        expected.last_mut().expect("a command to do it").effect = Some(Box::new(effect));
    }

    /// Every command that begins like this, as a person would type it, is answered by this function;
    /// the last one that was given comes first. What [`ScriptedHost::expect`] waits for comes before it.
    pub fn on(&self, begins: &str, answer: impl Fn(&ScriptedHost, &Command) -> Output + 'static) {
        let mut handlers = self.handlers.borrow_mut();
        handlers.insert(0, (begins.to_owned(), Rc::new(answer)));
    }

    /// Nobody grants this user the superuser's rights.
    pub fn refuse_root(&self) {
        self.refuses_root.set(true);
    }

    /// There is somebody at the terminal, who answers the next question so.
    pub fn answer(&self, yes: bool) {
        self.answers.borrow_mut().push_back(yes);
    }

    /// Somebody presses Ctrl-C at the n-th effect from the beginning; the first one has the number 1.
    /// A command is cut short by it before it has done anything, unless it is atomic; a change of a file
    /// is made.
    pub fn interrupt_at(&self, effect: usize) {
        self.interrupt_at.set(effect);
    }

    /// The n-th effect from the beginning fails: a command with status 1, a change of a file with an
    /// error.
    pub fn fail_at(&self, effect: usize) {
        self.fail_at.set(effect);
    }

    pub fn effects(&self) -> usize {
        self.effects.get()
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.entries.borrow().clone())
    }

    /// Counts an effect; returns whether it succeeds.
    fn begin_effect(&self) -> bool {
        let number = self.effects.get() + 1;
        self.effects.set(number);
        if number == self.interrupt_at.get() {
            self.is_interrupted.set(true);
        }
        number != self.fail_at.get()
    }

    fn change(&self, path: &Path, entry: Option<Entry>) -> anyhow::Result<()> {
        anyhow::ensure!(self.begin_effect(), "{}: no space left", path.display());
        let mut entries = self.entries.borrow_mut();
        match entry {
            Some(entry) => entries.insert(path.to_owned(), entry),
            None => entries.remove(path),
        };
        Ok(())
    }

    /// The output that was expected for this command, or a handler's.
    fn answer_to(&self, command: &Command, typed: &str) -> Output {
        let is_next = |next: &Expected| typed.starts_with(&next.begins);
        let is_expected = self.expected.borrow().first().is_some_and(is_next);
        if !is_expected {
            let handlers = self.handlers.borrow().clone();
            if let Some((_, answer)) = handlers
                .iter()
                .find(|(begins, _)| typed.starts_with(begins))
            {
                return answer(self, command);
            }
        }
        let mut queue = self.expected.borrow_mut();
        assert!(!queue.is_empty(), "nobody expected: {typed}");
        let next = queue.remove(0);
        drop(queue);
        assert!(is_expected, "expected: {}\nran:      {typed}", next.begins);
        if let Some(effect) = next.effect {
            effect(self);
        }
        next.output
    }

    pub fn install(&self, program: &str) {
        self.programs.borrow_mut().push(program.to_owned());
    }

    pub fn name(&self, name: &str, address: &str) {
        let address = address.parse().expect("an address");
        let mut names = self.names.borrow_mut();
        names.entry(name.to_owned()).or_default().push(address);
    }

    /// Puts something at a network address; where nothing was put, nothing listens.
    pub fn listen(&self, address: &str, listener: Listener) {
        let address = address.parse().expect("an address with a port");
        self.listeners.borrow_mut().insert(address, listener);
    }

    pub fn serve(
        &self,
        answer: impl Fn(&ScriptedHost, &http::Request) -> Result<http::Response, http::HttpError>
        + 'static,
    ) {
        self.web.replace(Some(Box::new(answer)));
    }

    /// The commands that ran, as a person would type them.
    pub fn ran(&self) -> Vec<String> {
        self.ran.borrow().clone()
    }

    pub fn paths(&self) -> Vec<String> {
        let entries = self.entries.borrow();
        entries
            .iter()
            .map(|(path, entry)| match entry {
                Entry::File { mode, .. } => format!("{mode:o} {}", path.display()),
                Entry::Directory { mode } => format!("{mode:o} {}/", path.display()),
            })
            .collect()
    }

    pub fn is_finished(&self) -> bool {
        self.expected.borrow().is_empty()
    }

    fn parent_exists(&self, path: &Path) -> bool {
        path.parent().is_some_and(|parent| {
            matches!(
                self.entries.borrow().get(parent),
                Some(Entry::Directory { .. })
            )
        })
    }
}

/// So that a test calls what the host can do without naming the trait that has it.
impl std::ops::Deref for ScriptedHost {
    type Target = dyn Host;

    fn deref(&self) -> &Self::Target {
        self
    }
}

impl Commands for ScriptedHost {
    fn run(&self, command: &Command) -> Result<Output, CommandError> {
        let typed = command.to_string();
        let succeeds = self.begin_effect();
        if !command.atomic {
            self.check_interrupt()?;
        }
        self.ran.borrow_mut().push(typed.clone());
        if succeeds {
            return Ok(self.answer_to(command, &typed));
        }
        Ok(Output {
            status: 1,
            stderr: "it was made to fail".to_owned(),
            ..Output::default()
        })
    }

    fn exec(&self, command: &Command) -> CommandError {
        CommandError::Start {
            command: command.to_string(),
            cause: io::ErrorKind::Unsupported.into(),
        }
    }

    fn which(&self, program: &str) -> Option<PathBuf> {
        let programs = self.programs.borrow();
        programs
            .iter()
            .any(|known| known == program)
            .then(|| Path::new("/usr/bin").join(program))
    }

    fn privilege(&self) -> Privilege {
        match self.user.uid {
            0 => Privilege::Root,
            _ => Privilege::Sudo,
        }
    }

    fn acquire_root(&self, purpose: &str, _: &[String]) -> anyhow::Result<()> {
        let refusal = || Failure::usage(format!("{purpose} requires root"), "ask for them");
        anyhow::ensure!(!self.refuses_root.get(), refusal());
        Ok(())
    }

    fn lock_host(
        &self,
        _: &Path,
        _: Authority,
        _: &str,
        _: &dyn Fn(&str),
    ) -> anyhow::Result<HostLock> {
        /// Lets go when it is dropped.
        struct Held(Rc<Cell<bool>>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        assert!(!self.lock.replace(true), "this run holds the lock already");
        Ok(HostLock::new(Held(Rc::clone(&self.lock))))
    }
}

impl Files for ScriptedHost {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.entries.borrow().get(path) {
            Some(Entry::File { content, .. }) => Ok(content.clone()),
            Some(Entry::Directory { .. }) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        Ok(self.entries.borrow().get(path).map(|entry| match entry {
            Entry::File { mode, .. } => Stat {
                kind: Kind::File,
                mode: *mode,
                uid: self.owner(path),
            },
            Entry::Directory { mode } => Stat {
                kind: Kind::Directory,
                mode: *mode,
                uid: self.owner(path),
            },
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.entries.borrow().contains_key(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let entries = self.entries.borrow();
        let inside = entries.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn read_at_most(&self, path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
        let mut content = self.read(path)?;
        content.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(content)
    }

    fn read_link(&self, _: &Path) -> io::Result<PathBuf> {
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn write(
        &self,
        path: &Path,
        content: &[u8],
        mode: u32,
        authority: Authority,
    ) -> anyhow::Result<()> {
        self.note_unlocked(path, authority);
        anyhow::ensure!(self.parent_exists(path), "no folder for {}", path.display());
        let content = content.to_vec();
        self.change(path, Some(Entry::File { content, mode }))
    }

    fn create_dir(&self, path: &Path, mode: u32, authority: Authority) -> anyhow::Result<()> {
        self.note_unlocked(path, authority);
        anyhow::ensure!(self.parent_exists(path), "no folder for {}", path.display());
        self.change(path, Some(Entry::Directory { mode }))
    }

    fn remove_file(&self, path: &Path, authority: Authority) -> anyhow::Result<()> {
        self.note_unlocked(path, authority);
        self.change(path, None)
    }

    fn remove_dir(&self, path: &Path, authority: Authority) -> anyhow::Result<()> {
        self.note_unlocked(path, authority);
        let is_empty = self.list(path).map_or(true, |names| names.is_empty());
        anyhow::ensure!(is_empty, "{} is not empty", path.display());
        self.change(path, None)
    }

    fn is_read_only(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn is_writable(&self, dir: &Path) -> bool {
        dir.starts_with(&self.user.home)
    }

    fn lock(&self, _: &Path, _: &str) -> io::Result<LockAttempt> {
        Ok(LockAttempt::Taken(None))
    }
}

impl Environment for ScriptedHost {
    fn env(&self, name: &str) -> Option<String> {
        self.variables.borrow().get(name).cloned()
    }

    fn user(&self) -> &User {
        &self.user
    }

    fn hostname(&self) -> String {
        "bastion".to_owned()
    }

    fn own_program(&self) -> Option<PathBuf> {
        None
    }
}

impl Net for ScriptedHost {
    fn probe_tcp(&self, _: &str, _: u16, _: Duration) -> Result<(), ProbeError> {
        Ok(())
    }

    fn resolve(&self, name: &str, port: u16, _: Duration) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = name.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        match self.names.borrow().get(name) {
            Some(addresses) => Ok(addresses
                .iter()
                .map(|address| SocketAddr::new(*address, port))
                .collect()),
            None => Err(io::Error::other("Name or service not known")),
        }
    }

    fn connect(&self, address: SocketAddr, _: Duration) -> io::Result<Box<dyn Connection>> {
        let listeners = self.listeners.borrow();
        listeners
            .get(&address)
            .unwrap_or(&Listener::Refuses)
            .connect()
    }

    fn http(&self, request: http::Request) -> Result<http::Response, http::HttpError> {
        match self.web.borrow().as_ref() {
            Some(answer) => answer(self, &request),
            None => Err(http::HttpError::NoAnswer(anyhow::anyhow!(
                "nothing listens there"
            ))),
        }
    }
}

impl RunControl for ScriptedHost {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        self.clock.get()
    }

    fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        self.check_interrupt()?;
        self.clock.set(self.clock.get() + time);
        Ok(())
    }

    fn check_interrupt(&self) -> Result<(), Interrupted> {
        let is_told = self.is_interrupted.get() && !self.holds_interrupts.get();
        if is_told {
            self.is_interrupted.set(false);
            return Err(Interrupted);
        }
        Ok(())
    }

    fn outlive_terminal(&self) {}

    fn hold_interrupts(&self, hold: bool) {
        self.holds_interrupts.set(hold);
    }

    fn log(&self) -> &RunLog {
        &self.log
    }
}

impl Prompts for ScriptedHost {
    fn has_terminal(&self) -> bool {
        !self.answers.borrow().is_empty()
    }

    fn yes_or_no(&self, _: &str, _: bool) -> anyhow::Result<Option<bool>> {
        Ok(self.answers.borrow_mut().pop_front())
    }

    fn ask(&self, _: &str, _: bool) -> anyhow::Result<Option<String>> {
        Ok(None)
    }

    fn choose(&self, _: &str, _: &[String]) -> anyhow::Result<Option<Option<usize>>> {
        Ok(None)
    }
}
