//! What a step gets at: the run, and the ways to change the host, each of which records the change first.

use std::path::Path;

use super::Run;
use crate::bastion::change::{Change, change_of_write};
use crate::bastion::host::{Authority, Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::{Scope, StepName};

/// What one step does its work with. It records what the step changes before that is changed.
pub struct StepContext<'s, 'a> {
    pub run: &'s mut Run<'a>,
    pub(super) scope: Scope,
    pub(super) step: StepName,
}

impl<'a> StepContext<'_, 'a> {
    pub fn host(&self) -> &'a dyn Host {
        self.run.host
    }

    pub fn layout(&self) -> &Layout {
        &self.run.layout
    }

    /// Records a change that is about to be made. One that is recorded already is not recorded twice.
    ///
    /// # Errors
    /// The receipt cannot be written; the change must not be made then.
    pub fn record(&mut self, change: Change) -> anyhow::Result<()> {
        self.record_all([change])
    }

    /// The same for several that are made one after another.
    pub fn record_all(&mut self, changes: impl IntoIterator<Item = Change>) -> anyhow::Result<()> {
        let (scope, step) = (self.scope, self.step);
        let known = self.run.made.len();
        for change in changes {
            if let Some(record) = self.run.record_mut(scope, step) {
                if record.changes.contains(&change) {
                    continue;
                }
                record.changes.push(change.clone());
            }
            self.run.made.push((scope, step, change));
        }
        if self.run.made.len() == known {
            Ok(())
        } else {
            self.run.save()
        }
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
        self.run
            .made
            .retain(|(s, name, made)| (*s, *name, Some(made)) != (scope, step, former.as_ref()));
        if let Some(record) = self.run.record_mut(scope, step) {
            let is_replaced = |recorded: &Change| {
                Some(recorded) == former.as_ref() || Some(recorded) == change.as_ref()
            };
            record.changes.retain(|recorded| !is_replaced(recorded));
            record.changes.extend(change.clone());
        }
        self.run
            .made
            .extend(change.map(|change| (scope, step, change)));
        self.run.save()
    }

    /// Takes back the record of a change that is over, such as a temporary tunnel that has ended.
    pub fn forget(&mut self, step: StepName, change: &Change) -> anyhow::Result<()> {
        let scope = self.scope;
        self.run
            .made
            .retain(|(s, name, made)| (*s, *name, made) != (scope, step, change));
        if let Some(record) = self.run.record_mut(scope, step) {
            record.changes.retain(|recorded| recorded != change);
        }
        self.run.save()
    }

    /// Writes a file unless it holds this content already. Returns whether it was written.
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
        let changes = self.run.changes_of(self.scope, self.step);
        changes.iter().any(|change| match change {
            Change::FileCreated { path: ours, .. } | Change::FileModified { path: ours, .. } => {
                ours == path
            }
            _ => false,
        })
    }
}
