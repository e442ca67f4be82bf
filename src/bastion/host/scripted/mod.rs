//! A host in memory for tests: files that are a map, and commands whose answers a test has written
//! down. A command nobody expected fails the test.

mod commands;
mod files;
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
use super::{Connection, Environment, Host, Net, ProbeError, Prompts, RunControl, User};
use crate::bastion::failure::Interrupted;
pub use files::Snapshot;
pub use listener::Listener;

use commands::{Expected, Handler};
use files::Entry;

const UID: u32 = 1000;

/// Made by [`ScriptedHost::new`]; its default has no user.
#[derive(Default)]
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
    without_sockets: RefCell<Vec<PathBuf>>,
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
    dies_at: Cell<usize>,
    tears: Cell<bool>,
    is_interrupted: Cell<bool>,
    holds_interrupts: Cell<bool>,
}

/// What the web answers.
type Web = Box<dyn Fn(&ScriptedHost, &http::Request) -> Result<http::Response, http::HttpError>>;

impl ScriptedHost {
    /// A host with a home folder and nothing else.
    pub fn new() -> Self {
        let host = ScriptedHost {
            user: User {
                name: "ada".to_owned(),
                uid: UID,
                home: "/home/ada".into(),
                sudo_user: None,
            },
            ..ScriptedHost::default()
        };
        for dir in ["/", "/home", "/home/ada"] {
            host.put_dir(Path::new(dir));
        }
        host
    }

    /// The same for root.
    pub fn as_root() -> Self {
        let mut host = Self::new();
        host.user.name = "root".to_owned();
        host.user.uid = 0;
        host.user.home = "/root".into();
        let home = Entry::Directory { mode: 0o700 };
        host.entries.borrow_mut().insert("/root".into(), home);
        host
    }

    /// Has another user at the keyboard from here on.
    pub fn log_in(&mut self, name: &str) {
        self.user.name = name.to_owned();
        self.user.home = Path::new("/home").join(name);
        self.put_dir(&self.user.home);
    }

    pub fn set_env(&self, name: &str, value: &str) {
        self.variables
            .borrow_mut()
            .insert(name.to_owned(), value.to_owned());
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

    /// The run is killed at the n-th effect from the beginning: neither that one nor any later one happens,
    /// and nobody answers its calls any more. 0 lets the next run live.
    pub fn die_at(&self, effect: usize) {
        self.dies_at.set(effect);
        self.tears.set(false);
    }

    /// The same, and where that effect writes a file, its new content stands beside it already.
    pub fn die_torn_at(&self, effect: usize) {
        self.dies_at.set(effect);
        self.tears.set(true);
    }

    fn is_torn(&self) -> bool {
        self.tears.get() && self.effects.get() == self.dies_at.get()
    }

    fn is_dead(&self) -> bool {
        (1..=self.effects.get()).contains(&self.dies_at.get())
    }

    pub fn effects(&self) -> usize {
        self.effects.get()
    }

    /// Counts an effect; returns whether it succeeds.
    fn begin_effect(&self) -> bool {
        let number = self.effects.get() + 1;
        self.effects.set(number);
        if number == self.interrupt_at.get() {
            self.is_interrupted.set(true);
        }
        number != self.fail_at.get() && !self.is_dead()
    }

    pub fn install(&self, program: &str) {
        self.programs.borrow_mut().push(program.to_owned());
    }

    pub fn uninstall(&self, program: &str) {
        self.programs.borrow_mut().retain(|known| known != program);
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
}

/// So that a test calls what the host can do without naming the trait that has it.
impl std::ops::Deref for ScriptedHost {
    type Target = dyn Host;

    fn deref(&self) -> &Self::Target {
        self
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
            Some(answer) if !self.is_dead() => answer(self, &request),
            _ => Err(http::HttpError::NoAnswer(anyhow::anyhow!(
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

    fn ignore_hangup(&self) {}

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
