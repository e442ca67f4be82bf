//! Carries a plan out: step by step, and back again where a step fails.

use super::changes::Change;
use super::failure::{Exit, Failure, Interrupted, advice_of};
use super::host::HostExt as _;
use super::host::command::runs_on;
use super::receipt::{Scope, StepName, StepState};
use super::session::Session;
use super::steps::{self, Outcome, RevertReason, Step};
use crate::protocol::TunnelId;

/// Runs the steps. On failure the host is left as it was before, or, once the control plane knows
/// this host's key, in a state from which the same command goes on.
///
/// # Errors
/// The step that failed, its cause, and the next thing to do.
pub fn apply(
    session: &mut Session,
    steps: &[Box<dyn Step>],
    tunnel: TunnelId,
) -> anyhow::Result<Progress> {
    let mut progress = Progress::NothingToDo;
    for step in steps {
        match apply_step(session, step.as_ref()) {
            Ok(Outcome::Changed(_)) => progress = Progress::Made,
            Ok(Outcome::AlreadyPresent(_)) => {}
            Err(error) => return Err(recover(session, step.as_ref(), tunnel, error)),
        }
    }
    Ok(progress)
}

/// Whether a run found anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something was changed.
    Made,
    /// Everything was as it has to be.
    NothingToDo,
}

fn apply_step(session: &mut Session, step: &dyn Step) -> anyhow::Result<Outcome> {
    session.host.check_interrupt()?;
    let (scope, name) = (step.scope(), step.name());
    let records = session.receipt.steps(scope).iter();
    let former = records.clone().find(|record| record.step == name).cloned();
    session.note(scope, name, StepState::Started)?;
    session.host.log().changes_begin();
    session
        .host
        .log_line(&format!("step {} begins", name.as_str()));
    let running = session.ui.step_begins(name, &step.summary());
    let outcome = match step.apply(&mut session.work(scope, name)) {
        Ok(outcome) => outcome,
        Err(error) => {
            session.ui.step_fails(running);
            let failed = format!("step {} failed: {error:#}", name.as_str());
            session.host.log_line(&failed);
            return Err(error);
        }
    };
    session.ui.step_ends(running, &outcome);
    session
        .host
        .log_line(&format!("step {} ended: {outcome}", name.as_str()));
    match (former, &outcome) {
        (Some(former), Outcome::AlreadyPresent(_)) if former.state == StepState::Done => {
            session.restore(scope, former)?;
        }
        _ => session.note(scope, name, StepState::Done)?,
    }
    Ok(outcome)
}

fn recover(
    session: &mut Session,
    step: &dyn Step,
    tunnel: TunnelId,
    error: anyhow::Error,
) -> anyhow::Error {
    if runs_on(&error) {
        // What is undone beneath it would be done again by it, or worse.
        return error.context(Failure {
            exit: Exit::Partly,
            ..Failure::new(
                format!(
                    "{}: a command still runs, so nothing was undone",
                    step.name().as_str()
                ),
                "wait until it has ended, or end it as root; then run the same command again, since the receipt \
                 knows what is left",
            )
        });
    }
    // Once the control plane may know this host's key, going back further would lose it, and another
    // key would be refused.
    let is_known = session
        .receipt
        .steps(Scope::Tunnel(tunnel))
        .iter()
        .any(|record| record.changes.contains(&Change::KeyRegistered));
    let interrupted = error.chain().any(|cause| cause.is::<Interrupted>());
    // A second Ctrl-C, or the hangup that follows the end of a terminal, must not leave it half undone.
    // All that happens now is bounded.
    session.host.hold_interrupts(true);
    session.host.log_line(if is_known {
        "ending the temporary tunnel and undoing the step"
    } else {
        "undoing everything"
    });
    let undone = if is_known {
        roll_back(session, Some((step.scope(), step.name())))
            .and_then(|()| end_temporary_tunnel(session, tunnel))
    } else {
        roll_back(session, None).and_then(|()| session.drop_tunnel(tunnel))
    };
    session.host.hold_interrupts(false);
    if let Err(left) = undone {
        return error.context(Failure {
            exit: Exit::Partly,
            ..Failure::new(
                format!(
                    "{}: not everything could be undone: {left:#}",
                    step.name().as_str()
                ),
                "run the same command again; the receipt knows what is left",
            )
        });
    }
    let failed = format!("step {}", step.name().as_str());
    if interrupted && is_known {
        error.context("the temporary tunnel is ended, and the same command goes on from here")
    } else if interrupted {
        error.context("everything this run had changed was undone")
    } else if is_known {
        error.context(failed)
    } else {
        let next = advice_of(&error).map_or_else(
            || "see above for the reason; run the same command again once it is gone".to_owned(),
            str::to_owned,
        );
        error.context(Failure {
            exit: Exit::RolledBack,
            ..Failure::new(
                format!("{failed} failed, and everything this run had changed was undone"),
                next,
            )
        })
    }
}

