//! A check, and those that are made.

use serde::Serialize;

use crate::bastion::failure::Interrupted;
use crate::bastion::host::{Host, as_callable, own_name};
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::TunnelId;

/// The longest detail in characters; what others wrote may be longer.
const LONGEST_TEXT: usize = 400;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All is well.
    Pass,
    /// Something has to be done.
    Fail,
    /// It could not be looked at, or does not apply; the detail says why.
    Skip,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen; for a skipped check, why it was.
    pub detail: String,
    /// The one thing to do about a failure.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn pass(detail: impl Into<String>) -> Self {
        Finding {
            outcome: Outcome::Pass,
            detail: detail.into(),
            remedy: None,
        }
    }

    /// Something has to be done.
    pub fn fail(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding {
            outcome: Outcome::Fail,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// It could not be looked at, or does not apply.
    pub fn skip(reason: impl Into<String>) -> Self {
        Finding {
            outcome: Outcome::Skip,
            detail: reason.into(),
            remedy: None,
        }
    }
}

/// What is examined: how checks are grouped for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its name: `This host`, `Tunnel server tunnel.example:50022`.
    pub title: String,
    /// The tunnel, where it is one's own.
    pub tunnel: Option<TunnelName>,
}

impl Subject {
    /// Something that all tunnels share.
    pub fn shared(title: impl Into<String>) -> Self {
        Subject {
            title: title.into(),
            tunnel: None,
        }
    }

    /// The same for one tunnel.
    pub fn of(&self, tunnel: TunnelName) -> Self {
        Subject {
            title: self.title.clone(),
            tunnel: Some(tunnel),
        }
    }
}

/// A check that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Its name; names stay the same from version to version.
    pub name: &'static str,
    /// What was examined, for people.
    pub subject: String,
    /// The tunnel it is about, where it is about one.
    pub tunnel: Option<TunnelId>,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen; for a skipped check, why it was.
    pub detail: String,
    /// The one thing to do about a failure.
    pub remedy: Option<String>,
    /// How long it took.
    pub milliseconds: u64,
}

/// Whoever watches the checks.
pub trait Watcher {
    /// A check begins; `waits_for` is said where it may take more than a moment.
    fn begins(&self, waits_for: &str);

    fn ends(&self, check: &Check);
}

/// The checks, as they are made.
pub struct Checks<'a> {
    /// The host that is examined.
    pub host: &'a dyn Host,
    watcher: &'a dyn Watcher,
    made: Vec<Check>,
}

impl<'a> Checks<'a> {
    /// None yet.
    pub fn new(host: &'a dyn Host, watcher: &'a dyn Watcher) -> Self {
        Checks {
            host,
            watcher,
            made: Vec::new(),
        }
    }

    /// Makes a check and returns how it came out.
    ///
    /// # Errors
    /// The run was interrupted; a check that was cut short is not kept.
    pub fn run(
        &mut self,
        name: &'static str,
        subject: &Subject,
        waits_for: &str,
        look: impl FnOnce(&dyn Host) -> Finding,
    ) -> Result<Outcome, Interrupted> {
        self.host.check_interrupt()?;
        self.watcher.begins(waits_for);
        let begun = self.host.uptime();
        let finding = look(self.host);
        self.host.check_interrupt()?;
        let taken = self.host.uptime().saturating_sub(begun);
        let check = Check {
            name,
            subject: subject.title.clone(),
            tunnel: subject.tunnel.and_then(TunnelName::number),
            outcome: finding.outcome,
            detail: printable(&finding.detail),
            remedy: finding
                .remedy
                .map(|remedy| printable(&as_callable(&remedy, &own_name(self.host)))),
            milliseconds: u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
        };
        self.watcher.ends(&check);
        let outcome = check.outcome;
        self.made.push(check);
        Ok(outcome)
    }

    /// Notes that checks were not made, and why.
    pub fn skip(
        &mut self,
        names: &[&'static str],
        subject: &Subject,
        reason: &str,
    ) -> Result<(), Interrupted> {
        for name in names {
            self.run(name, subject, "", |_| Finding::skip(reason))?;
        }
        Ok(())
    }

    /// The checks that were made, in their order.
    pub fn into_results(self) -> Vec<Check> {
        self.made
    }
}

/// One line without what would move a terminal's cursor, since servers and logs have their words in it.
pub fn printable(text: &str) -> String {
    let line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_TEXT + 1)
        .collect();
    if line.chars().count() > LONGEST_TEXT {
        let cut: String = line.chars().take(LONGEST_TEXT).collect();
        return format!("{cut}...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_move_the_cursor_nor_fill_the_screen() {
        assert_eq!(printable("a\x1b[2Jb\nc\n"), "a [2Jb c");
        assert_eq!(
            printable(&"x".repeat(10_000)).chars().count(),
            LONGEST_TEXT + 3
        );
    }
}
