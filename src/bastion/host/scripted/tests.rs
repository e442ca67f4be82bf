//! The host in memory itself.

use std::path::{Path, PathBuf};

use super::ScriptedHost;
use crate::bastion::host::{Authority, Command, Host, HostExt, Output};

fn three_effects(host: &ScriptedHost) -> anyhow::Result<()> {
    host.create_dir(Path::new("/home/ada/x"), 0o700, Authority::User)?;
    host.check_interrupt()?;
    HostExt::expect(
        host as &dyn Host,
        &Command::new("touch").arg("/home/ada/x/y"),
    )?;
    host.remove_file(Path::new("/home/ada/x/y"), Authority::User)?;
    host.check_interrupt()?;
    Ok(())
}

fn host() -> ScriptedHost {
    let host = ScriptedHost::new();
    host.on("touch", |host, command| {
        let path = PathBuf::from(&command.args[0]);
        host.write(&path, b"", 0o644, Authority::User).unwrap();
        Output::default()
    });
    host
}

#[test]
fn every_effect_can_fail_or_be_interrupted() {
    let smooth = host();
    let before = smooth.snapshot();
    three_effects(&smooth).unwrap();
    // What a command does to the files is an effect, too.
    assert_eq!(smooth.effects(), 4);
    assert_ne!(smooth.snapshot(), before);

    for effect in [1, 2, 4] {
        let failing = host();
        failing.fail_at(effect);
        three_effects(&failing).unwrap_err();
        assert_eq!(failing.effects(), effect);

        let interrupted = host();
        interrupted.interrupt_at(effect);
        let error = three_effects(&interrupted).unwrap_err();
        assert!(crate::bastion::failure::is_interruption(&error));
    }
    let held = host();
    held.interrupt_at(2);
    held.hold_interrupts(true);
    three_effects(&held).unwrap();
    held.hold_interrupts(false);
    assert!(held.check_interrupt().is_err());
}

#[test]
fn root_and_answers_are_as_the_test_says() {
    let host = ScriptedHost::new();
    assert_eq!(host.confirm("Go on?").unwrap(), None);
    host.answer(false);
    host.answer(true);
    assert_eq!(host.confirm("Go on?").unwrap(), Some(false));
    assert_eq!(host.confirm("Go on?").unwrap(), Some(true));
    host.acquire_root("It", &[]).unwrap();
    host.refuse_root();
    host.acquire_root("It", &[]).unwrap_err();
}
