//! Commands whose answers a test has written down.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::ScriptedHost;
use crate::bastion::failure::Failure;
use crate::bastion::host::{
    Authority, Command, CommandError, Commands, HostLock, Output, Privilege, RootProof,
    RunControl as _,
};

/// What a command answers, and what it does to the files.
type Effect = Box<dyn Fn(&ScriptedHost)>;

pub(super) struct Expected {
    begins: String,
    output: Output,
    effect: Option<Effect>,
}

/// A program that answers as often as it is run.
pub(super) type Handler = Rc<dyn Fn(&ScriptedHost, &Command) -> Output>;

impl ScriptedHost {
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

    /// The next commands have to begin like these, and succeed without a word.
    pub fn expect_all(&self, commands: &[&str]) {
        for command in commands {
            self.expect(command, 0, "", "");
        }
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

    /// The commands that ran, as a person would type them.
    pub fn ran(&self) -> Vec<String> {
        self.ran.borrow().clone()
    }

    pub fn is_finished(&self) -> bool {
        self.expected.borrow().is_empty()
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

    fn prove_root(&self, _: &str, _: &[Command]) -> anyhow::Result<RootProof> {
        Ok(RootProof::Allowed)
    }

    fn acquire_root(&self, purpose: &str, _: &[Command]) -> anyhow::Result<()> {
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
