//! The engine on a host in memory.

use super::*;
use crate::bastion::control_plane::Given;
use crate::bastion::failure::exit_of;
use crate::bastion::host::scripted::{ScriptedHost, Snapshot};
use crate::bastion::host::{Authority, Command, CommandError, Output};
use crate::bastion::ssh::keys::KeyType;

/// Writes a file and runs a command, which may run on.
struct Example {
    still_runs: bool,
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

    fn apply(&self, work: &mut StepContext) -> anyhow::Result<Outcome> {
        let path = work.layout().private_key(KeyType::Rsa);
        work.write_file(&path, b"key", 0o600, Authority::User)?;
        let command = Command::new("slow");
        work.host().expect(&command)?;
        if self.still_runs {
            let (command, processes) = (command.to_string(), "7".to_owned());
            Err(CommandError::StillRuns { command, processes })?;
        }
        Ok(Outcome::Changed(String::new()))
    }
}

/// A run of the step on this host; the files before it and after it.
fn carry_out(host: &ScriptedHost, still_runs: bool) -> (anyhow::Result<Progress>, [Snapshot; 2]) {
    host.on("slow", |_, _| Output::default());
    let layout = Layout::new(host, std::path::Path::new("/"));
    let ui = Ui::new(false, true, true);
    let mut run = Run::begin(host, &ui, layout, Given::default()).unwrap();
    run.save().unwrap();
    let before = host.snapshot();
    let steps: [Box<dyn Step>; 1] = [Box::new(Example { still_runs })];
    let result = run.carry_out(&steps, None);
    (result, [before, host.snapshot()])
}

#[test]
fn nothing_is_undone_beneath_a_command_that_still_runs() {
    let host = ScriptedHost::new();
    let (result, [before, after]) = carry_out(&host, true);
    let error = result.unwrap_err();
    assert_eq!(exit_of(&error), Exit::Partly);
    assert!(advice_of(&error).unwrap().contains("as root"));
    assert_ne!(before, after, "the receipt and the file");
}

#[test]
fn wherever_a_step_is_interrupted_its_files_are_as_before() {
    let smooth = ScriptedHost::new();
    carry_out(&smooth, false).0.unwrap();
    for effect in 1..=smooth.effects() {
        let host = ScriptedHost::new();
        host.interrupt_at(effect);
        if let (Err(error), [before, after]) = carry_out(&host, false) {
            assert_eq!(exit_of(&error), Exit::Interrupted);
            assert_eq!(before, after, "interrupted at effect {effect}");
        }
    }
}

/// One of two steps, the second of which cannot succeed.
struct Planned {
    name: StepName,
    is_proved: bool,
    is_rehearsed: bool,
}

impl Step for Planned {
    fn name(&self) -> StepName {
        self.name
    }

    fn scope(&self) -> Scope {
        Scope::Host
    }

    fn summary(&self) -> String {
        String::new()
    }

    fn prove(&self, _: &dyn Host, _: &mut steps::Proofs) -> anyhow::Result<()> {
        anyhow::ensure!(self.is_proved, "there is no room");
        Ok(())
    }

    fn rehearse(&self, _: &mut StepContext) -> anyhow::Result<()> {
        anyhow::ensure!(self.is_rehearsed, "there is no room");
        Ok(())
    }

    fn apply(&self, _: &mut StepContext) -> anyhow::Result<Outcome> {
        panic!("the vendor is told a key");
    }
}

#[test]
fn what_would_fail_after_the_key_is_registered_is_told_with_its_own_step() {
    for (is_proved, is_rehearsed) in [(false, true), (true, false)] {
        let host = ScriptedHost::new();
        let layout = Layout::new(&host, std::path::Path::new("/"));
        let ui = Ui::new(false, true, true);
        let mut run = Run::begin(&host, &ui, layout, Given::default()).unwrap();
        let steps: [Box<dyn Step>; 2] = [
            Box::new(Planned {
                name: StepName::Enrollment,
                is_proved: true,
                is_rehearsed: true,
            }),
            Box::new(Planned {
                name: StepName::ServiceTunnel,
                is_proved,
                is_rehearsed,
            }),
        ];
        let error = run.carry_out(&steps, None).unwrap_err();
        assert_eq!(exit_of(&error), Exit::RolledBack);
        let said = OneLine(&error).to_string();
        assert!(
            said.starts_with("step service-tunnel would fail, so the key was not registered"),
            "{said}"
        );
        assert!(said.ends_with("there is no room"), "{said}");
    }
}

#[test]
fn a_step_s_end_is_written_at_once_with_what_comes_next() {
    let effects = |steps: usize| {
        let host = ScriptedHost::new();
        host.on("slow", |_, _| Output::default());
        let ui = Ui::new(false, true, true);
        let layout = Layout::new(&host, std::path::Path::new("/"));
        let mut run = Run::begin(&host, &ui, layout, Given::default()).unwrap();
        run.save().unwrap();
        let example = || -> Box<dyn Step> { Box::new(Example { still_runs: false }) };
        let steps: Vec<_> = (0..steps).map(|_| example()).collect();
        run.carry_out(&steps, None).unwrap();
        let written = Receipt::load(&*host, &run.layout.receipt())
            .unwrap()
            .unwrap();
        assert!(written.is_done(Scope::Host, StepName::KeyPair));
        host.effects()
    };
    // The second one finds its file, and so writes its beginning and runs its command.
    assert_eq!(effects(2) - effects(1), 2);
}
