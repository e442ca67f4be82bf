//! "Return to your browser": until the data source is saved there.

use std::time::Duration;

use anyhow::bail;

use super::temporary_tunnel::TemporaryTunnel;
use super::{Outcome, Step, StepName};
use crate::bastion::failure::{Failure, Interrupted, OneLine};
use crate::bastion::receipt::Scope;
use crate::bastion::run::{Run, StepContext};
use crate::bastion::ui::Event;
use crate::protocol::{LONGEST_POLL_SECONDS, SaveStatus};

/// The pause after a poll that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

pub struct WaitForSave {
    /// What is kept up meanwhile.
    pub temporary: TemporaryTunnel,
    pub wait: Duration,
    /// What the operator calls the data source.
    pub display_name: String,
}

impl Step for WaitForSave {
    fn name(&self) -> StepName {
        StepName::WaitForSave
    }

    fn scope(&self) -> Scope {
        Scope::Tunnel(self.temporary.tunnel)
    }

    fn summary(&self) -> String {
        format!(
            "Wait until {:?} is saved in the browser, at most {} min",
            self.display_name,
            self.wait.as_secs().div_ceil(60)
        )
    }

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let run = &mut *work.run;
        let deadline = run.host.uptime() + self.wait;
        run.ui.show(&Event::Waiting {
            r#for: "save",
            at_most: self.wait,
            display_name: &self.display_name,
        });
        let mut trouble = false;
        loop {
            let left = deadline.saturating_sub(run.host.uptime());
            if left.is_zero() {
                return Err(self.timed_out().into());
            }
            match self.poll(run, left) {
                Ok(SaveStatus::Saved) => {
                    return Ok(Outcome::Changed("saved in the browser".to_owned()));
                }
                Ok(SaveStatus::Cancelled) => return Err(cancelled().into()),
                Ok(SaveStatus::Waiting) => {
                    if std::mem::take(&mut trouble) {
                        run.ui.note("connected again; still waiting");
                    }
                }
                Err(error) => {
                    if error.chain().any(|cause| cause.is::<Interrupted>()) {
                        return Err(error);
                    }
                    if !std::mem::replace(&mut trouble, true) {
                        run.ui.note(&format!("{}; trying again", OneLine(&error)));
                    }
                    run.host.sleep(RETRY_PAUSE.min(left))?;
                }
            }
        }
    }
}

impl WaitForSave {
    /// One look at the control plane, with the temporary tunnel brought back first if it has died.
    fn poll(&self, run: &mut Run, left: Duration) -> anyhow::Result<SaveStatus> {
        self.temporary.ensure_up(run)?;
        let wait = left.min(Duration::from_secs(LONGEST_POLL_SECONDS));
        let client = run.client(self.temporary.tunnel)?;
        match client.wait_for_save(run.host, wait) {
            Ok(progress) => Ok(progress.status),
            Err(error) if error.is_transient() => bail!(error),
            // The control plane is there and does not know this tunnel any more.
            Err(error) if crate::bastion::control_plane::is_gone(&error) => {
                Ok(SaveStatus::Cancelled)
            }
            Err(error) => bail!(error.with_advice()),
        }
    }

    fn timed_out(&self) -> Failure {
        Failure::new(
            format!(
                "{:?} was not saved in the browser in time",
                self.display_name
            ),
            "run the same command again and save it meanwhile; everything done so far is kept",
        )
    }
}

fn cancelled() -> Failure {
    Failure::new(
        "the data source was deleted in the browser",
        "nothing is left to set up; `holistics-tunnel uninstall-tunnel` removes what this host keeps of it",
    )
}
