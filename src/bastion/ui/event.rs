//! What a run has to say, whoever shows it. As JSON it is what `--json` prints.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::bastion::failure::Exit;
use crate::bastion::receipt::StepName;

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
    #[serde(rename = "step")]
    StepBegins {
        name: StepName,
        state: Started,
        #[serde(skip)]
        summary: &'a str,
    },
    /// A step has ended. Why it failed is said at the end of the run.
    #[serde(rename = "step")]
    StepEnds {
        name: StepName,
        #[serde(flatten)]
        ending: Ending<'a>,
        #[serde(rename = "seconds", serialize_with = "seconds_and_parts")]
        took: Duration,
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
        r#for: Save,
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

/// The state of a step that begins.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Started {
    Started,
}

/// What is waited for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Save {
    Save,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "lowercase")]
pub enum Ending<'a> {
    Done(&'a str),
    Unchanged(&'a str),
    Failed,
}

impl<'a> From<&'a Outcome> for Ending<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Changed(detail) => Ending::Done(detail),
            Outcome::AlreadyPresent(detail) => Ending::Unchanged(detail),
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

fn seconds_and_parts<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

fn code<S: Serializer>(exit: &Exit, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i32(*exit as i32)
}