fn end_temporary_tunnel(session: &mut Session, tunnel: TunnelId) -> anyhow::Result<()> {
    let scope = Scope::Tunnel(tunnel);
    let changes: Vec<_> = session
        .receipt
        .steps(scope)
        .iter()
        .filter(|record| record.step == StepName::TemporaryTunnel)
        .flat_map(|record| record.changes.clone())
        .collect();
    let reason = RevertReason::Rollback;
    steps::revert(StepName::TemporaryTunnel, session, scope, &changes, reason)?;
    session.forget(scope, StepName::TemporaryTunnel, &changes)
}

/// Undoes what this run has changed in one step, or all of it; the last change first.
///
/// # Errors
/// Something could not be undone; it stays in the receipt, for the next run to see.
pub fn roll_back(session: &mut Session, only: Option<(Scope, StepName)>) -> anyhow::Result<()> {
    while let Some((scope, step, changes)) = session.last_changes() {
        if only.is_some_and(|wanted| wanted != (scope, step)) {
            break;
        }
        steps::revert(step, session, scope, &changes, RevertReason::Rollback)?;
        session.forget_last_changes()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::control_plane::ControlPlane;
    use crate::bastion::failure::exit_of;
    use crate::bastion::host::scripted::{ScriptedHost, Snapshot};
    use crate::bastion::host::{Authority, Command, CommandError, Output};
    use crate::bastion::layout::Layout;
    use crate::bastion::receipt::Receipt;
    use crate::bastion::session::Work;
    use crate::bastion::ssh::keys::KeyType;
    use crate::bastion::steps::directory;
    use crate::bastion::ui::Ui;

    /// Writes a file and runs a command, which may run on.
    struct Example {
        runs_on: bool,
    }

    impl Step for Example {
        fn name(&self) -> StepName {
            StepName::KeyPair
        }

        fn scope(&self) -> Scope {
            Scope::Host
        }

        fn summary(&self) -> String {
            String::new()
        }

        fn commands(&self) -> Vec<String> {
            Vec::new()
        }

        fn apply(&self, work: &mut Work) -> anyhow::Result<Outcome> {
            let path = work.layout().private_key(KeyType::Rsa);
            work.write_file(&path, b"key", 0o600, Authority::User)?;
            let command = Command::new("slow");
            work.host().expect(&command)?;
            if self.runs_on {
                let (command, processes) = (command.to_string(), "7".to_owned());
                Err(CommandError::RunsOn { command, processes })?;
            }
            Ok(Outcome::Changed(String::new()))
        }
    }

    /// A run of the step on this host; the files before it and after it.
    fn run(host: &ScriptedHost, runs_on: bool) -> (anyhow::Result<Progress>, [Snapshot; 2]) {
        host.on("slow", |_, _| Output::default());
        let layout = Layout::new(host, std::path::Path::new("/"));
        directory::ensure_private(host, &layout).unwrap();
        let receipt = Receipt::new(std::path::Path::new("/"));
        receipt.save(host, &layout.receipt()).unwrap();
        let before = host.snapshot();
        let ui = Ui::new(false, true, true);
        let server = url::Url::parse("http://127.0.0.1:9/").unwrap();
        let client = ControlPlane::new(&server, "", None).unwrap();
        let mut session = Session::new(host, &ui, layout, receipt, client);
        let steps: [Box<dyn Step>; 1] = [Box::new(Example { runs_on })];
        let result = apply(&mut session, &steps, 7);
        (result, [before, host.snapshot()])
    }

    #[test]
    fn nothing_is_undone_beneath_a_command_that_still_runs() {
        let host = ScriptedHost::new();
        let (result, [before, after]) = run(&host, true);
        let error = result.unwrap_err();
        assert_eq!(exit_of(&error), Exit::Partly);
        assert!(advice_of(&error).unwrap().contains("as root"));
        assert_ne!(before, after, "the receipt and the file");
    }

    #[test]
    fn wherever_a_step_is_interrupted_its_files_are_as_before() {
        let smooth = ScriptedHost::new();
        run(&smooth, false).0.unwrap();
        for effect in 1..=smooth.effects() {
            let host = ScriptedHost::new();
            host.interrupt_at(effect);
            if let (Err(error), [before, after]) = run(&host, false) {
                assert_eq!(exit_of(&error), Exit::Interrupted);
                assert_eq!(before, after, "interrupted at effect {effect}");
            }
        }
    }
}
