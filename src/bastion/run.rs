//! The engine: how everything that changes this host is begun, carried out, and gone back on.
//!
//! A [`Run`] is begun in one place: the lock, then a fresh receipt, then the log. There is no other way
//! to a receipt that can be written, so that nobody writes one that has become stale meanwhile. What
//! the run does is a list of [`Step`]s. They work through [`StepContext`], which records each change
//! under its step before it is made; going back undoes what was recorded, the last change first.

mod context;

use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;
use url::Url;

pub use context::StepContext;

use super::change::{Change, UndoReason};
use super::control_plane::{ControlPlane, Given};
use super::failure::{Exit, Failure, OneLine, advice_of, is_interruption, is_resumable};
use super::host::command::still_runs;
use super::host::{Authority, Host, HostExt as _, files};
use super::layout::Layout;
use super::lock::{self, Lock};
use super::receipt::{HostIdentity, Receipt, Scope, StepName, StepRecord, StepState};
use super::service::{self, ServiceManager};
use super::steps::{self, Audience, Obstacle, Outcome, Step};
use super::tunnel_name::TunnelName;
use super::ui::Ui;
use super::ui::{Event, StepProgress};

const REACH_KEPT: &str =
    "How the control plane is reached now (--ca-cert, proxy) is kept for later commands.";

/// What is said of a step that was not taken, since it cannot succeed.
const WOULD_FAIL: &str = "would fail, so the key was not registered";

/// A run that changes this host.
pub struct Run<'a> {
    pub host: &'a dyn Host,
    pub ui: &'a Ui,
    pub layout: Layout,
    /// What was done to this host, this run included.
    pub receipt: Receipt,
    /// What it was given to reach the control planes.
    pub given: Given,
    /// This run's changes, in the order in which they were made.
    made: Vec<(Scope, StepName, Change)>,
    _lock: Lock,
}

/// Whether a run found anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Made,
    NothingToDo,
}

/// Something that a removal had to leave.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// Whose, and in which step.
    pub what: String,
    /// Why.
    pub error: String,
    /// The next thing to do.
    pub next: String,
}

impl<'a> Run<'a> {
    /// Begins to change this host.
    ///
    /// # Errors
    /// Another run is at work, or the receipt cannot be read.
    pub fn begin(
        host: &'a dyn Host,
        ui: &'a Ui,
        layout: Layout,
        given: Given,
    ) -> anyhow::Result<Self> {
        let lock = lock::acquire(host, &layout)?;
        let receipt = Receipt::load(host, &layout.receipt())?;
        if has_half_receipt(host, &layout) {
            host.remove_file(&files::unfinished(&layout.receipt()), Authority::User)?;
        }
        let mut receipt = receipt.unwrap_or_else(|| Receipt::new(layout.prefix()));
        receipt.host.get_or_insert_with(|| HostIdentity::of(host));
        host.log().changes_begin();
        // What a failed setup has left there is not this user's installation yet.
        if receipt.is_done(Scope::Host, StepName::Directory) {
            host.log().keep_in(&layout.logs_dir());
        }
        Ok(Run {
            host,
            ui,
            layout,
            receipt,
            given,
            made: Vec::new(),
            _lock: lock,
        })
    }

    /// Carries the steps out. Where one fails, the host is left as it was before; or, once the control plane
    /// knows this host's key for the tunnel that is being enrolled, in a state from which the same
    /// command goes on.
    ///
    /// # Errors
    /// The step that failed, its cause, and the next thing to do. A failure that ends with
    /// [`Exit::Partly`] is one that the next run goes on from: nothing is undone.
    pub fn carry_out(
        &mut self,
        steps: &[Box<dyn Step>],
        enrolling: Option<TunnelName>,
    ) -> anyhow::Result<Progress> {
        self.adopt(steps);
        let mut progress = Progress::NothingToDo;
        for (place, step) in steps.iter().enumerate() {
            if let Err((step, error)) = self.prove_what_follows(&steps[place..]) {
                return Err(self.recover(step, WOULD_FAIL, enrolling, error));
            }
            match self.take(step.as_ref()) {
                Ok(Outcome::Changed(_)) => progress = Progress::Made,
                Ok(Outcome::AlreadyPresent(_)) => {}
                Err(error) => return Err(self.recover(step.as_ref(), "failed", enrolling, error)),
            }
        }
        self.settle(steps)?;
        Ok(progress)
    }

