//! What was looked at before anything is changed or promised, and what could not be: for the person who
//! decides, since a proof that could not be made is no proof.

use serde::Serialize;

/// What the steps of a plan have proved, in their order.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proofs {
    /// What holds.
    pub seen: Vec<String>,
    /// What may yet turn out not to hold.
    pub unseen: Vec<Unseen>,
}

/// Something that could not be looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    pub what: String,
    /// Why it could not.
    pub why: String,
}

impl Proofs {
    /// It was looked at, and holds.
    pub fn saw(&mut self, what: impl Into<String>) {
        add(&mut self.seen, what.into());
    }

    /// It could not be looked at.
    pub fn could_not_see(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let (what, why) = (what.into(), why.into());
        add(&mut self.unseen, Unseen { what, why });
    }

    /// As a person reads it; `sign` stands before what holds.
    pub fn lines(&self, sign: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.seen.is_empty() {
            lines.push("Looked at on this host:".to_owned());
            lines.extend(self.seen.iter().map(|what| format!("     {sign} {what}")));
        }
        if !self.unseen.is_empty() {
            lines.push("Not known before it is done:".to_owned());
            let unseen = self.unseen.iter();
            lines.extend(unseen.map(|unseen| format!("     ? {}: {}", unseen.what, unseen.why)));
        }
        lines
    }
}

/// Several steps may need the same.
fn add<T: PartialEq>(list: &mut Vec<T>, new: T) {
    if !list.contains(&new) {
        list.push(new);
    }
}
