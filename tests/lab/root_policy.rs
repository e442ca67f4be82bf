//! What root is given: shown before, asked for command by command, and no more than that.

use std::collections::BTreeSet;

use holistics_tunnel::protocol::DataSourceState;

use crate::USAGE;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::hosts::network::MIRROR_NAME;
use crate::support::lab::SERVICE_LIMIT;

/// sudo's rules that come last.
const RULES: &str = "/etc/sudoers.d/zz-lab";
const SUDO_LOG: &str = "/var/log/sudo.log";
const PASSWORD: &str = "open sesame";
/// All that a setup runs as root on a host that has its packages, but for systemctl.
const PROGRAMS: &str = "/usr/bin/sh, /usr/bin/mkdir, /usr/bin/install, /usr/bin/mv";

/// A host with dave, for whom sudo has these rules.
fn lab_with_dave(rules: &str) -> HostLab {
    let lab = HostLab::boot(Image::DebianReady);
    let line = format!("useradd --create-home dave && echo 'dave:{PASSWORD}' | chpasswd");
    lab.host.run("root", &line).expect_code(0);
    lab.host.write(RULES, format!("dave ALL=(ALL) {rules}\n"));
    lab
}

#[test]
fn a_user_who_may_run_some_programs_only_is_told_which_before_anything_is_changed() {
    let lab = lab_with_dave(&format!("NOPASSWD: {PROGRAMS}"));
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    for arguments in ["", "--dry-run"] {
        let finished = lab
            .run_setup("dave", &source, arguments)
            .expect_code(USAGE)
            .expect_words(&[
                "sudo does not let dave run",
                "sudo systemctl enable h_autossh.service",
                "User dave may run the following commands",
                "/usr/bin/mkdir",
            ]);
        let output = finished.output();
        let (_, refusal) = output.split_once("error:").expect("a refusal");
        assert!(!refusal.contains("sudo mkdir -m"), "it may\n{finished}");
        disk.assert_same(&Disk::of(&lab.host), |_| false);
        assert_eq!(lab.state(&source), DataSourceState::Draft);
    }
}

#[test]
fn programs_that_are_all_allowed_are_enough() {
    let lab = lab_with_dave(&format!("NOPASSWD: {PROGRAMS}, /usr/bin/systemctl"));
    let source = lab.data_source("Shop");
    // What they are not enough for is said, and keeps nobody from anything.
    lab.run_setup("dave", &source, "--dry-run")
        .expect_code(0)
        .expect_words(&[
            "? whether the tunnel can be started here",
            "? whether a setup that fails can be undone",
            "sudo does not let dave run `sudo systemd-run",
            "`sudo rm -f /etc/systemd/system/h_autossh.service",
        ]);
    let setup = lab.start_setup("dave", &source, "");
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    let log = lab.host.run("dave", "cat .holistics/logs/setup-*.log");
    let times = |question: &str| log.stdout.matches(question).count();
    assert!(times(" sudo -n -l -l mkdir ") > 0, "{log}");
    // The plan tells of what would undo it, and what is done on a condition; a run nobody.
    assert_eq!(times(" sudo -n -l -l rm "), 0, "{log}");
    let of_condition = "sudo -n -l -l systemctl enable h_autossh.service";
    assert_eq!(
        times(&format!("{of_condition} h_autossh@")),
        times(of_condition),
        "{log}"
    );
}

