use super::*;
use crate::bastion::failure::{OneLine, advice_of};
use crate::bastion::host::scripted::ScriptedHost;
use crate::bastion::packages::test_support::Witness;
use crate::bastion::packages::{is_unknown_package, lock};

const RPM: &str = "sudo rpm -qa";
const INSTALL_DNF: &str = "sudo env LC_ALL=C dnf install";
const INSTALL_DNF_TOLERANTLY: &str = "sudo env LC_ALL=C dnf install -y '--setopt=exit_on_lock=True' \
    '--setopt=install_weak_deps=False' '--setopt=skip_if_unavailable=True' \
    '--setopt=*.skip_if_unavailable=True'";
const INSTALL_YUM: &str = "sudo env LC_ALL=C yum install";
const INSTALL_MICRODNF: &str = "sudo env LC_ALL=C microdnf install";
const BEFORE: &str = "glibc x86_64 2.34-60.el9 1700000000\n";
const AUTOSSH: &str = "autossh x86_64 1.4g-16.el9 1800000000\n";
const CURL: &str = "curl x86_64 7.76-1.el9 1800000000\n";
const BOTH: &str = "autossh x86_64 1.4g-16.el9 1800000000\ncurl x86_64 7.76-1.el9 1800000000\n";
const METADATA: &str = "Error: Failed to download metadata for repo 'third': Cannot download repomd.xml: \
                        Cannot download repodata/repomd.xml: All mirrors were tried";

/// Installs curl and autossh on a host with these packages, where these commands run, each with its
/// status and words, and these packages come: every record that was made, and how it ended.
fn install(
    program: Program,
    before: &str,
    commands: &[(&str, i32, &str)],
    new: &str,
) -> (Vec<Vec<String>>, anyhow::Result<()>) {
    let host = ScriptedHost::new();
    host.expect(RPM, 0, before, "");
    for (command, status, said) in commands {
        host.expect(command, *status, "", said);
    }
    host.expect(RPM, 0, &format!("{before}{new}"), "");
    host.on("sudo rpm -q --whatprovides", |_, _| Output {
        status: 1,
        ..Output::default()
    });
    let packages = ["curl", "autossh"].map(str::to_owned);
    let mut witness = Witness::default();
    let result = Yum::for_removal(program).install(&host, &packages, &mut witness);
    assert!(host.is_finished());
    (witness.records, result)
}

/// The same where it fails and nothing came.
fn fails(program: Program, commands: &[(&str, i32, &str)]) -> anyhow::Error {
    let (records, result) = install(program, BEFORE, commands, "");
    assert_eq!(records.last().unwrap(), &Vec::<String>::new());
    result.unwrap_err()
}

#[test]
fn what_one_transaction_added_is_recorded_and_nothing_else() {
    // glibc was upgraded in the same transaction, and somebody else installed vim meanwhile.
    let new = [
        "glibc x86_64 2.34-100.el9 1800000000\n",
        AUTOSSH,
        "libfoo x86_64 1-1.el9 1800000000\n",
        CURL,
        "gpg-pubkey (none) 3228467c-613798eb 1799999998\n",
        "vim-enhanced x86_64 8.2-1.el9 1799999990\n",
    ]
    .concat();
    let (records, result) = install(DNF, BEFORE, &[(INSTALL_DNF, 0, "Complete!")], &new);
    result.unwrap();
    assert_eq!(records[0], ["curl", "autossh"], "the record before");
    let key = "gpg-pubkey-3228467c-613798eb";
    assert_eq!(
        records[1],
        ["autossh.x86_64", "libfoo.x86_64", "curl.x86_64", key]
    );
    assert_eq!(records.len(), 2);
}

#[test]
fn what_was_there_before_is_never_recorded() {
    let there = format!("{BEFORE}{CURL}");
    let (records, result) = install(DNF, &there, &[(INSTALL_DNF, 0, "Complete!")], AUTOSSH);
    result.unwrap();
    assert_eq!(records, [["autossh"], ["autossh.x86_64"]]);
}

#[test]
fn a_package_that_no_repository_has_is_told_as_each_program_tells_it() {
    let dnf = "No match for argument: autossh\nError: Unable to find a match: autossh";
    let none_enabled = "Error: There are no enabled repositories in \"/etc/yum.repos.d\".";
    let yum = "No package autossh available.\nError: Nothing to do";
    for (program, command, status, words) in [
        (DNF, INSTALL_DNF, 1, dnf),
        (DNF, INSTALL_DNF, 1, none_enabled),
        (
            MICRODNF,
            INSTALL_MICRODNF,
            1,
            "error: No package matches 'autossh'",
        ),
        (YUM, INSTALL_YUM, 0, "No package autossh available."),
        (YUM, INSTALL_YUM, 1, yum),
    ] {
        let error = fails(program, &[(command, status, words)]);
        assert!(is_unknown_package(&error), "{words}: {error:#}");
    }
}

