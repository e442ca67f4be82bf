//! The superuser's rights for single commands: asked about, asked for, and refused with what can be done.
//!
//! What sudo and doas allow, they are asked themselves, by their exit status, or by the rules that sudo lists in its
//! own notation: their words differ between versions and kinds, and are passed on as they are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::interrupts::Interrupts;
use super::privilege::{Privilege, Started};
use super::{Authority, Command, CommandError, Output, User};
use super::{sudo_rules, terminal};
use crate::bastion::failure::Failure;
use crate::shell;

/// Where doas has its rules, on the systems that have it.
const DOAS_RULES: [&str; 2] = ["/etc/doas.conf", "/usr/local/etc/doas.conf"];

/// How long what was answered with yes is not asked again: rules stay, and each question takes some milliseconds.
const ANSWER_HOLDS: Duration = Duration::from_secs(10);

/// How long the answer holds that nothing is asked for. Whatever is refused in spite of it is asked about anew.
const SILENCE_HOLDS: Duration = Duration::from_secs(1);

/// Runs commands of this user's, side by side.
type Run<'a> = &'a dyn Fn(&[Command]) -> Vec<Result<Output, CommandError>>;

/// The way to the superuser's rights on this host.
pub struct Root {
    privilege: Privilege,
    user: String,
    /// The questions that were answered with yes, with the answers and when they were given.
    answers: RefCell<HashMap<Vec<String>, (Instant, Output)>>,
}

/// What is known of commands before one of them has run.
#[derive(Debug, PartialEq, Eq)]
pub enum RootProof {
    /// Each may be run, and nothing will be asked.
    Allowed,
    /// Each may be run, perhaps with a password.
    MayAsk,
    /// Each may be run, and some only with a password.
    Asks,
    /// It is not told, or not before there is a password: why.
    Untold(String),
}

impl Root {
    pub fn find(user: &User) -> Self {
        let privilege = if user.uid == 0 {
            Privilege::Root
        } else if which::which("sudo").is_ok() {
            Privilege::Sudo
        } else if which::which("doas").is_ok() {
            Privilege::Doas
        } else {
            Privilege::None
        };
        Root {
            privilege,
            user: user.name.clone(),
            answers: RefCell::default(),
        }
    }

    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Whether a program stands between this user and these rights.
    pub fn uses_sudo_or_doas(&self) -> bool {
        self.privilege.program().is_some()
    }

    /// A command with these rights, asking nothing.
    pub fn start(&self, command: &Command) -> Started {
        self.privilege
            .start(command, |name| std::env::var(name).ok())
    }

    /// Asks about each of these commands, and nobody for a password.
    pub fn prove(
        &self,
        run: Run,
        purpose: &str,
        commands: &[Command],
    ) -> anyhow::Result<RootProof> {
        let user = &self.user;
        match self.privilege {
            Privilege::Root => Ok(RootProof::Allowed),
            Privilege::Sudo => self.prove_by_sudo(run, purpose, commands),
            Privilege::Doas => self.prove_by_doas(run, purpose, commands),
            Privilege::None => bail!(refused(
                format!("{purpose} requires root, and neither sudo nor doas is installed"),
                format!("install sudo and let {user} use it"),
                commands.iter().map(Command::to_string),
            )),
        }
    }

    /// What [`Root::prove`] will ask about these commands, and was not answered yet.
    pub fn questions(&self, run: Run, commands: &[Command]) -> Result<Vec<Command>, CommandError> {
        let rules = asking_sudo(&["-l"]);
        let mut questions = match self.privilege {
            // Of somebody whom it tells nothing, it is asked nothing more: it notes every question that it refuses.
            Privilege::Sudo => match self.ask(run, rules)? {
                rules if !rules.success() => Vec::new(),
                rules if sudo_rules::allow_everything(&rules.stdout) => vec![self.silent()],
                _ => {
                    let about = commands.iter().map(|command| self.about(command));
                    about.chain([self.silent()]).collect()
                }
            },
            _ => Vec::new(),
        };
        let answers = self.answers.borrow();
        questions.retain(|question| !answers.contains_key(&self.start(question).words));
        Ok(questions)
    }

