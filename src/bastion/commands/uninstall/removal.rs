//! Taking tunnels away, step by step. What cannot be undone is reported and stays in the receipt;
//! everything else is undone all the same.

use serde::Serialize;

use crate::bastion::control_plane::{ApiError, ControlPlane};
use crate::bastion::failure::{OneLine, advice_of, is_interruption};
use crate::bastion::receipt::{Scope, StepName, StepRecord};
use crate::bastion::session::Session;
use crate::bastion::steps::{self, RevertReason, enrollment};
use crate::bastion::tunnel_name::TunnelName;

/// What came of a removal.
#[derive(Default)]
pub(super) struct Removed {
    /// The tunnels of which nothing is left.
    pub tunnels: Vec<TunnelName>,
    /// What is left, in the order in which it was met.
    pub problems: Vec<Problem>,
}

/// Something that could not be undone.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// Whose, and in which step.
    pub what: String,
    /// Why not.
    pub error: String,
    /// The next thing to do.
    pub next: String,
}

/// A removal at work.
pub(super) struct Removal<'a> {
    session: Session<'a>,
    reason: RevertReason,
    outcome: Removed,
}

impl<'a> Removal<'a> {
    pub(super) fn new(session: Session<'a>, reason: RevertReason) -> Self {
        Removal {
            session,
            reason,
            outcome: Removed::default(),
        }
    }

    /// Removes these tunnels and, with the last one, what they had in common. Each comes with the
    /// control plane to be told, where there is one that can be.
    ///
    /// # Errors
    /// The run was interrupted, or the receipt cannot be written.
    pub(super) fn carry_out(
        mut self,
        targets: Vec<(TunnelName, Option<ControlPlane>)>,
    ) -> anyhow::Result<Removed> {
        for (id, client) in targets {
            let before = self.outcome.problems.len();
            self.remove(id, client)?;
            if self.outcome.problems.len() == before {
                self.session.drop_tunnel(id)?;
                self.outcome.tunnels.push(id);
            }
        }
        if self.session.receipt.tunnels.is_empty() {
            self.undo_steps(Scope::Host, "the service")?;
        } else {
            let pinned = enrollment::write_known_hosts(&self.session);
            self.note(pinned, "the pinned host keys", "")?;
        }
        Ok(self.outcome)
    }

    /// The service lets go of the tunnel before the control plane forgets it: should this run end in
    /// between, the next one still knows both.
    fn remove(&mut self, id: TunnelName, client: Option<ControlPlane>) -> anyhow::Result<()> {
        let whose = format!("tunnel {id}");
        self.undo_steps(Scope::Tunnel(id), &whose)?;
        let Some(client) = client else {
            return Ok(());
        };
        let told = client
            .delete_tunnel(self.session.host, id.number())
            .map(drop)
            .map_err(ApiError::advised);
        self.note(told, &whose, "telling the control plane")
    }

    fn undo_steps(&mut self, scope: Scope, whose: &str) -> anyhow::Result<()> {
        let records: Vec<StepRecord> = self.session.receipt.steps(scope).to_vec();
        for record in records.iter().rev() {
            // The receipt is in that folder, and the next run needs it.
            if record.step == StepName::Directory && !self.outcome.problems.is_empty() {
                continue;
            }
            self.undo_step(scope, record, whose)?;
        }
        Ok(())
    }

    /// Undoes a step's changes up to the first that cannot be: the earlier ones of the same step are
    /// what that one stands on.
    fn undo_step(&mut self, scope: Scope, record: &StepRecord, whose: &str) -> anyhow::Result<()> {
        for change in record.changes.iter().rev() {
            let change = std::slice::from_ref(change);
            let undone = steps::revert(record.step, &self.session, scope, change, self.reason);
            if undone.is_err() {
                return self.note(undone, whose, &format!("step {}", record.step.as_str()));
            }
            self.session.forget(scope, record.step, change)?;
        }
        self.session.forget(scope, record.step, &[])
    }

    /// Takes down what failed; an interruption ends the run.
    fn note(&mut self, result: anyhow::Result<()>, whose: &str, doing: &str) -> anyhow::Result<()> {
        let Err(error) = result else {
            return Ok(());
        };
        if is_interruption(&error) {
            return Err(error);
        }
        let next = advice_of(&error)
            .unwrap_or("mend that, and run the same command again: the receipt knows what is left");
        self.outcome.problems.push(Problem {
            what: if doing.is_empty() {
                whose.to_owned()
            } else {
                format!("{whose}, {doing}")
            },
            next: next.to_owned(),
            error: OneLine(&error).to_string(),
        });
        Ok(())
    }
}
