//! What the tests of package managers share.

use super::{PackageManager, Watcher, of_kind, yum::Yum};
use crate::bastion::facts::PackageManagerKind;
use crate::bastion::host::scripted::ScriptedHost;

/// The package manager of this version of a distribution.
pub fn manager_of(
    kind: PackageManagerKind,
    distribution: &str,
    version: &str,
) -> Box<dyn PackageManager> {
    of_kind(kind, |program| Yum::new(program, distribution, version))
}

/// The host runs these commands, one after another, each with its status, standard output and standard
/// error.
pub fn answers(host: &ScriptedHost, commands: &[(&str, i32, &str, &str)]) {
    for (begins, status, stdout, stderr) in commands {
        host.expect(begins, *status, stdout, stderr);
    }
}

/// A watcher that keeps what it is told.
#[derive(Default)]
pub struct Witness {
    pub records: Vec<Vec<String>>,
    pub waits: Vec<String>,
    pub notes: Vec<String>,
    /// Nothing can be recorded.
    pub refuses: bool,
}

impl Watcher for Witness {
    fn record(&mut self, packages: Vec<String>, _: Vec<String>) -> anyhow::Result<()> {
        anyhow::ensure!(!self.refuses, "no space left");
        self.records.push(packages);
        Ok(())
    }

    fn waits_for(&mut self, what: &str) {
        self.waits.push(what.to_owned());
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}
