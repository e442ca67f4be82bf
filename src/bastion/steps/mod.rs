//! The steps, one file each: those of a setup, and of what is done to tunnels later. A step is the unit of reversion.
//!
//! `apply` makes sure of a state: it looks first and changes only what is missing, so running it
//! again after a run that died is safe. What undoes it stands in [`Change::undo`], which works from the
//! recorded changes alone, since a removal has no plan.
//!
//! To add one: a file beside this one with a type that implements [`Step`], a variant of [`StepName`]
//! (in `receipt`), its changes in `change`, and its place in the list that a command carries out.

pub mod autossh;
pub mod database;
pub mod directory;
pub mod enrollment;
pub mod foreground;
pub mod host_keys;
pub mod key_pair;
pub mod packages;
pub mod place;
pub mod planned;
pub mod proofs;
pub mod remains;
pub mod removal;
pub mod removal_by_root;
pub mod rename;
pub mod rotation;
pub mod service;
pub mod service_tunnel;
pub mod system_files;
pub mod target;
pub mod temporary_tunnel;
pub mod wait_for_save;
pub mod way_out;

#[cfg(doc)]
use super::change::Change;
use super::host::{Command, Host, HostExt as _};
use super::receipt::Scope;
pub use super::receipt::StepName;
use super::run::StepContext;
pub use super::ui::Outcome;
pub use planned::{PlannedCommand, planned};
pub use proofs::Proofs;

/// One step of a plan.
pub trait Step {
    fn name(&self) -> StepName;

    /// For what it works.
    fn scope(&self) -> Scope;

    /// What it does, in one line.
    fn summary(&self) -> String;

    /// The commands it runs and the files it writes: shown to the person who decides, and root is asked about.
    fn commands(&self) -> Vec<PlannedCommand> {
        Vec::new()
    }

    /// What undoes it. Root is asked about that for whoever reads the plan, so that it can be said before if it
    /// cannot be undone.
    fn undo_commands(&self) -> Vec<PlannedCommand> {
        Vec::new()
    }

    /// Whether it needs the superuser's rights.
    fn needs_root(&self) -> bool {
        false
    }

    /// What [`Step::prove`] runs, so that all of it runs side by side.
    fn questions(&self) -> Vec<Command> {
        Vec::new()
    }

    /// Looks for what would make this step fail: before anything is changed, and again before the key is
    /// registered. What was seen, and what could not be, is noted.
    ///
    /// # Errors
    /// What stands in the way, and how to remove it.
    fn prove(&self, _host: &dyn Host, _proofs: &mut Proofs) -> anyhow::Result<()> {
        Ok(())
    }

    /// What [`Step::rehearse`] runs first, for whoever has it begin before.
    fn rehearsal(&self, _work: &StepContext) -> Option<Command> {
        None
    }

    /// Tries on this host what a proof cannot see, right before the key is registered. Nothing is left of it.
    ///
    /// # Errors
    /// What stands in the way, and how to remove it.
    fn rehearse(&self, _work: &mut StepContext) -> anyhow::Result<()> {
        Ok(())
    }

    /// Whether what it changes stands or falls with the whole list: once that has come to its end, nothing of
    /// it is to be undone any more, and until then all of it is.
    fn is_transactional(&self) -> bool {
        false
    }

    /// Makes sure of the state this step stands for.
    ///
    /// # Errors
    /// What went wrong, with the next thing to do where that is known.
    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome>;
}

/// The step that cannot succeed, and why.
pub type Obstacle<'s> = (&'s dyn Step, anyhow::Error);

/// Whom proofs are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The run, which has to know whether it can be carried out.
    Run,
    /// A person who reads the plan, and is also told what would keep no run from its end.
    Person,
}

impl Audience {
    /// A dry run's is the person who asked for it.
    pub fn of(dry_run: bool) -> Self {
        if dry_run {
            Audience::Person
        } else {
            Audience::Run
        }
    }
}

/// Proves all of these steps. What that takes of commands runs side by side.
///
/// # Errors
/// The first that cannot succeed.
pub fn prove<'s>(
    host: &dyn Host,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>> + Clone,
    audience: Audience,
) -> anyhow::Result<Proofs> {
    find_obstacle(host, steps, audience)?.map_err(|(_, error)| error)
}

/// Begins what [`prove`] will run for these steps.
pub fn begin_proofs<'s>(
    host: &dyn Host,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>> + Clone,
    audience: Audience,
) -> anyhow::Result<()> {
    let own = steps.clone().into_iter().flat_map(|step| step.questions());
    host.begin(&own.collect::<Vec<_>>());
    let root = planned::given_to_root(steps, audience);
    host.begin(&planned::root_questions(host, &root)?);
    Ok(())
}

/// The same for those who have to tell which step it is.
pub fn find_obstacle<'s>(
    host: &dyn Host,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>> + Clone,
    audience: Audience,
) -> anyhow::Result<Result<Proofs, Obstacle<'s>>> {
    let root = planned::given_to_root(steps.clone(), audience);
    let own = steps.clone().into_iter().flat_map(|step| step.questions());
    host.beside(&own.collect::<Vec<_>>(), || {
        let questions = planned::root_questions(host, &root)?;
        Ok(host.beside(&questions, || prove_each(host, steps, root))?)
    })?
}

fn prove_each<'s>(
    host: &dyn Host,
    steps: impl IntoIterator<Item = &'s Box<dyn Step>> + Clone,
    root: Vec<PlannedCommand>,
) -> Result<Proofs, Obstacle<'s>> {
    const PURPOSE: &str = "Carrying this out";
    let mut proofs = Proofs::default();
    for step in steps.clone() {
        step.prove(host, &mut proofs)
            .and_then(|()| planned::prove_writes(host, step.as_ref(), &mut proofs))
            .map_err(|error| (step.as_ref(), error))?;
    }
    let Err(error) = planned::prove_commands(host, PURPOSE, root, &mut proofs) else {
        return Ok(proofs);
    };
    // Root is asked about all of them at once, and whose command it is has to be found out.
    let mut first = None;
    for step in steps {
        first.get_or_insert(step);
        let alone = planned::given_to_root([step], Audience::Run);
        if planned::prove_commands(host, PURPOSE, alone, &mut Proofs::default()).is_err() {
            return Err((step.as_ref(), error));
        }
    }
    match first {
        Some(step) => Err((step.as_ref(), error)),
        None => Ok(proofs),
    }
}
