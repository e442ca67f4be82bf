//! How a run ends: exit codes, and failures that say what to do next.
//!
//! Most errors are plain `anyhow` chains. A [`Failure`] joins the chain where the exit code or the
//! advice depends on what went wrong; the first one found from the outside decides.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done, or held already.
    Done = 0,
    /// It failed. What was done before is kept and recorded, or nothing was begun.
    Failed = 1,
    /// Wrong usage, or an answer is needed and there is no terminal to ask on.
    Usage = 2,
    /// It failed, and everything this run had changed on the host was undone.
    RolledBack = 3,
    /// Part of it is done; the rest was listed.
    Partly = 4,
    CannotTell = 5,
    /// Interrupted, and brought back to a state that the next run resumes.
    Interrupted = 130,
}

/// An error that knows the next thing to do.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// What failed, in one sentence without a full stop.
    pub what: String,
    pub next: String,
    /// How the run ends because of it.
    pub exit: Exit,
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure that ends the run with [`Exit::Failed`].
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Failure {
            what: what.into(),
            next: next.into(),
            exit: Exit::Failed,
            cause: None,
        }
    }

    /// A failure of usage, [`Exit::Usage`].
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Failure {
            exit: Exit::Usage,
            ..Failure::new(what, next)
        }
    }

    /// The same failure with its cause.
    pub fn because(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Failure {
            cause: Some(cause.into()),
            ..self
        }
    }
}

/// The user, or the system in the user's name, asked the run to stop.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

pub fn is_interruption(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Interrupted>())
}

/// Whether the same command goes on from where this error stopped it, so that nothing is to be undone.
pub fn is_resumable(error: &anyhow::Error) -> bool {
    find(error).is_some_and(|failure| failure.exit == Exit::Partly)
}

pub fn exit_of(error: &anyhow::Error) -> Exit {
    if is_interruption(error) {
        return Exit::Interrupted;
    }
    find(error).map_or(Exit::Failed, |failure| failure.exit)
}

pub fn advice_of(error: &anyhow::Error) -> Option<&str> {
    find(error).map(|failure| failure.next.as_str())
}

fn find(error: &anyhow::Error) -> Option<&Failure> {
    // A context may itself be a `Failure`; `downcast_ref` sees contexts, the chain sees causes.
    error.downcast_ref::<Failure>().or_else(|| {
        error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Failure>())
    })
}

/// An error's chain on one line, outermost first.
pub struct OneLine<'a>(pub &'a anyhow::Error);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<String> = Vec::new();
        for cause in self.0.chain() {
            let text = cause.to_string();
            // Libraries often repeat their cause in their own text.
            if !said.iter().any(|earlier| earlier.contains(&text)) {
                said.push(text);
            }
        }
        f.write_str(&said.join(": "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::host::CommandError;
    use anyhow::Context as _;

    #[test]
    fn a_command_that_was_interrupted_interrupts_the_run() {
        let ran: Result<(), CommandError> = Err(Interrupted.into());
        let error = ran.context("making the key").unwrap_err();
        assert_eq!(exit_of(&error), Exit::Interrupted);
        assert_eq!(OneLine(&error).to_string(), "making the key: interrupted");
    }
}
