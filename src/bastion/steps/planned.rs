//! What a step does, line by line, for the person who decides and for the proof that root may do it.

use std::path::Path;

use super::{Proofs, Step};
use crate::bastion::host::{Command, Effect, Host, HostExt as _, RootProof, WayToRoot};
use crate::bastion::ui::PlannedStep;

/// A line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedCommand {
    /// What is no command of the host's.
    Said(String),
    Done {
        effect: Effect,
        /// Where it is done only if something is found.
        condition: Option<&'static str>,
    },
}

impl PlannedCommand {
    /// The same where it is done only on this condition.
    #[must_use]
    pub fn only(self, condition: &'static str) -> Self {
        match self {
            PlannedCommand::Done { effect, .. } => PlannedCommand::Done {
                effect,
                condition: Some(condition),
            },
            said => said,
        }
    }

    fn shown(&self, way: &WayToRoot) -> Vec<String> {
        match self {
            PlannedCommand::Said(line) => vec![line.clone()],
            PlannedCommand::Done { effect, condition } => {
                let condition = condition.map(|condition| format!(" ({condition})"));
                let condition = condition.unwrap_or_default();
                let lines = way.shown(effect).into_iter();
                lines.map(|line| format!("{line}{condition}")).collect()
            }
        }
    }
}

impl From<String> for PlannedCommand {
    fn from(line: String) -> Self {
        PlannedCommand::Said(line)
    }
}

impl From<Effect> for PlannedCommand {
    fn from(effect: Effect) -> Self {
        PlannedCommand::Done {
            effect,
            condition: None,
        }
    }
}

impl From<Command> for PlannedCommand {
    fn from(command: Command) -> Self {
        Effect::Run(command).into()
    }
}

/// How these steps are shown in a plan.
pub fn planned<'s>(
    way: &WayToRoot,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>>,
) -> Vec<PlannedStep> {
    let steps = steps.into_iter();
    steps
        .map(|step| PlannedStep {
            name: step.name(),
            summary: step.summary(),
            commands: lines(way, step.as_ref()),
        })
        .collect()
}

/// What a step does, in lines.
pub fn lines(way: &WayToRoot, step: &dyn Step) -> Vec<String> {
    let commands = step.commands();
    commands.iter().flat_map(|line| line.shown(way)).collect()
}

/// What root is given by these steps, whatever is found.
pub fn root_commands<'s>(
    host: &dyn Host,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>>,
) -> Vec<Command> {
    of_root(host, steps).0
}

/// What root is given by these steps: whatever is found, and on a condition.
fn of_root<'s>(
    host: &dyn Host,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>>,
) -> (Vec<Command>, Vec<Command>) {
    let way = WayToRoot::of(host);
    let (mut certain, mut conditional) = (Vec::new(), Vec::new());
    for line in steps.into_iter().flat_map(|step| step.commands()) {
        let PlannedCommand::Done { effect, condition } = line else {
            continue;
        };
        let list = match condition {
            None => &mut certain,
            Some(_) => &mut conditional,
        };
        for command in way.commands(&effect) {
            if !list.contains(&command) {
                list.push(command);
            }
        }
    }
    (certain, conditional)
}

/// Proves that root may be given what these steps give it.
///
/// # Errors
/// Something that is done whatever is found is not allowed.
pub(super) fn prove_root<'s>(
    host: &dyn Host,
    purpose: &str,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>>,
    proofs: &mut Proofs,
) -> anyhow::Result<()> {
    let (certain, conditional) = of_root(host, steps);
    let Some(program) = host.privilege().program().filter(|_| !certain.is_empty()) else {
        return Ok(());
    };
    let user = &host.user().name;
    match host.prove_root(purpose, &certain)? {
        RootProof::Allowed => proofs.saw(format!(
            "{program} lets {user} run each of these commands as root"
        )),
        RootProof::Asks => proofs.saw(format!(
            "{program} lets {user} run each of these commands as root, with a password"
        )),
        RootProof::MayAsk => proofs.could_not_see(
            format!("whether {program} asks for a password"),
            "its rules ask for one, but not for each command",
        ),
        RootProof::Untold(said) => {
            proofs.could_not_see(format!("what {program} lets {user} run as root"), said)
        }
    }
    for command in certain.iter().chain(&conditional) {
        let path = Path::new(&command.program);
        if path.is_absolute() && !host.exists(path) {
            proofs.could_not_see(
                format!(
                    "whether {program} lets {user} run `{}`",
                    host.shown(command)
                ),
                "it is not there yet",
            );
        }
    }
    if host.prove_root(purpose, &conditional).is_ok() {
        return Ok(());
    }
    for command in conditional {
        let command = std::slice::from_ref(&command);
        if let (Err(_), [command]) = (host.prove_root(purpose, command), command) {
            proofs.could_not_see(
                format!("whether `{}` is needed", host.shown(command)),
                format!("{program} does not let {user} run it"),
            );
        }
    }
    Ok(())
}