#[test]
fn whoever_may_run_everything_but_one_program_is_told_before_anything_is_changed() {
    let lab = lab_with_dave("NOPASSWD: ALL, !/usr/bin/systemctl");
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    lab.run_setup("dave", &source, "")
        .expect_code(USAGE)
        .expect_words(&[
            "sudo does not let dave run",
            "sudo systemctl enable h_autossh.service",
        ]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_removal_that_root_s_rules_do_not_allow_is_refused_before_anything_is_changed() {
    let lab = lab_with_dave(&format!("NOPASSWD: {PROGRAMS}, /usr/bin/systemctl"));
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("dave", &source, "");
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    let disk = Disk::of(&lab.host);
    let remove = "holistics-tunnel uninstall-tunnel --all --yes";
    lab.host
        .run("dave", remove)
        .expect_code(USAGE)
        .expect_words(&["sudo does not let dave run `sudo rm -f"]);
    disk.assert_same(&Disk::of(&lab.host), |path| {
        path.contains("/.holistics/logs/")
    });
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    let rules = format!(
        "dave ALL=(ALL) NOPASSWD: {PROGRAMS}, /usr/bin/systemctl, /usr/bin/rm, /usr/bin/rmdir\n"
    );
    lab.host.write(RULES, rules);
    lab.host.run("dave", remove).expect_code(0);
}

#[test]
fn a_user_who_is_asked_for_a_password_is_told_what_is_not_allowed_right_after_it() {
    let lab = lab_with_dave(PROGRAMS);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let mut setup = lab.setup_at_terminal("dave", &source, "--yes");
    let screen = setup.program();
    screen.wait_for_output("Password of dave", SETUP_LIMIT);
    setup.enter(PASSWORD);
    let finished = setup
        .wait(SETUP_LIMIT)
        .expect_code(USAGE)
        .expect_words(&["sudo systemctl enable h_autossh.service"]);
    assert_eq!(finished.output().matches("Password of").count(), 1);
    let allowed = "sudo mkdir -m";
    assert!(!finished.output().contains(allowed), "it may\n{finished}");
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_password_for_other_programs_is_not_asked_for() {
    let lab = lab_with_dave(&format!(
        "/usr/bin/passwd, NOPASSWD: {PROGRAMS}, /usr/bin/systemctl"
    ));
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("dave", &source, "");
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
}

#[test]
fn a_password_that_nobody_can_be_asked_for_is_told_before_the_key_is_registered() {
    // The newer sudo tells the rule that it finds, the older one does not.
    for image in [Image::DebianReady, Image::Trixie] {
        let lab = HostLab::boot(image);
        let rules = "carol ALL=(ALL) NOPASSWD: /usr/bin/passwd\n";
        lab.host.write(RULES, rules);
        let source = lab.data_source("Shop");
        lab.run_setup("carol", &source, "")
            .expect_code(USAGE)
            .expect_words(&["sudo asks carol for a password", "no terminal"]);
        assert_eq!(lab.state(&source), DataSourceState::Draft);
    }
}

#[test]
fn the_plan_shows_what_root_is_given_word_for_word() {
    let lab = HostLab::boot(Image::Debian);
    let rules = format!("Defaults logfile={SUDO_LOG}, loglinelen=0\n");
    lab.host.write(RULES, rules);
    // With a proxy, root is given what hands it on.
    let proxy = format!("http://ada:hunter2@{MIRROR_NAME}");
    let source = lab.data_source("Shop");
    let with_proxy = |line: &str| format!("export http_proxy={proxy}; {line}");

    let dry_run = with_proxy(&lab.setup_line(&source, "--yes --dry-run"));
    let plan = lab.host.run("ada", &dry_run).expect_code(0);
    assert!(!plan.output().contains("hunter2"), "{plan}");
    let planned: Vec<(String, bool)> = plan.stderr.lines().filter_map(given_to_root).collect();
    let _ = std::fs::remove_file(lab.host.path(SUDO_LOG));

    let setup = with_proxy(&lab.setup_line(&source, "--yes"));
    let setup = lab.host.start("ada", &setup);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    let ran: BTreeSet<String> = logged(&lab.host.read(SUDO_LOG));
    let log = lab.host.run("ada", "cat .holistics/logs/setup-*.log");
    let times = |question: &str| log.stdout.matches(question).count();
    // She may run everything.
    assert_eq!(times(" sudo -n -l -l "), 0, "{log}");
    assert_eq!(times("sudo systemctl daemon-reload"), 0, "{log}");
    assert_eq!(
        times("$ systemctl --version"),
        1,
        "it stays the same\n{log}"
    );

    for command in &ran {
        let is_planned = planned.iter().any(|(planned, _)| planned == command);
        assert!(is_planned, "not in the plan: {command}\n{plan}");
    }
    for (command, is_certain) in &planned {
        // The second step adds to what the first has put in place.
        assert!(
            !is_certain || ran.contains(command),
            "never ran: {command}\n{ran:#?}"
        );
    }
    assert!(planned.len() > 12, "{plan}");
}

/// The words of a line of the plan that root is given, as sudo's log has them, and whether it is run
/// whatever is found.
fn given_to_root(line: &str) -> Option<(String, bool)> {
    let line = line.trim().strip_prefix("sudo ")?;
    let (command, is_certain) = match line.rsplit_once(" (") {
        Some((command, condition)) if condition.ends_with(')') => (command, false),
        _ => (line, true),
    };
    let words = shell_words::split(command).expect("a line for a shell");
    Some((words.join(" "), is_certain))
}

/// What ran, by sudo's log: its questions aside, and without the program's folder.
fn logged(log: &str) -> BTreeSet<String> {
    let commands = log
        .lines()
        .filter_map(|line| line.split_once("COMMAND=").map(|(_, command)| command));
    commands
        .map(|command| {
            // The log quotes words with spaces, as a shell does.
            let mut words = shell_words::split(command).expect("a line for a shell");
            let program = words[0].rsplit('/').next().map(str::to_owned);
            words[0] = program.expect("a name");
            words.join(" ")
        })
        .filter(|command| command != "true" && !command.starts_with("list"))
        .collect()
}

#[test]
fn sudo_rs_asks_for_the_password_and_again_when_it_has_forgotten_it() {
    let lab = HostLab::boot(Image::SudoRs);
    let source = lab.data_source("Shop");
    let mut setup = lab.setup_at_terminal("carol", &source, "--yes");
    let asks = |what: &str| format!("{what} requires root");
    let at_first = asks("Installing packages and the service");
    setup.program().wait_for_output(&at_first, SETUP_LIMIT);
    setup.program().wait_for_output("carol", SETUP_LIMIT);
    setup.program().wait_for_output("Password: ", SETUP_LIMIT);
    setup.enter(PASSWORD);
    lab.wait_until_connected(&source, setup.program());
    // sudo's memory of all terminals.
    let forget = "rm -r /run/sudo-rs/ts/*";
    lab.host.run("root", forget).expect_code(0);
    lab.operator.save(source.id);
    let again = asks("Going on");
    setup.program().wait_for_output(&again, SETUP_LIMIT);
    let asked_again = || {
        let said = setup.program().output();
        let after = said.split_once(&again).map(|(_, after)| after.to_owned());
        after.is_some_and(|after| after.contains("Password: "))
    };
    setup
        .program()
        .wait_until("the second question", SETUP_LIMIT, asked_again);
    setup.enter(PASSWORD);
    setup.wait(SETUP_LIMIT).expect_code(0);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
}

#[test]
fn sudo_rs_is_asked_for_each_command_and_its_own_words_are_passed_on() {
    let lab = HostLab::boot(Image::SudoRs);
    lab.host
        .write(RULES, format!("bob ALL=(ALL) NOPASSWD: {PROGRAMS}\n"));
    let source = lab.data_source("Shop");
    lab.run_setup("bob", &source, "")
        .expect_code(USAGE)
        .expect_words(&[
            "sudo systemctl enable h_autossh.service",
            "User bob may run",
        ]);
    lab.run_setup("carol", &source, "")
        .expect_code(USAGE)
        .expect_words(&["interactive authentication is required"]);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn doas_without_a_password_runs_what_sudo_would() {
    let lab = HostLab::boot(Image::Doas);
    let source = lab.data_source("Shop");
    let plan = lab
        .run_setup("ada", &source, "--dry-run")
        .expect_code(0)
        .expect_words(&[
            "doas systemctl enable h_autossh.service",
            "? what doas lets ada run as root: doas has rules that only root can read",
        ]);
    assert!(!plan.output().contains("sudo "), "{plan}");
    let plan = lab
        .run_setup("root", &source, "--dry-run")
        .expect_code(0)
        .expect_words(&["  write /etc/systemd/system/h_autossh.service"]);
    assert!(!plan.output().contains("doas "), "{plan}");
    let setup = lab.start_setup("ada", &source, "");
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
}

#[test]
fn doas_that_remembers_asks_once_at_the_terminal() {
    let lab = HostLab::boot(Image::Doas);
    let source = lab.data_source("Shop");
    lab.run_setup("carol", &source, "")
        .expect_code(USAGE)
        .expect_words(&["doas: Authentication required"]);
    let mut setup = lab.setup_at_terminal("carol", &source, "--yes");
    setup
        .program()
        .wait_for_output("doas may ask for carol's password", SETUP_LIMIT);
    setup.program().wait_for_output("password: ", SETUP_LIMIT);
    setup.enter(PASSWORD);
    lab.wait_until_connected(&source, setup.program());
    lab.operator.save(source.id);
    let finished = setup.wait(SETUP_LIMIT).expect_code(0);
    assert_eq!(
        finished.output().matches("password: ").count(),
        1,
        "{finished}"
    );
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
}

#[test]
fn doas_that_does_not_remember_or_does_not_let_is_refused_with_its_own_words() {
    let lab = HostLab::boot(Image::Doas);
    lab.host
        .write("/etc/doas.conf", "permit nopass ada\npermit carol\n");
    let mode = |mode: &str| {
        let line = format!("chmod {mode} /etc/doas.conf");
        lab.host.run("root", &line).expect_code(0);
    };
    mode("600");
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    lab.run_setup("bob", &source, "")
        .expect_code(USAGE)
        .expect_words(&["doas: Operation not permitted"]);
    let mut setup = lab.setup_at_terminal("carol", &source, "--yes");
    setup.program().wait_for_output("password: ", SETUP_LIMIT);
    setup.enter(PASSWORD);
    setup
        .wait(SETUP_LIMIT)
        .expect_code(USAGE)
        .expect_words(&["remember carol's password", "persist"]);

    // Rules that everybody may read answer before anybody is asked.
    mode("644");
    let setup = lab.setup_at_terminal("carol", &source, "--yes");
    let finished = setup
        .wait(SETUP_LIMIT)
        .expect_code(USAGE)
        .expect_words(&["persist"]);
    assert!(!finished.output().contains("password: "), "{finished}");
    mode("600");
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}
