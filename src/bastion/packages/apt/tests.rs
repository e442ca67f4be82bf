use std::cell::RefCell;

use super::*;
use crate::bastion::failure::{OneLine, advice_of};
use crate::bastion::host::scripted::ScriptedHost;
use crate::bastion::packages::test_support::{Witness, answers};
use crate::bastion::packages::{is_unknown_package, lock};

const SIMULATE: &str = "LC_ALL=C apt-get install --simulate";
const SIMULATE_PURGE: &str = "LC_ALL=C apt-get purge --simulate";
const INSTALL: &str =
    "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get install";
const UPDATE: &str =
    "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get update";
const PURGE: &str =
    "sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get purge";
const DPKG_PURGE: &str = "sudo env DEBIAN_FRONTEND=noninteractive LC_ALL=C dpkg --purge autossh";
const WOULD_INSTALL: &str = "Inst autossh (1.4g-1 Debian)\n";
const NOT_FOUND: &str = "E: Unable to locate package autossh";

/// dpkg has no package, unless it is asked when an answer of its is expected; and apt has lists.
fn host_without_packages() -> ScriptedHost {
    let host = host_without_lists();
    for folder in ["/var", "/var/lib", "/var/lib/apt", LISTS] {
        let made = host.create_dir(Path::new(folder), 0o755, Authority::User);
        made.unwrap();
    }
    let list = Path::new(LISTS).join("deb.example_dists_stable_main_binary-amd64_Packages");
    host.write(&list, b"", 0o644, Authority::User).unwrap();
    host
}

fn host_without_lists() -> ScriptedHost {
    let host = ScriptedHost::new();
    host.on("dpkg-query -W", |_, _| Output::default());
    host
}

/// Installs autossh where these commands run: what the watcher was told, and how it ended.
fn install(commands: &[(&str, i32, &str, &str)]) -> (Witness, anyhow::Result<()>) {
    install_on(&host_without_packages(), commands)
}

fn install_on(
    host: &ScriptedHost,
    commands: &[(&str, i32, &str, &str)],
) -> (Witness, anyhow::Result<()>) {
    answers(host, commands);
    let mut witness = Witness::default();
    let result = Apt.install(host, &["autossh".to_owned()], &mut witness);
    assert!(host.is_finished());
    (witness, result)
}

#[test]
fn nothing_is_installed_that_cannot_be_recorded_before() {
    let host = host_without_packages();
    host.expect(SIMULATE, 0, WOULD_INSTALL, "");
    let mut full_disk = Witness {
        refuses: true,
        ..Witness::default()
    };
    let result = Apt.install(&host, &["autossh".to_owned()], &mut full_disk);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
    assert!(host.is_finished());
}

#[test]
fn what_apt_would_add_is_recorded_before_and_upgrades_do_not_count() {
    let upgrade = "Inst openssh-client [1:9.2p1-1] (1:9.2p1-2 Debian)\n";
    let said = format!("{upgrade}{WOULD_INSTALL}Conf autossh\n");
    let (witness, result) = install(&[(SIMULATE, 0, &said, ""), (INSTALL, 0, "", "")]);
    result.unwrap();
    assert_eq!(witness.records, [["autossh"]]);
    assert!(witness.waits.is_empty());
}

#[test]
fn lists_are_fetched_only_when_the_package_is_not_found() {
    let broken = "E: The repository 'https://broken.example' does not have a Release file.";
    let (_, result) = install(&[
        (SIMULATE, 100, "", NOT_FOUND),
        (UPDATE, 100, "", broken),
        (SIMULATE, 0, WOULD_INSTALL, ""),
        (INSTALL, 0, "", ""),
    ]);
    result.unwrap();
}

#[test]
fn a_new_host_s_lists_are_fetched_before_apt_is_asked_what_it_knows() {
    let commands = [
        (UPDATE, 0, "", ""),
        (SIMULATE, 0, WOULD_INSTALL, ""),
        (INSTALL, 0, "", ""),
    ];
    let (witness, result) = install_on(&host_without_lists(), &commands);
    result.unwrap();
    assert_eq!(witness.records, [["autossh"]]);
}

