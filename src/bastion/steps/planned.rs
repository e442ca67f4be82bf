//! What a step does, line by line, for the person who decides and for the proof that root may do it.

use std::path::Path;

use super::{Audience, Proofs, Step, system_files};
use crate::bastion::host::{
    Command, CommandError, Effect, Host, HostExt as _, RootProof, WayToRoot,
};
use crate::bastion::ui::PlannedStep;

const TO_UNDO: &str = "only to undo it";
const UNDO: &str = "whether a setup that fails can be undone";

/// A line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedCommand {
    /// What is no command of the host's.
    Said(String),
    Done {
        effect: Effect,
        need: Need,
    },
}

/// Whether a command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Certain,
    /// Only on this condition.
    Perhaps(&'static str),
    /// It can be done without: when it is run, and what is not known, or not sure, without it.
    Spare {
        when: &'static str,
        unknown: &'static str,
    },
}

impl PlannedCommand {
    /// The same where it is done only on this condition.
    #[must_use]
    pub fn only(self, condition: &'static str) -> Self {
        self.needed(Need::Perhaps(condition))
    }

    /// The same where it can be done without.
    #[must_use]
    pub fn spare(self, when: &'static str, unknown: &'static str) -> Self {
        self.needed(Need::Spare { when, unknown })
    }

    fn needed(self, need: Need) -> Self {
        match self {
            PlannedCommand::Done { effect, .. } => PlannedCommand::Done { effect, need },
            said => said,
        }
    }

    fn is_conditional(&self) -> bool {
        let PlannedCommand::Done { need, .. } = self else {
            return false;
        };
        matches!(need, Need::Perhaps(_))
    }

    fn shown(&self, way: &WayToRoot) -> Vec<String> {
        match self {
            PlannedCommand::Said(line) => vec![line.clone()],
            PlannedCommand::Done { effect, need } => {
                let condition = match need {
                    Need::Certain => String::new(),
                    Need::Perhaps(when) | Need::Spare { when, .. } => format!(" ({when})"),
                };
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
            need: Need::Certain,
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
    let (certain, _) = of_root(host, steps.into_iter().flat_map(|step| step.commands()));
    certain
}

/// What root is given: whatever is found, and what need not be.
fn of_root(
    host: &dyn Host,
    lines: impl IntoIterator<Item = PlannedCommand>,
) -> (Vec<Command>, Vec<(Command, Need)>) {
    let way = WayToRoot::of(host);
    let (mut certain, mut others): (Vec<Command>, Vec<(Command, Need)>) = Default::default();
    for line in lines {
        let PlannedCommand::Done { effect, need } = line else {
            continue;
        };
        for command in way.commands(&effect) {
            let is_other = others.iter().any(|(known, _)| *known == command);
            match need {
                Need::Certain if !certain.contains(&command) => certain.push(command),
                Need::Perhaps(_) | Need::Spare { .. } if !is_other => others.push((command, need)),
                _ => {}
            }
        }
    }
    others.retain(|(command, _)| !certain.contains(command));
    (certain, others)
}

/// Proves that the files that a step writes can be written.
pub(super) fn prove_writes(
    host: &dyn Host,
    step: &dyn Step,
    proofs: &mut Proofs,
) -> anyhow::Result<()> {
    for line in step.commands() {
        if let PlannedCommand::Done {
            effect: Effect::Write {
                path, authority, ..
            },
            ..
        } = line
        {
            system_files::prove_writable(host, [path], authority, proofs)?;
        }
    }
    Ok(())
}

/// What these steps do as far as root is asked about it. What only undoes them, or is done on some condition, need not
/// be allowed: a setup works without, and a host that never needs it is not to be refused. So it is of interest to
/// people alone.
pub(super) fn given_to_root<'s>(
    steps: impl IntoIterator<Item = &'s Box<dyn Step>>,
    audience: Audience,
) -> Vec<PlannedCommand> {
    let mut lines = Vec::new();
    for step in steps {
        lines.extend(step.commands());
        if audience == Audience::Person {
            let undo = step.undo_commands().into_iter();
            lines.extend(undo.map(|command| command.spare(TO_UNDO, UNDO)));
        }
    }
    if audience == Audience::Run {
        lines.retain(|line| !line.is_conditional());
    }
    lines
}

/// What [`prove_commands`] will ask.
pub(super) fn root_questions(
    host: &dyn Host,
    lines: &[PlannedCommand],
) -> Result<Vec<Command>, CommandError> {
    let (mut commands, others) = of_root(host, lines.iter().cloned());
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    commands.extend(others.into_iter().map(|(command, _)| command));
    host.root_questions(&commands)
}

/// Proves that root may be given this; returns what it is given whatever is found.
///
/// # Errors
/// Something that is done whatever is found is not allowed.
pub fn prove_commands(
    host: &dyn Host,
    purpose: &str,
    lines: impl IntoIterator<Item = PlannedCommand>,
    proofs: &mut Proofs,
) -> anyhow::Result<Vec<Command>> {
    let (certain, others) = of_root(host, lines);
    let Some(program) = host.privilege().program().filter(|_| !certain.is_empty()) else {
        return Ok(certain);
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
            proofs.could_not_see(format!("what {program} lets {user} run as root"), said);
        }
    }
    let (conditional, _): (Vec<Command>, Vec<Need>) = others.iter().cloned().unzip();
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
        return Ok(certain);
    }
    let is_denied = |command: &Command| {
        host.prove_root(purpose, std::slice::from_ref(command))
            .is_err()
    };
    let mut denied: Vec<(String, Vec<String>)> = Vec::new();
    for (command, need) in others.iter().filter(|(command, _)| is_denied(command)) {
        let shown = format!("`{}`", host.shown(command));
        let what = match need {
            Need::Spare { unknown, .. } => (*unknown).to_owned(),
            _ => format!("whether {shown} is needed"),
        };
        match denied.iter_mut().find(|(known, _)| *known == what) {
            Some((_, commands)) => commands.push(shown),
            None => denied.push((what, vec![shown])),
        }
    }
    for (what, commands) in denied {
        let commands = commands.join(", ");
        proofs.could_not_see(
            what,
            format!("{program} does not let {user} run {commands}"),
        );
    }
    Ok(certain)
}
