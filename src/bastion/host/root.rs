//! The superuser's rights for single commands: found, asked for, and refused with what can be done.

use anyhow::bail;

use super::interrupts::Interrupts;
use super::privilege::{Privilege, Started};
use super::terminal;
use super::{Authority, Command, CommandError, Output, User};
use crate::bastion::failure::Failure;

/// The way to the superuser's rights on this host.
pub struct Root {
    privilege: Privilege,
    user: String,
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
        }
    }

    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// Whether a program stands between this user and these rights.
    pub fn uses_sudo_or_doas(&self) -> bool {
        matches!(self.privilege, Privilege::Sudo | Privilege::Doas)
    }

    /// A command with these rights, asking nothing.
    pub fn start(&self, command: &Command) -> Started {
        self.privilege
            .start(command, |name| std::env::var(name).ok())
    }

    /// Makes sure that commands can have these rights, by a question at the terminal if need be; returns
    /// whether it was asked.
    pub fn acquire(
        &self,
        run: &dyn Fn(&Command) -> Result<Output, CommandError>,
        interrupts: &Interrupts,
        purpose: &str,
        commands: &[String],
    ) -> anyhow::Result<bool> {
        let user = &self.user;
        let program = match self.privilege {
            Privilege::Root => return Ok(false),
            Privilege::Sudo => "sudo",
            Privilege::Doas => "doas",
            Privilege::None => bail!(refused(
                format!("{purpose} requires root, and neither sudo nor doas is installed"),
                format!("install sudo and let {user} use it"),
                commands,
            )),
        };
        let silent = Command::new("true").with_authority(Authority::Root);
        let refusal = run(&silent)?;
        if refusal.success() {
            return Ok(false);
        }
        let is_given = self.ask_for_password(purpose);
        interrupts.check()?;
        if is_given {
            // A policy may forget the password at once (`timestamp_timeout=0`), and no command would run.
            let output = run(&silent)?;
            if output.success() {
                return Ok(true);
            }
            let failure = refused(
                format!(
                    "{purpose} requires root, and {program} does not remember {user}'s password"
                ),
                format!(
                    "let {user} use {program} without a password for the time of the run, or set \
                     timestamp_timeout to more than 0 for {user}"
                ),
                commands,
            );
            return Err(failure.because(status_error(&silent, output)).into());
        }
        let failure = refused(
            format!("{purpose} requires root, and {program} does not let {user} have it"),
            format!("let {user} use {program} (`{program} true` tries it)"),
            commands,
        );
        Err(failure.because(status_error(&silent, refusal)).into())
    }

    /// One question at the terminal, if there is one and it helps; whether it was answered rightly.
    pub fn ask_for_password(&self, purpose: &str) -> bool {
        if self.privilege != Privilege::Sudo || !terminal::is_there() {
            return false;
        }
        // sudo reads the password from the terminal itself; it never passes through this program.
        // Whose it is, sudo knows: root's, where its rules say so (`rootpw`).
        let prompt = format!("{purpose} requires root. Password of %p: ");
        let asked = duct::cmd("sudo", ["-v", "-p", &prompt]).unchecked().run();
        asked.is_ok_and(|output| output.status.success())
    }
}

fn status_error(command: &Command, output: Output) -> CommandError {
    CommandError::Status {
        command: command.to_string(),
        status: output.status,
        stderr: output.stderr,
        stdout: output.stdout,
    }
}

/// Nothing was changed; whoever has the rights sees what they are needed for.
fn refused(what: String, remedy: String, commands: &[String]) -> Failure {
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