#[test]
fn what_yum_installed_although_one_package_is_unknown_is_recorded() {
    let said = "No package autossh available.\nInstalled:\n  curl";
    let (records, result) = install(YUM, BEFORE, &[(INSTALL_YUM, 0, said)], CURL);
    assert!(is_unknown_package(&result.unwrap_err()));
    assert_eq!(records[1], ["curl.x86_64"]);
}

#[test]
fn one_broken_repository_does_not_stop_it() {
    let commands = [
        (INSTALL_DNF, 1, METADATA),
        (INSTALL_DNF_TOLERANTLY, 0, "Complete!"),
    ];
    install(DNF, BEFORE, &commands, BOTH).1.unwrap();
}

#[test]
fn mirrors_that_cannot_be_reached_are_named_where_a_package_is_missing() {
    let unknown = "Error: Unable to find a match: curl autossh";
    let error = fails(
        DNF,
        &[
            (INSTALL_DNF, 1, METADATA),
            (INSTALL_DNF_TOLERANTLY, 1, unknown),
        ],
    );
    assert!(error.to_string().contains("repo 'third'"), "{error:#}");
    assert!(advice_of(&error).unwrap().contains("mirror"));
    assert!(is_unknown_package(&error));
}

#[test]
fn a_download_that_fails_is_told_with_its_cause() {
    let words = "Error: Error downloading packages:\n  Curl error (6): Could not resolve host: mirror.example";
    let error = fails(MICRODNF, &[(INSTALL_MICRODNF, 1, words)]);
    assert!(OneLine(&error).to_string().contains("mirror.example"));
    assert!(advice_of(&error).unwrap().contains("mirror"));
    assert!(!is_unknown_package(&error));
}

#[test]
fn a_lock_is_waited_for_within_bounds() {
    let locked = (
        INSTALL_DNF,
        LOCKED_STATUS,
        "metadata already locked by 6400",
    );
    let error = fails(DNF, &[locked; lock::ATTEMPTS as usize]);
    let said = error.to_string();
    assert!(said.contains("lock for more than 2 minutes"), "{said}");
}

#[test]
fn a_lock_that_is_released_is_no_failure() {
    let held =
        "Another app is currently holding the yum lock; exiting as configured by exit_on_lock";
    let microdnf = "error: Failed to obtain the transaction lock (logged in as: root).";
    for (program, command, status, words) in [
        (
            DNF,
            INSTALL_DNF,
            LOCKED_STATUS,
            "metadata already locked by 6400",
        ),
        (MICRODNF, INSTALL_MICRODNF, 1, microdnf),
        (YUM, INSTALL_YUM, LOCKED_STATUS, held),
    ] {
        let commands = [(command, status, words), (command, 0, "Complete!")];
        install(program, BEFORE, &commands, BOTH).1.unwrap();
    }
}

#[test]
fn a_full_disk_is_named() {
    let words = "Error: Transaction test error:\n  installing package gcc needs 40MB more space needed on the / filesystem";
    let error = fails(DNF, &[(INSTALL_DNF, 1, words)]);
    assert!(error.to_string().contains("disk is full"), "{error}");
}

#[test]
fn what_is_in_rpm_s_database_is_installed_however_they_end() {
    let by_dnf = "Error in PREIN scriptlet in rpm package agent\nError: Transaction failed";
    let by_rpm = "warning: %post(agent-1.0-1.noarch) scriptlet failed, exit status 1\n\
                  Non-fatal POSTIN scriptlet failure in rpm package agent-1.0-1.noarch";
    let plugin = "Error: a plugin failed";
    let named = "script of agent failed";
    for (program, install, status, said, note) in [
        (DNF, INSTALL_DNF, 1, by_dnf, named),
        (DNF, INSTALL_DNF, 0, by_dnf, named),
        (DNF, INSTALL_DNF, 1, plugin, "a plugin failed"),
        (MICRODNF, INSTALL_MICRODNF, 1, by_rpm, named),
        (MICRODNF, INSTALL_MICRODNF, 0, by_rpm, named),
        (YUM, INSTALL_YUM, 1, by_rpm, named),
        (YUM, INSTALL_YUM, 0, by_rpm, named),
        (YUM, INSTALL_YUM, 1, plugin, "a plugin failed"),
    ] {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(install, status, "", said);
        host.expect(RPM, 0, &format!("{BEFORE}{AUTOSSH}"), "");
        let mut witness = Witness::default();
        let packages = ["autossh".to_owned()];
        Yum::for_removal(program)
            .install(&host, &packages, &mut witness)
            .unwrap();
        let told = &witness.notes[0];
        assert!(told.contains(note), "{install}: {told}");
    }
}

