//! A host in memory for tests: files that are a map, and commands whose answers a test has written
//! down. A command nobody expected fails the test.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::run_log::RunLog;
use super::{Authority, Command, CommandError, Host, Kind, LockAttempt, Output, Stat, User};
use crate::bastion::failure::Interrupted;

const UID: u32 = 1000;

/// What a command answers, and what it does to the files.
type Effect = Box<dyn Fn(&ScriptedHost)>;

struct Expected {
    begins: String,
    output: Output,
    effect: Option<Effect>,
}

enum Entry {
    File { content: Vec<u8>, mode: u32 },
    Directory { mode: u32 },
}

/// A host in memory.
pub struct ScriptedHost {
    user: User,
    entries: RefCell<BTreeMap<PathBuf, Entry>>,
    expected: RefCell<Vec<Expected>>,
    ran: RefCell<Vec<String>>,
    clock: Cell<Duration>,
    programs: RefCell<Vec<String>>,
    log: RunLog,
    variables: RefCell<BTreeMap<String, String>>,
}

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
            variables: RefCell::default(),
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

    /// Sets a variable of the environment.
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

    /// Puts a program on PATH.
    pub fn install(&self, program: &str) {
        self.programs.borrow_mut().push(program.to_owned());
    }

    /// The commands that ran, as a person would type them.
    pub fn ran(&self) -> Vec<String> {
        self.ran.borrow().clone()
    }

    /// Every path with its permissions.
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

    /// Whether every expected command has run.
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

impl Host for ScriptedHost {
    fn run(&self, command: &Command) -> Result<Output, CommandError> {
        let typed = command.to_string();
        let mut queue = self.expected.borrow_mut();
        assert!(!queue.is_empty(), "nobody expected: {typed}");
        let next = queue.remove(0);
        drop(queue);
        assert!(
            typed.starts_with(&next.begins),
            "expected: {}\nran:      {typed}",
            next.begins
        );
        self.ran.borrow_mut().push(typed);
        if let Some(effect) = next.effect {
            effect(self);
        }
        Ok(next.output)
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
                uid: UID,
            },
            Entry::Directory { mode } => Stat {
                kind: Kind::Directory,
                mode: *mode,
                uid: UID,
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

    fn write(&self, path: &Path, content: &[u8], mode: u32, _: Authority) -> anyhow::Result<()> {
        anyhow::ensure!(self.parent_exists(path), "no folder for {}", path.display());
        let content = content.to_vec();
        self.entries
            .borrow_mut()
            .insert(path.to_owned(), Entry::File { content, mode });
        Ok(())
    }

    fn create_dir(&self, path: &Path, mode: u32, _: Authority) -> anyhow::Result<()> {
        anyhow::ensure!(self.parent_exists(path), "no folder for {}", path.display());
        self.entries
            .borrow_mut()
            .insert(path.to_owned(), Entry::Directory { mode });
        Ok(())
    }

    fn remove_file(&self, path: &Path, _: Authority) -> anyhow::Result<()> {
        self.entries.borrow_mut().remove(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path, _: Authority) -> anyhow::Result<()> {
        let is_empty = self.list(path).map_or(true, |names| names.is_empty());
        anyhow::ensure!(is_empty, "{} is not empty", path.display());
        self.entries.borrow_mut().remove(path);
        Ok(())
    }

    fn is_writable(&self, dir: &Path) -> bool {
        dir.starts_with(&self.user.home)
    }

    fn own_program(&self) -> Option<PathBuf> {
        None
    }

    fn env(&self, name: &str) -> Option<String> {
        self.variables.borrow().get(name).cloned()
    }

    fn user(&self) -> &User {
        &self.user
    }

    fn hostname(&self) -> String {
        "bastion".to_owned()
    }

    fn probe_tcp(&self, _: &str, _: u16, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        self.clock.get()
    }

    fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        self.clock.set(self.clock.get() + time);
        Ok(())
    }

    fn check_interrupt(&self) -> Result<(), Interrupted> {
        Ok(())
    }

    fn outlive_terminal(&self) {}

    fn acquire_root(&self, _: &str, _: &[String]) -> anyhow::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path, _: &str) -> io::Result<LockAttempt> {
        Ok(LockAttempt::Taken(None))
    }

    fn hold_interrupts(&self, _: bool) {}

    fn has_terminal(&self) -> bool {
        false
    }

    fn yes_or_no(&self, _: &str, _: bool) -> anyhow::Result<Option<bool>> {
        Ok(None)
    }

    fn ask(&self, _: &str, _: bool) -> anyhow::Result<Option<String>> {
        Ok(None)
    }

    fn choose(&self, _: &str, _: &[String]) -> anyhow::Result<Option<Option<usize>>> {
        Ok(None)
    }

    fn log(&self) -> &RunLog {
        &self.log
    }
}