    /// Carries out what can be of these steps, and tells what was left. That stays in the receipt.
    pub fn carry_out_what_can_be(
        &mut self,
        steps: &[Box<dyn Step>],
    ) -> anyhow::Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for step in steps {
            match self.take(step.as_ref()) {
                Ok(_) => {}
                Err(error) if is_interruption(&error) => {
                    self.save_if_kept()?;
                    return Err(error);
                }
                Err(error) => match error.downcast::<Unfinished>() {
                    Ok(Unfinished(left)) => problems.extend(left),
                    Err(error) => problems.push(Problem::new(&step.name().to_string(), &error)),
                },
            }
        }
        self.settle(steps)?;
        Ok(problems)
    }

    /// With the registered key the vendor's operator is told to go on, so nothing that can be known before
    /// may fail after it. It is the step that would fail that is told, not the one before which that was found out.
    /// The rehearsals run beside the proofs.
    fn prove_what_follows<'s>(&mut self, steps: &'s [Box<dyn Step>]) -> Result<(), Obstacle<'s>> {
        let Some(next) = steps
            .first()
            .filter(|step| step.name() == StepName::Enrollment)
        else {
            return Ok(());
        };
        let host = self.host;
        let rehearsals = steps.iter().filter_map(|step| {
            let work = self.context(step.scope(), step.name());
            step.rehearsal(&work)
        });
        let looked = host.beside(&rehearsals.collect::<Vec<_>>(), || {
            steps::find_obstacle(host, steps, Audience::Run)
                .map_err(|error| (next.as_ref(), error))??;
            for step in steps {
                step.rehearse(&mut self.context(step.scope(), step.name()))
                    .map_err(|error| (step.as_ref(), error))?;
            }
            Ok(())
        });
        looked.map_err(|error| (next.as_ref(), error.into()))?
    }

    fn take(&mut self, step: &dyn Step) -> anyhow::Result<Outcome> {
        self.host.check_interrupt()?;
        let (scope, name) = (step.scope(), step.name());
        let former = self.record(scope, name).cloned();
        self.note(scope, name, StepState::Started);
        // A step that is new is written with the first change that it records.
        if former.is_some() {
            self.save()?;
        }
        self.host.log_line(&format!("step {name} begins"));
        let summary = &step.summary();
        let state = StepProgress::Started { summary };
        self.ui.show(&Event::Step { name, state });
        let begun = Instant::now();
        let result = step.apply(&mut self.context(scope, name));
        let state = StepProgress::ended(result.as_ref().ok(), begun.elapsed());
        self.ui.show(&Event::Step { name, state });
        self.host.log_line(&match &result {
            Ok(outcome) => format!("step {name} ended: {outcome}"),
            Err(error) => format!("step {name} failed: {error:#}"),
        });
        let outcome = result?;
        match (former, &outcome) {
            // It found everything as an earlier run had left it: so is its record.
            (Some(former), Outcome::AlreadyPresent(_)) if former.state == StepState::Done => {
                self.restore(scope, former);
            }
            // Its record goes with the whole list, or went with the receipt.
            _ if step.is_transactional() => {}
            // What a next step records, or the end of the list, is written at once with it.
            _ => self.note(scope, name, StepState::Done),
        }
        Ok(outcome)
    }

    /// What a step does its work with.
    pub fn context(&mut self, scope: Scope, step: StepName) -> StepContext<'_, 'a> {
        StepContext {
            run: self,
            scope,
            step,
        }
    }

    /// What an earlier run has begun of steps that stand or fall together is this run's to undo.
    fn adopt(&mut self, steps: &[Box<dyn Step>]) {
        for step in steps.iter().filter(|step| step.is_transactional()) {
            let (scope, name) = (step.scope(), step.name());
            let begun = self.changes_of(scope, name).into_iter();
            self.made.extend(begun.map(|change| (scope, name, change)));
        }
    }

    /// What they have changed is not to be undone any more: all of it at once, so that a run that dies here
    /// leaves all of it or nothing.
    fn settle(&mut self, steps: &[Box<dyn Step>]) -> anyhow::Result<()> {
        for step in steps.iter().filter(|step| step.is_transactional()) {
            if let Some(records) = self.receipt.steps_mut(step.scope()) {
                records.retain(|record| record.step != step.name());
            }
        }
        self.save_if_kept()
    }

    // Going back -------------------------------------------------------------------------------

    /// `failed` is what is said of the step.
    fn recover(
        &mut self,
        step: &dyn Step,
        failed: &str,
        enrolling: Option<TunnelName>,
        error: anyhow::Error,
    ) -> anyhow::Error {
        if is_resumable(&error) {
            return error;
        }
        let name = step.name();
        if still_runs(&error) {
            // What is undone beneath it would be done again by it, or worse.
            return error.context(Failure {
                exit: Exit::Partly,
                ..Failure::new(
                    format!("{name}: a command still runs, so nothing was undone"),
                    "wait until it has ended, or end it as root; then run the same command again, since what is \
                     left is recorded",
                )
            });
        }
        // Going back further would lose the key, and another one would be refused.
        let known = enrolling.filter(|tunnel| self.knows_key_of(*tunnel));
        self.host.log_line(match known {
            Some(_) => "ending the temporary tunnel and undoing the step",
            None => "undoing everything",
        });
        if step.is_transactional() {
            // A step that changed nothing leaves no record.
            self.drop_empty_record(step.scope(), step.name());
        }
        // A second Ctrl-C, or the hangup that follows the end of a terminal, must not leave it half undone.
        // All that happens now is bounded.
        self.host.hold_interrupts(true);
        let undone = match known {
            Some(tunnel) => self
                .undo_made(Some((step.scope(), step.name())))
                .and_then(|()| self.end_what_is_transient(Scope::Tunnel(tunnel))),
            None => self
                .undo_made(None)
                .and_then(|()| enrolling.map_or(Ok(()), |tunnel| self.drop_tunnel(tunnel))),
        };
        self.host.hold_interrupts(false);
        if let Err(left) = undone {
            return error.context(Failure {
                exit: Exit::Partly,
                ..Failure::new(
                    format!("{name}: not everything could be undone: {}", OneLine(&left)),
                    "run the same command again; the receipt knows what is left",
                )
            });
        }
        match (is_interruption(&error), known) {
            (true, Some(_)) => error
                .context("the temporary tunnel is ended, and the same command goes on from here"),
            (true, None) => error.context("everything this run had changed was undone"),
            (false, Some(_)) => error.context(format!("step {name}")),
            (false, None) => {
                let next = advice_of(&error).unwrap_or(
                    "see above for the reason; run the same command again once it is gone",
                );
                let next = next.to_owned();
                error.context(Failure {
                    exit: Exit::RolledBack,
                    ..Failure::new(
                        format!(
                            "step {name} {failed}, and everything this run had changed was undone"
                        ),
                        next,
                    )
                })
            }
        }
    }

    fn knows_key_of(&self, tunnel: TunnelName) -> bool {
        let records = self.receipt.steps(Scope::Tunnel(tunnel)).iter();
        records
            .flat_map(|record| &record.changes)
            .any(|change| *change == Change::KeyRegistered)
    }

    /// Undoes what this run has changed, the last change first; or only the last ones, if they are those
    /// of one step.
    ///
    /// # Errors
    /// Something could not be undone; it stays in the receipt, for the next run to see.
    pub fn undo_made(&mut self, only: Option<(Scope, StepName)>) -> anyhow::Result<()> {
        while let Some((scope, step, change)) = self.made.last().cloned() {
            if only.is_some_and(|wanted| wanted != (scope, step)) {
                break;
            }
            change.undo(self, scope, UndoReason::Rollback)?;
            self.made.pop();
            self.forget(scope, step, &[change])?;
        }
        Ok(())
    }

    /// Does what puts something back: that is not to be undone in its turn.
    pub fn without_going_back_on(
        &mut self,
        work: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let before = self.made.len();
        let result = work(self);
        self.made.truncate(before);
        result
    }

    fn end_what_is_transient(&mut self, scope: Scope) -> anyhow::Result<()> {
        let records = self.receipt.steps(scope).to_vec();
        for record in records {
            for change in record.changes.iter().filter(|change| change.is_transient()) {
                change.undo(self, scope, UndoReason::Rollback)?;
                self.forget(scope, record.step, std::slice::from_ref(change))?;
            }
        }
        Ok(())
    }

    /// Undoes what was ever recorded in a scope, the last step first. Within a step it stops at what cannot
    /// be undone, since the earlier changes are what that one stands on.
    pub fn undo_recorded(
        &mut self,
        scope: Scope,
        reason: UndoReason,
        whose: &str,
    ) -> anyhow::Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for record in self.receipt.steps(scope).to_vec().iter().rev() {
            // The receipt is in that folder, and the next run needs it.
            if record.step == StepName::Directory && !problems.is_empty() {
                continue;
            }
            for change in record.changes.iter().rev() {
                if let Err(error) = change.undo(self, scope, reason) {
                    if is_interruption(&error) {
                        return Err(error);
                    }
                    let what = format!("{whose}, step {}", record.step);
                    problems.push(Problem::new(&what, &error));
                    // The receipt may have gone with what could be undone of it; the next run needs it.
                    self.save()?;
                    break;
                }
                self.forget(scope, record.step, std::slice::from_ref(change))?;
            }
        }
        Ok(problems)
    }

    // The receipt --------------------------------------------------------------------------------

    /// Writes the receipt, unless `~/.holistics` is not there yet.
    pub fn save(&self) -> anyhow::Result<()> {
        if !self.host.exists(&self.layout.user_dir()) {
            return Ok(());
        }
        self.receipt.save(self.host, &self.layout.receipt())
    }

    /// With the receipt itself gone, there is nothing left to be remembered.
    fn save_if_kept(&self) -> anyhow::Result<()> {
        if !self.host.exists(&self.layout.receipt()) {
            return Ok(());
        }
        self.save()
    }

    fn note(&mut self, scope: Scope, step: StepName, state: StepState) {
        let at = self.host.now();
        if let Some(record) = self.record_mut(scope, step) {
            record.state = state;
            record.at = at;
        }
    }

    /// Notes that a step's state holds.
    pub fn mark_done(&mut self, scope: Scope, step: StepName) -> anyhow::Result<()> {
        self.note(scope, step, StepState::Done);
        self.save()
    }

    fn restore(&mut self, scope: Scope, former: StepRecord) {
        if let Some(record) = self.record_mut(scope, former.step) {
            *record = former;
        }
    }

    /// Takes changes that are undone, or not to be undone any more, out of the receipt, and the step with its
    /// last one.
    pub fn forget(
        &mut self,
        scope: Scope,
        step: StepName,
        changes: &[Change],
    ) -> anyhow::Result<()> {
        if let Some(records) = self.receipt.steps_mut(scope) {
            for record in records.iter_mut().filter(|record| record.step == step) {
                record.changes.retain(|change| !changes.contains(change));
                record.state = StepState::Started;
            }
            records.retain(|record| record.step != step || !record.changes.is_empty());
        }
        self.save_if_kept()
    }

    fn drop_empty_record(&mut self, scope: Scope, step: StepName) {
        if let Some(records) = self.receipt.steps_mut(scope) {
            records.retain(|record| record.step != step || !record.changes.is_empty());
        }
    }

    /// Takes a tunnel of which nothing is left out of the receipt.
    pub fn drop_tunnel(&mut self, tunnel: TunnelName) -> anyhow::Result<()> {
        self.receipt.tunnels.remove(&tunnel);
        self.save_if_kept()
    }

    /// What is recorded of a step.
    pub fn changes_of(&self, scope: Scope, step: StepName) -> Vec<Change> {
        self.record(scope, step)
            .map(|record| record.changes.clone())
            .unwrap_or_default()
    }

    fn record(&self, scope: Scope, step: StepName) -> Option<&StepRecord> {
        let records = self.receipt.steps(scope);
        records.iter().find(|record| record.step == step)
    }

    fn record_mut(&mut self, scope: Scope, step: StepName) -> Option<&mut StepRecord> {
        let at = self.host.now();
        let records = self.receipt.steps_mut(scope)?;
        let position = records.iter().position(|record| record.step == step);
        let position = position.unwrap_or_else(|| {
            records.push(StepRecord {
                step,
                state: StepState::Started,
                changes: Vec::new(),
                at,
            });
            records.len() - 1
        });
        records.get_mut(position)
    }

    // What a run and its steps need of others ----------------------------------------------------

    /// The service manager in use.
    pub fn manager(&self) -> anyhow::Result<Box<dyn ServiceManager>> {
        service::manager(
            self.receipt
                .init
                .context("the receipt names no service manager")?,
        )
    }

    /// The control plane with a tunnel's own credential.
    pub fn client(&self, tunnel: TunnelName) -> anyhow::Result<ControlPlane> {
        let record = self.receipt.tunnels.get(&tunnel);
        let record = record.context("the tunnel is not in the receipt")?;
        let client = record.client(self.host, &self.given)?;
        client.context("the tunnel is not enrolled")
    }

    /// Keeps what this run has reached these control planes with, for later commands.
    pub fn keep_reach(&mut self, control_planes: &[Url]) -> anyhow::Result<()> {
        let mut is_new = false;
        for tunnel in self.receipt.tunnels.values_mut() {
            let address = &tunnel.control_plane;
            if control_planes.contains(address) {
                let reach = tunnel.reach.renewed(self.host, &self.given, address)?;
                is_new |= reach != tunnel.reach;
                tunnel.reach = reach;
            }
        }
        if is_new {
            self.save()?;
            self.ui.note(REACH_KEPT);
        }
        Ok(())
    }
}

/// Whether a run that was killed has left a receipt that it had not finished. There are tokens in it, and the next
/// run may have nothing to write: beginning one takes it away.
pub fn has_half_receipt(host: &dyn Host, layout: &Layout) -> bool {
    host.exists(&files::unfinished(&layout.receipt()))
}

impl Problem {
    pub fn new(what: &str, error: &anyhow::Error) -> Self {
        let next = advice_of(error)
            .unwrap_or("fix that and run the same command again; what is left is recorded");
        Problem {
            what: what.to_owned(),
            error: OneLine(error).to_string(),
            next: next.to_owned(),
        }
    }
}

/// A step that came to its end with something left.
#[derive(Debug, thiserror::Error)]
#[error("something is left")]
pub struct Unfinished(pub Vec<Problem>);

#[cfg(test)]
mod tests;