    /// Makes sure that commands can have these rights, by a question at the terminal if need be; returns
    /// whether it was asked.
    pub fn acquire(
        &self,
        run: Run,
        interrupts: &Interrupts,
        purpose: &str,
        commands: &[Command],
    ) -> anyhow::Result<bool> {
        self.forget_silence(SILENCE_HOLDS);
        let before = self.prove(run, purpose, commands)?;
        let Some(program) = self.privilege.program() else {
            return Ok(false);
        };
        if before == RootProof::Allowed || self.is_silent(run)? {
            return Ok(false);
        }
        let is_given = self.ask_for_password(purpose);
        interrupts.check()?;
        let user = &self.user;
        let shown = || commands.iter().map(|command| self.shown(command));
        if is_given {
            // A policy may forget the password at once (`timestamp_timeout=0`), and no command would run.
            if self.is_silent(run)? {
                self.prove(run, purpose, commands)?;
                return Ok(true);
            }
            let output = self.ask(run, self.silent())?;
            let remembers = match self.privilege {
                Privilege::Doas => format!("write `permit persist {user}` into its rules"),
                _ => format!("set timestamp_timeout to more than 0 for {user}"),
            };
            let failure = refused(
                format!(
                    "{purpose} requires root, and {program} does not remember {user}'s password"
                ),
                format!(
                    "let {user} use {program} without a password for the time of the run, or {remembers}"
                ),
                shown(),
            );
            return Err(failure
                .because(status_error(self.silent_words(), output))
                .into());
        }
        let has_terminal = terminal::is_there();
        let (what, remedy) = match before {
            // Perhaps nobody has to be asked.
            RootProof::MayAsk if !has_terminal => return Ok(false),
            RootProof::Asks if !has_terminal => (
                format!("{program} asks {user} for a password, and there is no terminal"),
                format!("run it at a terminal, or let {user} use {program} without a password"),
            ),
            _ => (
                format!("{program} does not let {user} have it"),
                format!("let {user} use {program} (`{program} true` tries it)"),
            ),
        };
        let failure = refused(
            format!("{purpose} requires root, and {what}"),
            remedy,
            shown(),
        );
        Err(match before {
            // At a terminal, it was asked after that and has said why itself.
            RootProof::Untold(said) if !has_terminal => failure.because(anyhow::anyhow!(said)),
            _ => failure,
        }
        .into())
    }

    /// Has it asked anew whether nothing is asked for, where that is longer ago than this: rules stay for a moment; a
    /// password may be forgotten at any.
    pub fn forget_silence(&self, older_than: Duration) {
        let silent = self.silent_questions();
        let silent = silent.iter().map(|question| self.start(question).words);
        let silent: Vec<Vec<String>> = silent.collect();
        let mut answers = self.answers.borrow_mut();
        answers.retain(|words, (at, _)| !silent.contains(words) || at.elapsed() < older_than);
    }

    /// One question at the terminal, if there is one and it helps; whether it was answered rightly. The
    /// password never passes through this program.
    pub fn ask_for_password(&self, purpose: &str) -> bool {
        if !terminal::is_there() {
            return false;
        }
        let user = &self.user;
        let question = match self.privilege {
            Privilege::Sudo if takes_prompt() => {
                // Whose it is, sudo knows: root's, where its rules say so (`rootpw`).
                let prompt = format!("{purpose} requires root. Password of %p: ");
                duct::cmd("sudo", ["-v", "-p", &prompt])
            }
            Privilege::Sudo => {
                terminal::say(&format!("{purpose} requires root. sudo asks {user}:"));
                duct::cmd!("sudo", "-v")
            }
            Privilege::Doas => {
                terminal::say(&format!(
                    "{purpose} requires root. doas may ask for {user}'s password:"
                ));
                duct::cmd!("doas", "true")
            }
            Privilege::Root | Privilege::None => return false,
        };
        let asked = question.unchecked().run();
        asked.is_ok_and(|output| output.status.success())
    }