#[test]
fn a_package_whose_signature_cannot_be_checked_is_told_as_that_by_each_of_them() {
    for (program, command, words) in [
        (
            DNF,
            INSTALL_DNF,
            "Package autossh-1.4g-1.x86_64.rpm is not signed\nError: GPG check FAILED",
        ),
        (
            MICRODNF,
            INSTALL_MICRODNF,
            "error: package autossh-1.4g-1.x86_64 cannot be verified and repo epel is GPG enabled",
        ),
        (
            YUM,
            INSTALL_YUM,
            "Public key for autossh-1.4g-1.el7.x86_64.rpm is not installed",
        ),
    ] {
        let error = fails(program, &[(command, 1, words)]);
        let said = OneLine(&error).to_string();
        assert!(said.contains("signature cannot be checked"), "{said}");
        let last = words.lines().last().unwrap();
        assert!(said.contains(last), "{said}");
        assert!(advice_of(&error).unwrap().contains("rpm --import"));
    }
}

#[test]
fn both_outputs_of_one_that_fails_are_told() {
    for (program, install) in [
        (DNF, INSTALL_DNF),
        (MICRODNF, INSTALL_MICRODNF),
        (YUM, INSTALL_YUM),
    ] {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, BEFORE, "");
        host.expect(
            install,
            1,
            "autossh conflicts with agent",
            "a scriptlet is slow",
        );
        host.expect(RPM, 0, BEFORE, "");
        host.expect("sudo rpm -q --whatprovides autossh", 1, "", "");
        let packages = ["autossh".to_owned()];
        let manager = Yum::for_removal(program);
        let result = manager.install(&host, &packages, &mut Witness::default());
        let said = OneLine(&result.unwrap_err()).to_string();
        for words in ["conflicts with agent", "a scriptlet is slow"] {
            assert!(said.contains(words), "{install}: {said}");
        }
    }
}

#[test]
fn what_is_not_there_although_dnf_ended_well_is_no_success() {
    let host = ScriptedHost::new();
    host.expect(RPM, 0, BEFORE, "");
    host.expect(INSTALL_DNF, 0, "Nothing to do.", "");
    host.expect(RPM, 0, BEFORE, "");
    host.expect("sudo rpm -q --whatprovides autossh", 1, "", "");
    let packages = ["autossh".to_owned()];
    let result = Yum::for_removal(DNF).install(&host, &packages, &mut Witness::default());
    let said = OneLine(&result.unwrap_err()).to_string();
    assert!(
        said.contains("could not install autossh") && said.contains("Nothing to do"),
        "{said}"
    );
}

#[test]
fn what_rpm_has_removed_is_gone_however_it_ends_and_what_is_left_is_named() {
    let preun = "error: lua script failed: [string \"%preun(autossh-1.4g-1.x86_64)\"]:1: no\n\
                 error: autossh-1.4g-1.x86_64: erase failed";
    let there = format!("{BEFORE}{AUTOSSH}");
    for (after, is_removed) in [(BEFORE, true), (there.as_str(), false)] {
        let host = ScriptedHost::new();
        host.expect(RPM, 0, &there, "");
        host.expect("sudo env LC_ALL=C rpm -e autossh.x86_64", 2, "", preun);
        host.expect(RPM, 0, after, "");
        let notes = std::cell::Cell::new(0);
        let note = |_: &str| notes.set(notes.get() + 1);
        let recorded = ["autossh.x86_64".to_owned()];
        let result = Yum::for_removal(DNF).remove(&host, &recorded, &[], &note);
        assert_eq!((result.is_ok(), notes.get() == 1), (is_removed, is_removed));
        if let Err(error) = result {
            let next = advice_of(&error).unwrap();
            assert!(
                next.contains("--noscripts --notriggers autossh.x86_64"),
                "{next}"
            );
        }
    }
}

#[test]
fn removal_is_left_to_rpm_which_takes_nothing_else_along() {
    let host = ScriptedHost::new();
    host.expect(RPM, 0, &format!("{BEFORE}{AUTOSSH}"), "");
    host.expect("sudo env LC_ALL=C rpm -e autossh.x86_64", 0, "", "");
    let recorded = ["autossh.x86_64", "gone.noarch"].map(str::to_owned);
    Yum::for_removal(DNF)
        .remove(&host, &recorded, &[], &|_| {})
        .unwrap();
    assert_eq!(host.ran()[1], "sudo env LC_ALL=C rpm -e autossh.x86_64");
}

#[test]
fn only_hosts_as_old_as_rhel_7_have_their_trust_renewed() {
    let renewal = |program, version| Yum::new(program, "centos", version).renew_trust();
    let update = renewal(YUM, "7.9").unwrap().to_string();
    assert!(update.ends_with("nss curl ca-certificates"), "{update}");
    assert!(renewal(YUM, "2018.03").is_none());
    assert!(renewal(DNF, "9.4").is_none());
}
