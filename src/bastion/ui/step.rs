//! A step as the person who watches sees it.

use std::fmt;

use serde::Serialize;

use crate::bastion::receipt::StepName;

/// A step of a plan, before it is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// Its name.
    pub name: StepName,
    /// What it does, in one line.
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