    /// sudo says of each command whether it may be run, without running it. Of whoever may run everything, that need
    /// not be asked.
    fn prove_by_sudo(
        &self,
        run: Run,
        purpose: &str,
        commands: &[Command],
    ) -> anyhow::Result<RootProof> {
        let rules = self.ask(run, asking_sudo(&["-l"]))?;
        if !rules.success() {
            return Ok(RootProof::Untold(rules.stderr.trim().to_owned()));
        }
        if sudo_rules::allow_everything(&rules.stdout) {
            return Ok(if self.is_silent(run)? {
                RootProof::Allowed
            } else {
                RootProof::Asks
            });
        }
        let questions = commands.iter().map(|command| self.about(command));
        let found = self.ask_all(run, &questions.collect::<Vec<_>>())?;
        let (mut denied, mut listed) = (Vec::new(), Vec::new());
        for (command, rule) in commands.iter().zip(found) {
            // Of a program that is not there yet, sudo says nothing.
            if !rule.success() && is_there(self.start(command).words.get(2)) {
                denied.push(command);
            }
            listed.push(rule.stdout);
        }
        if !denied.is_empty() {
            return Err(self.denied(purpose, &denied, rules.stdout.trim()).into());
        }
        if self.is_silent(run)? {
            return Ok(RootProof::Allowed);
        }
        let is_told = listed.iter().all(|rule| rule.trim().lines().count() > 1);
        if is_told && !listed.is_empty() {
            let asks = listed.iter().any(|rule| !rule.contains("!authenticate"));
            return Ok(if asks {
                RootProof::Asks
            } else {
                RootProof::Allowed
            });
        }
        // Where `true` may be run and is asked for, there is one rule for everything.
        let rule = self.ask(run, self.about(&self.silent()))?;
        Ok(if rule.success() {
            RootProof::Asks
        } else {
            RootProof::MayAsk
        })
    }

    /// The question to sudo about one command. The longer listing has, in newer versions, the rule that was found.
    fn about(&self, command: &Command) -> Command {
        let words = self.start(command).words;
        asking_sudo(&["-l", "-l"]).args(words.into_iter().skip(2))
    }

    fn ask(&self, run: Run, question: Command) -> Result<Output, CommandError> {
        let mut answers = self.ask_all(run, &[question])?;
        Ok(answers.remove(0))
    }

    /// Asks what was not answered with yes a moment ago.
    fn ask_all(&self, run: Run, questions: &[Command]) -> Result<Vec<Output>, CommandError> {
        let key = |question: &Command| self.start(question).words;
        let mut answers = self.answers.borrow().clone();
        answers.retain(|_, (at, _)| at.elapsed() < ANSWER_HOLDS);
        let unknown = questions.iter();
        let unknown = unknown.filter(|question| !answers.contains_key(&key(question)));
        let unknown: Vec<Command> = unknown.cloned().collect();
        for (question, answer) in unknown.iter().zip(run(&unknown)) {
            answers.insert(key(question), (Instant::now(), answer?));
        }
        let given = questions.iter();
        let given = given.map(|question| answers[&key(question)].1.clone());
        let given = given.collect();
        answers.retain(|_, (_, answer)| answer.success());
        self.answers.replace(answers);
        Ok(given)
    }