#[test]
fn an_absent_package_is_told_with_what_apt_said() {
    let (witness, result) = install(&[
        (SIMULATE, 100, "", NOT_FOUND),
        (UPDATE, 0, "", ""),
        (SIMULATE, 100, "", NOT_FOUND),
    ]);
    let error = result.unwrap_err();
    assert!(is_unknown_package(&error));
    assert!(OneLine(&error).to_string().contains(NOT_FOUND));
    assert!(witness.records.is_empty());
}

#[test]
fn a_mirror_that_was_not_reached_is_named_where_a_package_is_missing() {
    let unreached =
        "W: Failed to fetch http://deb.example/InRelease  Could not resolve 'deb.example'";
    let (_, result) = install(&[
        (SIMULATE, 100, "", NOT_FOUND),
        (UPDATE, 0, "", unreached),
        (SIMULATE, 100, "", NOT_FOUND),
    ]);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("deb.example"), "{error}");
    assert!(advice_of(&error).unwrap().contains("mirror"));
}

#[test]
fn a_lock_is_waited_for_within_bounds_and_it_is_said() {
    let held = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812";
    let mut commands = vec![(SIMULATE, 0, WOULD_INSTALL, "")];
    commands.extend((0..lock::ATTEMPTS).map(|_| (INSTALL, 100, "", held)));
    let (witness, result) = install(&commands);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("2 minutes"), "{error}");
    assert_eq!(witness.waits.len(), 1);
    let waits = &witness.waits[0];
    assert!(waits.contains("apt's lock"), "{waits}");
}

#[test]
fn a_lock_of_the_lists_that_is_released_is_no_failure() {
    let held = "E: Could not get lock /var/lib/apt/lists/lock";
    let (_, result) = install(&[
        (SIMULATE, 100, "", NOT_FOUND),
        (UPDATE, 100, "", held),
        (UPDATE, 0, "", ""),
        (SIMULATE, 0, WOULD_INSTALL, ""),
        (INSTALL, 0, "", ""),
    ]);
    result.unwrap();
}

#[test]
fn a_full_disk_is_named() {
    let full = "E: You don't have enough free space in /var/cache/apt/archives/.";
    let (_, result) = install(&[
        (SIMULATE, 0, WOULD_INSTALL, ""),
        (INSTALL, 100, "", full),
        (QUERY, 0, "", ""),
    ]);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("disk is full"), "{error}");
}

const QUERY: &str = "dpkg-query -W";
const FAILED: &str =
    "Setting up agent (1.0) ...\ncannot start\ndpkg: error processing package agent\n";
const ENDED: &str = "E: Sub-process /usr/bin/dpkg returned an error code (1)";

#[test]
fn what_is_installed_is_installed_however_apt_ends_and_who_failed_is_named() {
    let (witness, result) = install(&[
        (SIMULATE, 0, WOULD_INSTALL, ""),
        (INSTALL, 100, FAILED, ENDED),
        (QUERY, 0, "ii |autossh\niF |agent\n", ""),
        (QUERY, 0, "ii |autossh\niF |agent\n", ""),
    ]);
    result.unwrap();
    let [note] = &witness.notes[..] else {
        panic!("{:?}", witness.notes);
    };
    for said in [
        "status 100",
        "agent",
        "cannot start",
        "sudo dpkg --configure -a",
    ] {
        assert!(note.contains(said), "{note}");
    }
}

#[test]
fn what_is_not_installed_is_told_with_who_stands_in_the_way_and_both_outputs() {
    let there = "iU |autossh\niF |agent\n";
    let (witness, result) = install(&[
        (SIMULATE, 0, WOULD_INSTALL, ""),
        (INSTALL, 100, FAILED, ENDED),
        (QUERY, 0, there, ""),
        (QUERY, 0, there, ""),
    ]);
    let error = result.unwrap_err();
    assert!(witness.notes.is_empty());
    assert!(advice_of(&error).unwrap().contains("dpkg --configure -a"));
    let said = OneLine(&error).to_string();
    assert!(
        said.contains("agent is not fully installed (cannot start)"),
        "{said}"
    );
    assert!(
        said.contains("Setting up agent") && said.contains(ENDED),
        "{said}"
    );
}

