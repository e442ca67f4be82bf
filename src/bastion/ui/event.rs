//! What a run has to say, whoever shows it. As JSON it is what `--json` prints.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::bastion::failure::Exit;
use crate::bastion::receipt::StepName;
use crate::bastion::steps::Proofs;

/// One thing that a run says.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    /// A remark that accompanies the run.
    Note { text: &'a str },
    /// What the person has to run from now on. It is part of what was asked for, so it goes to standard
    /// output, and `--quiet` does not leave it out.
    Command {
        #[serde(skip)]
        introduction: &'a str,
        commands: &'a [String],
    },
    /// What is about to be done; with every command where that is all that was asked for.
    Plan {
        #[serde(skip)]
        introduction: &'a str,
        steps: &'a [PlannedStep],
        #[serde(skip)]
        with_commands: bool,
    },
    /// What was looked at before, and what could not be, where only the plan was asked for.
    Proofs(&'a Proofs),
    /// A step begins or has ended.
    Step {
        name: StepName,
        #[serde(flatten)]
        state: StepProgress<'a>,
    },
    /// What the running step is about to do, where it takes more than a moment.
    Progress { text: &'a str },
    /// How far a download of the running step has come, in bytes.
    Download {
        what: &'a str,
        bytes: u64,
        #[serde(skip)]
        total: u64,
    },
    /// The person has to save the data source in the browser.
    Waiting {
        /// What the person is waited for: "save".
        r#for: &'static str,
        #[serde(rename = "seconds", serialize_with = "seconds")]
        at_most: Duration,
        #[serde(skip)]
        display_name: &'a str,
    },
    /// Commands that are good to know from now on, each with what it is for.
    #[serde(skip)]
    CommandsToKnow(&'a [(&'a str, String)]),
    /// The end of a run that did what it was asked for.
    Finished {
        #[serde(skip)]
        summary: &'a [String],
        result: serde_json::Value,
    },
    /// The end of a run that did not.
    Failed {
        error: &'a str,
        next: Option<&'a str>,
        #[serde(serialize_with = "code")]
        exit: Exit,
        log: Option<&'a Path>,
    },
    #[serde(skip)]
    Trace { command: &'a str, outcome: &'a str },
}

/// Where a step stands.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum StepProgress<'a> {
    Started {
        #[serde(skip)]
        summary: &'a str,
    },
    Done {
        detail: &'a str,
        seconds: f64,
    },
    Unchanged {
        detail: &'a str,
        seconds: f64,
    },
    /// Why is said at the end of the run.
    Failed {
        seconds: f64,
    },
}

impl<'a> StepProgress<'a> {
    /// The end of a step; it failed where it came to nothing.
    pub fn ended(outcome: Option<&'a Outcome>, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        match outcome {
            Some(Outcome::Changed(detail)) => StepProgress::Done { detail, seconds },
            Some(Outcome::AlreadyPresent(detail)) => StepProgress::Unchanged { detail, seconds },
            None => StepProgress::Failed { seconds },
        }
    }
}

/// A step of a plan, before it is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    pub name: StepName,
    pub summary: String,
    /// The commands it runs and the files it writes.
    pub commands: Vec<String>,
}

/// What a step came to, in a few words for the person who watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It changed something.
    Changed(String),
    /// It found everything as it has to be.
    AlreadyPresent(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Changed(detail) => f.write_str(detail),
            Outcome::AlreadyPresent(detail) => write!(f, "already there: {detail}"),
        }
    }
}

fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(time.as_secs())
}

fn code<S: Serializer>(exit: &Exit, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i32(*exit as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_read_how_far_a_step_is() {
        let of = |outcome: Option<Outcome>| {
            let state = StepProgress::ended(outcome.as_ref(), Duration::from_millis(1500));
            let name = StepName::KeyPair;
            serde_json::to_string(&Event::Step { name, state }).unwrap()
        };
        assert_eq!(
            of(Some(Outcome::Changed("made".to_owned()))),
            r#"{"event":"step","name":"key-pair","state":"done","detail":"made","seconds":1.5}"#
        );
        assert_eq!(
            of(None),
            r#"{"event":"step","name":"key-pair","state":"failed","seconds":1.5}"#
        );
        let started = Event::Step {
            name: StepName::KeyPair,
            state: StepProgress::Started { summary: "Make" },
        };
        assert_eq!(
            serde_json::to_string(&started).unwrap(),
            r#"{"event":"step","name":"key-pair","state":"started"}"#
        );
    }

    #[test]
    fn names_of_steps_stand_in_a_column() {
        assert_eq!(format!("{:<10}|", StepName::KeyPair), "key-pair  |");
    }
}
