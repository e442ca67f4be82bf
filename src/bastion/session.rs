//! A run that changes this host: the host, the receipt, and what this run has changed so far.
//!
//! Steps never touch the receipt themselves. They work through [`Work`], which records each change
//! before it is made, under the step that makes it.

use std::path::Path;

use super::changes::{Change, change_of_write};
use super::control_plane::ControlPlane;
use super::host::{Authority, Host, HostExt};
use super::layout::Layout;
use super::receipt::{Receipt, Scope, StepName, StepRecord, StepState};
use super::ui::Ui;
use crate::bastion::tunnel_name::TunnelName;

/// A run that changes this host.
pub struct Session<'a> {
    /// The host.
    pub host: &'a dyn Host,
    /// What the person sees.
    pub ui: &'a Ui,
    /// The paths.
    pub layout: Layout,
    /// What was done to this host, this run included.
    pub receipt: Receipt,
    /// The vendor's web server.
    pub control_plane: ControlPlane,
    /// Where in the receipt this run's changes stand, in the order in which they were made.
    made: Vec<(Scope, StepName, Change)>,
}

impl<'a> Session<'a> {
    /// Begins a run on what the receipt says.
    pub fn new(
        host: &'a dyn Host,
        ui: &'a Ui,
        layout: Layout,
        receipt: Receipt,
        control_plane: ControlPlane,
    ) -> Self {
        Session {
            host,
            ui,
            layout,
            receipt,
            control_plane,
            made: Vec::new(),
        }
    }

    /// Writes the receipt, unless `~/.holistics` is not there yet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self) -> anyhow::Result<()> {
        if !self.host.exists(&self.layout.user_dir()) {
            return Ok(());
        }
        self.receipt.save(self.host, &self.layout.receipt())
    }

    /// Notes how far a step came.
    ///
    /// # Errors
    /// The receipt cannot be written.
    pub fn note(&mut self, scope: Scope, step: StepName, state: StepState) -> anyhow::Result<()> {
        let at = self.host.now();
        let record = self.record_of(scope, step);
        if let Some(record) = record {
            record.state = state;
            record.at = at;
        }
        self.save()
    }

    /// A step that found everything as an earlier run had left it: so is its record.
    ///
    /// # Errors
    /// The receipt cannot be written.
    pub fn restore(&mut self, scope: Scope, former: StepRecord) -> anyhow::Result<()> {
        if let Some(record) = self.record_of(scope, former.step) {
            *record = former;
        }
        self.save()
    }

    /// How many changes this run has made until now.
    pub fn changes_made(&self) -> usize {
        self.made.len()
    }

    /// The hands of a step.
    pub fn work(&mut self, scope: Scope, step: StepName) -> Work<'_, 'a> {
        Work {
            session: self,
            scope,
            step,
        }
    }

    /// The step that made this run's last change, with all that it has changed since another step did.
    pub fn last_changes(&self) -> Option<(Scope, StepName, Vec<Change>)> {
        let (scope, step, _) = self.made.last()?;
        let changes = self.made[self.first_of_last()..].iter();
        Some((
            *scope,
            *step,
            changes.map(|(_, _, change)| change.clone()).collect(),
        ))
    }

    /// Takes the changes of [`Session::last_changes`], which were undone, out of the receipt.
    ///
    /// # Errors
    /// The receipt cannot be written.
    pub fn forget_last_changes(&mut self) -> anyhow::Result<()> {
        let Some((scope, step, changes)) = self.last_changes() else {
            return Ok(());
        };
        self.made.truncate(self.first_of_last());
        self.forget(scope, step, &changes)
    }

    /// Where the changes of the step that made the last one begin.
    fn first_of_last(&self) -> usize {
        let last = self.made.last().map(|(scope, step, _)| (*scope, *step));
        self.made
            .iter()
            .rposition(|(scope, step, _)| Some((*scope, *step)) != last)
            .map_or(0, |before| before + 1)
    }

    /// Takes changes that were undone out of the receipt, and the step with its last one.
    ///
    /// # Errors
    /// The receipt cannot be written.
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

    /// Takes a tunnel of which nothing is left out of the receipt.
    ///
    /// # Errors
    /// The receipt cannot be written.
    pub fn drop_tunnel(&mut self, tunnel: TunnelName) -> anyhow::Result<()> {
        self.receipt.tunnels.remove(&tunnel);
        self.save_if_kept()
    }

    /// With the receipt itself gone, there is nothing left to be remembered.
    fn save_if_kept(&self) -> anyhow::Result<()> {
        if !self.host.exists(&self.layout.receipt()) {
            return Ok(());
        }
        self.save()
    }

    fn record_of(&mut self, scope: Scope, step: StepName) -> Option<&mut StepRecord> {
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
}