#[test]
fn a_hook_that_fails_is_told_in_apt_s_words() {
    let hook = "E: Problem executing scripts DPkg::Post-Invoke 'false'";
    let (witness, result) = install(&[
        (SIMULATE, 0, WOULD_INSTALL, ""),
        (INSTALL, 100, "", hook),
        (QUERY, 0, "ii |autossh\n", ""),
        (QUERY, 0, "ii |autossh\n", ""),
    ]);
    result.unwrap();
    assert!(witness.notes[0].contains(hook), "{:?}", witness.notes);
}

#[test]
fn nothing_of_somebody_else_s_is_removed_to_make_room() {
    let said = format!("Remv agent [1.0]\n{WOULD_INSTALL}");
    let (witness, result) = install(&[(SIMULATE, 0, &said, "")]);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("remove agent"), "{error}");
    assert!(witness.records.is_empty());
}

/// Removes autossh where these commands run: what was noted, and how it ended.
fn remove(commands: &[(&str, i32, &str, &str)]) -> (Vec<String>, anyhow::Result<()>) {
    let host = ScriptedHost::new();
    answers(&host, commands);
    let notes = RefCell::new(Vec::new());
    let note = |text: &str| notes.borrow_mut().push(text.to_owned());
    let result = Apt.remove(&host, &["autossh", "gone"].map(str::to_owned), &[], &note);
    assert!(host.is_finished());
    (notes.into_inner(), result)
}

#[test]
fn only_what_is_still_installed_is_removed() {
    let purge = format!("{PURGE} -y -o 'DPkg::Lock::Timeout=120' autossh");
    let (notes, result) = remove(&[
        (QUERY, 0, "ii |autossh\nun |gone\n", ""),
        (SIMULATE_PURGE, 0, "Purg autossh [1.4g-1]\n", ""),
        (&purge, 0, "", ""),
    ]);
    result.unwrap();
    assert!(notes.is_empty());
}

#[test]
fn what_apt_left_of_a_package_on_account_of_another_goes_all_the_same() {
    let (notes, result) = remove(&[
        (QUERY, 0, "iF |autossh\niF |agent\n", ""),
        (SIMULATE_PURGE, 0, "Purg autossh [1.4g-1]\n", ""),
        (PURGE, 100, FAILED, ENDED),
        (QUERY, 0, "ic |autossh\niF |agent\n", ""),
        (QUERY, 0, "ic |autossh\niF |agent\n", ""),
        (DPKG_PURGE, 0, "", ""),
        (QUERY, 0, "iF |agent\n", ""),
    ]);
    result.unwrap();
    assert!(
        notes[0].contains("agent is not fully installed"),
        "{notes:?}"
    );
}

#[test]
fn what_cannot_be_removed_is_named() {
    let there = "iF |autossh\n";
    let (notes, result) = remove(&[
        (QUERY, 0, there, ""),
        (SIMULATE_PURGE, 0, "Purg autossh [1.4g-1]\n", ""),
        (PURGE, 100, "", ENDED),
        (QUERY, 0, there, ""),
        (QUERY, 0, there, ""),
        (
            DPKG_PURGE,
            1,
            "",
            "dpkg: error processing package autossh (--purge)",
        ),
        (QUERY, 0, there, ""),
    ]);
    let said = OneLine(&result.unwrap_err()).to_string();
    assert!(said.contains("could not remove autossh"), "{said}");
    assert!(notes.is_empty());
}

#[test]
fn what_something_else_has_come_to_need_is_not_removed() {
    let simulated = "Purg billing-agent [2.0]\nPurg autossh [1.4g-1]\n";
    let (_, result) = remove(&[
        (QUERY, 0, "ii |autossh\n", ""),
        (SIMULATE_PURGE, 0, simulated, ""),
    ]);
    let said = OneLine(&result.unwrap_err()).to_string();
    assert!(said.contains("billing-agent depends on autossh"), "{said}");
}
