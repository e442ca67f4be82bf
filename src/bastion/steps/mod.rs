//! The steps of a setup, one file each. A step is the unit of reversion.
//!
//! `apply` makes sure of a state: it looks first and changes only what is missing, so running it
//! again after a run that died is safe. Each step's file also holds its `revert`, which works from
//! the recorded changes alone, since a removal has no plan.
//!
//! To add one: a file beside this one with a type that implements [`Step`] and a function `revert`,
//! a variant of [`StepName`] (in `receipt`) with its line in [`revert`], and its place in `plan`.

pub mod autossh;
pub mod directory;
pub mod enrollment;
pub mod foreground;
pub mod key_pair;
pub mod packages;
pub mod service;
pub mod service_tunnel;
pub mod temporary_tunnel;
pub mod wait_for_save;

use super::changes::Change;
use super::host::Host;
use super::receipt::Scope;
pub use super::receipt::StepName;
use super::session::{Session, Work};
pub use super::ui::{Outcome, PlannedStep};

/// One step of a plan.
pub trait Step {
    /// Its name.
    fn name(&self) -> StepName;

    /// For what it works.
    fn scope(&self) -> Scope;

    /// What it does, in one line.
    fn summary(&self) -> String;

    /// The commands it runs and the files it writes, for the person who decides.
    fn commands(&self) -> Vec<String>;

    /// How a plan shows it.
    fn planned(&self) -> PlannedStep {
        PlannedStep {
            name: self.name(),
            summary: self.summary(),
            commands: self.commands(),
        }
    }

    /// Whether it needs the superuser's rights.
    fn needs_root(&self) -> bool {
        false
    }

    /// Looks for what would make this step fail, before anything is changed.
    ///
    /// # Errors
    /// What stands in the way, and how to remove it.
    fn check(&self, _host: &dyn Host) -> anyhow::Result<()> {
        Ok(())
    }

    /// Makes sure of the state this step stands for.
    ///
    /// # Errors
    /// What went wrong, with the next thing to do where that is known.
    fn apply(&self, work: &mut Work) -> anyhow::Result<Outcome>;
}

/// How these steps are shown in a plan.
pub fn planned(steps: &[Box<dyn Step>]) -> Vec<PlannedStep> {
    steps.iter().map(|step| step.planned()).collect()
}

/// Why a step is reverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevertReason {
    /// The run that made the changes failed.
    Rollback,
    /// The tunnel, or everything, is removed.
    Removal {
        /// Whether the key pair stays.
        keep_keys: bool,
    },
}

/// Undoes recorded changes of a step, the last one first.
///
/// # Errors
/// The host refuses; what was undone until then is undone.
pub fn revert(
    step: StepName,
    session: &Session,
    scope: Scope,
    changes: &[Change],
    reason: RevertReason,
) -> anyhow::Result<()> {
    for change in changes.iter().rev() {
        match step {
            StepName::Directory => directory::revert(session, change, reason)?,
            StepName::Packages => packages::revert(session, change, reason)?,
            StepName::Autossh => autossh::revert(session, change, reason)?,
            StepName::KeyPair => key_pair::revert(session, change, reason)?,
            StepName::Enrollment => enrollment::revert(session, change)?,
            StepName::TemporaryTunnel => temporary_tunnel::revert(session, change)?,
            StepName::WaitForSave | StepName::Foreground => {}
            StepName::Service => service::revert(session, change)?,
            StepName::ServiceTunnel | StepName::TargetUpdate => {
                service_tunnel::revert(session, scope, change)?
            }
        }
    }
    Ok(())
}