/// The hands of one step.
pub struct Work<'s, 'a> {
    /// The run.
    pub session: &'s mut Session<'a>,
    scope: Scope,
    step: StepName,
}

impl<'a> Work<'_, 'a> {
    /// The host.
    pub fn host(&self) -> &'a dyn Host {
        self.session.host
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.session.layout
    }

    /// Records a change that is about to be made. One that is recorded already is not recorded twice.
    ///
    /// # Errors
    /// The receipt cannot be written; the change must not be made then.
    pub fn record(&mut self, change: Change) -> anyhow::Result<()> {
        let (scope, step) = (self.scope, self.step);
        if let Some(record) = self.session.record_of(scope, step) {
            if record.changes.contains(&change) {
                return Ok(());
            }
            record.changes.push(change.clone());
        }
        self.session.made.push((scope, step, change));
        self.session.save()
    }

    /// Puts what is now known of a change in the place of what was recorded of it before; nothing
    /// where it turned out to be none.
    ///
    /// # Errors
    /// The receipt cannot be written; the change must not be made then.
    pub fn replace(
        &mut self,
        former: Option<Change>,
        change: Option<Change>,
    ) -> anyhow::Result<()> {
        let (scope, step) = (self.scope, self.step);
        self.session
            .made
            .retain(|(s, name, made)| (*s, *name, Some(made)) != (scope, step, former.as_ref()));
        if let Some(record) = self.session.record_of(scope, step) {
            let is_replaced = |recorded: &Change| {
                Some(recorded) == former.as_ref() || Some(recorded) == change.as_ref()
            };
            record.changes.retain(|recorded| !is_replaced(recorded));
            record.changes.extend(change.clone());
        }
        self.session
            .made
            .extend(change.map(|change| (scope, step, change)));
        self.session.save()
    }

    /// Takes back the record of a change that is over, such as a temporary tunnel that has ended.
    ///
    /// # Errors
    /// The receipt cannot be written.
    pub fn forget(&mut self, step: StepName, change: &Change) -> anyhow::Result<()> {
        let scope = self.scope;
        self.session
            .made
            .retain(|(s, name, made)| (*s, *name, made) != (scope, step, change));
        if let Some(record) = self.session.record_of(scope, step) {
            record.changes.retain(|recorded| recorded != change);
        }
        self.session.save()
    }

    /// Writes a file unless it holds this content already. Returns whether it was written.
    ///
    /// # Errors
    /// The host refuses, or the receipt cannot be written.
    pub fn write_file(
        &mut self,
        path: &Path,
        content: &[u8],
        mode: u32,
        authority: Authority,
    ) -> anyhow::Result<bool> {
        let Some(change) = change_of_write(self.host(), path, content, mode, authority)? else {
            return Ok(false);
        };
        if !self.is_ours(path) {
            self.record(change)?;
        }
        self.host().write(path, content, mode, authority)?;
        Ok(true)
    }

    /// Makes a folder unless it is there.
    ///
    /// # Errors
    /// The host refuses, or the receipt cannot be written.
    pub fn create_dir(
        &mut self,
        path: &Path,
        mode: u32,
        authority: Authority,
    ) -> anyhow::Result<()> {
        if self.host().exists(path) {
            return Ok(());
        }
        self.record(Change::DirectoryCreated {
            path: path.to_owned(),
            authority,
        })?;
        self.host().create_dir(path, mode, authority)
    }

    /// Whether this step made the file in an earlier run: its content before then is what counts.
    fn is_ours(&self, path: &Path) -> bool {
        self.session
            .receipt
            .steps(self.scope)
            .iter()
            .filter(|record| record.step == self.step)
            .flat_map(|record| &record.changes)
            .any(|change| match change {
                Change::FileCreated { path: ours, .. }
                | Change::FileModified { path: ours, .. } => ours == path,
                _ => false,
            })
    }
}
