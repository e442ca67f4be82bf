//! Runs texts in every shell that is here, with nothing else to run than what the shell itself knows.

use std::io::{Seek, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

/// Those that may run a script of ours.
const FOR_SCRIPTS: [&[&str]; 6] = [
    &["/bin/sh"],
    &["/bin/dash"],
    &["/bin/bash"],
    &["/bin/busybox", "sh"],
    &["/bin/mksh"],
    &["/bin/ksh93"],
];

/// In which a person may type a command besides.
const FOR_PERSONS: [&[&str]; 1] = [&["/bin/zsh"]];

/// All that is there to be run besides: some shells do not know it themselves.
static PRINTF: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    symlink("/usr/bin/printf", folder.path().join("printf")).expect("there is room for a link");
    folder
});

/// What a text is to say, before it is run.
const BEGINNING: &str = r#"out() { printf '%s\0' "$@"; }
"#;

static SHELLS: LazyLock<[Vec<&[&str]>; 2]> = LazyLock::new(|| {
    let are_here = |shells: &[&'static [&'static str]]| {
        let shells = shells.iter().copied();
        shells
            .filter(|shell| Path::new(shell[0]).exists())
            .collect::<Vec<_>>()
    };
    let found = [are_here(&FOR_SCRIPTS), are_here(&FOR_PERSONS)];
    eprintln!("The shells are {found:?}");
    found
});

/// A piece of shell, and what it says by `out`.
pub struct Check {
    pub name: &'static str,
    pub script: String,
    pub says: Vec<String>,
}

/// Each of these is a script of ours, or part of one.
pub fn hold_in_scripts(checks: &[Check]) {
    let [scripts, _] = &*SHELLS;
    hold(scripts.iter().copied(), checks);
}

/// Each of these is typed by a person.
pub fn hold_when_typed(checks: &[Check]) {
    let [scripts, persons] = &*SHELLS;
    hold(scripts.iter().chain(persons).copied(), checks);
}

/// What a script says by `out`.
pub fn said_by_sh(script: &str) -> Vec<String> {
    let said = run(&["/bin/sh"], &format!("{BEGINNING}{script}"));
    said.split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn hold(shells: impl Iterator<Item = &'static [&'static str]>, checks: &[Check]) {
    let pieces = checks
        .iter()
        .map(|check| format!("(\n{}\n)\n", check.script));
    let script = BEGINNING.to_owned() + &pieces.collect::<String>();
    let says = checks
        .iter()
        .flat_map(|check| check.says.iter().map(move |word| (check.name, word)));
    for shell in shells {
        let said = run(shell, &script);
        let mut said = said.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        for (name, word) in says.clone() {
            let heard = said.next().unwrap_or_default();
            assert_eq!(heard, *word, "{name} in {shell:?}:\n{script}");
        }
        let more: Vec<_> = said.filter(|word| !word.is_empty()).collect();
        assert!(more.is_empty(), "{shell:?} says more: {more:?}\n{script}");
    }
}

/// A path in the home folder comes out as it was put in.
fn run(shell: &[&str], script: &str) -> Vec<u8> {
    let mut file = tempfile::tempfile().expect("there is room for a file");
    file.write_all(script.as_bytes())
        .expect("there is room for a script");
    file.rewind().expect("it is a file");
    let mut command = Command::new(shell[0]);
    command
        .args(&shell[1..])
        .env_clear()
        .env("PATH", PRINTF.path())
        .env("HOME", "~");
    command
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::from(file))
        .stderr(Stdio::null());
    command.output().expect("the shell is here").stdout
}