    /// doas says it only to those who can read its rules. Others learn it by running a command.
    fn prove_by_doas(
        &self,
        run: Run,
        purpose: &str,
        commands: &[Command],
    ) -> anyhow::Result<RootProof> {
        let Some(rules) = DOAS_RULES.into_iter().find(|rules| is_readable(rules)) else {
            let silent = self.ask(run, self.silent())?;
            return Ok(RootProof::Untold(if silent.success() {
                "doas has rules that only root can read".to_owned()
            } else {
                silent.stderr.trim().to_owned()
            }));
        };
        let mut denied = Vec::new();
        let mut forgetting = Vec::new();
        let mut asks = false;
        let questions = commands.iter().map(|command| {
            let words = self.start(command).words.into_iter().skip(2);
            Command::new("doas").args(["-C", rules]).args(words)
        });
        let found = self.ask_all(run, &questions.collect::<Vec<_>>())?;
        for (command, rule) in commands.iter().zip(found) {
            match rule.stdout.trim() {
                "permit nopass" => {}
                "permit persist" => asks = true,
                "permit" => forgetting.push(command),
                _ => denied.push(command),
            }
        }
        if !denied.is_empty() {
            let said = format!("doas: {rules} has no rule for it");
            return Err(self.denied(purpose, &denied, &said).into());
        }
        if !forgetting.is_empty() {
            let user = &self.user;
            let commands = forgetting.iter().map(|command| self.shown(command));
            bail!(refused(
                format!("{purpose} requires root, and doas does not remember {user}'s password"),
                format!("write `permit persist {user}` into {rules}"),
                commands,
            ));
        }
        Ok(if asks && !self.is_silent(run)? {
            RootProof::Asks
        } else {
            RootProof::Allowed
        })
    }

    /// Whether nothing is asked for now. Rules for some programs only do not let `true` run; others have a
    /// password for what is not needed here.
    fn is_silent(&self, run: Run) -> Result<bool, CommandError> {
        for question in self.silent_questions() {
            if self.ask(run, question)?.success() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Each succeeds only if nothing is asked.
    pub fn silent_questions(&self) -> Vec<Command> {
        let by_sudo = (self.privilege == Privilege::Sudo).then(|| asking_sudo(&["-v"]));
        std::iter::once(self.silent()).chain(by_sudo).collect()
    }

    fn silent(&self) -> Command {
        Command::new("true").with_authority(Authority::Root)
    }

    fn silent_words(&self) -> String {
        shell::join(self.start(&self.silent()).words)
    }

    fn shown(&self, command: &Command) -> String {
        self.privilege
            .shown(command, |name| std::env::var(name).ok())
    }

    fn denied(&self, purpose: &str, denied: &[&Command], said: &str) -> Failure {
        let user = &self.user;
        let program = self.privilege.program().unwrap_or_default();
        let first = denied.first().map(|command| self.shown(command));
        let first = first.unwrap_or_default();
        let failure = refused(
            format!("{purpose} requires root, and {program} does not let {user} run `{first}`"),
            format!("have it allowed in {program}'s rules"),
            denied.iter().map(|command| self.shown(command)),
        );
        failure.because(anyhow::anyhow!(said.to_owned()))
    }
}

/// A question to sudo itself, in the words of this program's language.
fn asking_sudo(options: &[&str]) -> Command {
    Command::new("sudo")
        .arg("-n")
        .args(options.iter().copied())
        .env("LC_ALL", "C")
}

/// Whether this sudo can be given the words of its question. The first versions of sudo-rs cannot.
fn takes_prompt() -> bool {
    let help = duct::cmd!("sudo", "-h")
        .env("LC_ALL", "C")
        .stderr_to_stdout();
    let help = help.unchecked().read();
    help.is_ok_and(|help| help.contains("--prompt"))
}

/// Whether a command's program can be found, as root or as this user.
fn is_there(program: Option<&String>) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:/usr/sbin:/sbin");
    program.is_some_and(|program| which::which_in(program, Some(path), "/").is_ok())
}

fn is_readable(file: &str) -> bool {
    std::fs::File::open(Path::new(file)).is_ok()
}

fn status_error(command: String, output: Output) -> CommandError {
    CommandError::Status {
        command,
        status: output.status,
        stderr: output.stderr,
        stdout: output.stdout,
    }
}

/// Nothing was changed; whoever has the rights sees what they are needed for.
fn refused(what: String, remedy: String, commands: impl Iterator<Item = String>) -> Failure {
    let shown: String = commands.map(|command| format!("\n    {command}")).collect();
    let next = if shown.is_empty() {
        format!("{remedy}, then run the same command again")
    } else {
        format!("{remedy}, then run the same command again. It is needed for:{shown}")
    };
    Failure::usage(what, next)
}
