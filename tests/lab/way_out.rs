//! Bastions from which a web proxy alone leads out.

use holistics_tunnel::protocol::DataSourceState;

use crate::setup::RETURN_LIMIT;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::{AUTHORITY, HostLab};
use crate::support::hosts::image::Image;
use crate::support::hosts::network::VENDOR_NAME;
use crate::support::hosts::web_proxy::WebProxy;
use crate::{FAILED, ROLLED_BACK};

/// Where ada has the setting of the proxy: on no command line.
const SETTING: &str = "/home/ada/proxy";

/// The host's commands with the proxy in their environment.
fn set_proxy(lab: &HostLab, login: &str) {
    let line = format!("export https_proxy=http://{login}{}\n", WebProxy::address());
    lab.host.write(SETTING, line);
}

fn with_proxy(line: &str) -> String {
    format!(". {SETTING}; {line}")
}

#[test]
fn a_proxy_with_a_login_is_found_and_its_password_is_seen_by_nobody() {
    const SECRET: &str = "hunter2";
    let lab = HostLab::boot(Image::DebianReady);
    let _proxy = WebProxy::alone_leads_out_of(&lab, &format!("BasicAuth ada {SECRET}\n"));
    set_proxy(&lab, &format!("ada:{SECRET}@"));
    journey(lab, "", |lab, kept| {
        let seen = lab.host.read("/var/log/lab-ps");
        assert!(
            seen.contains("ncat --proxy mirror.example"),
            "nobody looked"
        );
        // What is looked for must not stand on the search's own command line.
        let search = "grep --recursive -o 'h[u]nter2.*' /etc /home /root /run /tmp /var; journalctl | grep 'h[u]nter2'";
        let found = lab.host.run("root", search).output();
        let mut files: Vec<&str> = found
            .lines()
            .filter_map(|line| line.split(':').next())
            .collect();
        files.sort_unstable();
        // The receipt keeps the way to the control plane.
        let receipt = "/home/ada/.holistics/receipt.json";
        assert_eq!(files, [kept, receipt, SETTING], "{found}");
        let mode = lab
            .host
            .run("root", &format!("stat -c '%a %U' {kept} {receipt}"));
        assert_eq!(mode.stdout, "600 ada\n600 ada\n", "{mode}");
    });
}

#[test]
fn a_proxy_command_is_used_as_given_under_an_init_script() {
    let lab = HostLab::boot(Image::Sysvinit);
    let _proxy = WebProxy::alone_leads_out_of(&lab, "");
    set_proxy(&lab, "");
    let install = "apt-get update && apt-get install --yes --no-install-recommends ncat";
    lab.host.run("root", install).expect_code(0);
    // A shell, systemd and ssh would each read some of this in a way of its own.
    let command = format!(
        "X=\"100%% #\\$ 'x'\" && ncat --proxy {} --proxy-type http \"%h\" '%p'",
        WebProxy::address()
    );
    let command = format!("sh -c {}", shell_words::quote(&command));
    let argument = format!("--proxy-command {}", shell_words::quote(&command));
    journey(lab, &argument, |_, _| {});
}

#[test]
fn what_the_host_has_already_leads_out_of_the_service_s_sandbox() {
    let lab = HostLab::boot(Image::DebianReady);
    let _proxy = WebProxy::alone_leads_out_of(&lab, "");
    set_proxy(&lab, "");
    lab.host.run("root", "apt-get update").expect_code(0);
    for (package, command) in [
        ("netcat-openbsd", "nc -X connect -x "),
        ("socat", "socat - PROXY:"),
    ] {
        let apt = |what: &str| {
            let line = format!("apt-get {what} --yes --no-install-recommends {package}");
            lab.host.run("root", &line).expect_code(0);
        };
        apt("install");
        let source = lab.data_source(package);
        let line = lab.setup_line(&source, "--yes");
        let plan = lab
            .host
            .run("ada", &with_proxy(&format!("({line} --dry-run)")));
        plan.expect_code(0).expect_words(&[command]);
        let setup = lab.host.start("ada", &with_proxy(&line));
        lab.wait_until_connected(&source, &setup);
        lab.save_and_finish(&source, setup)
            .expect_words(&["nothing to install"]);
        lab.wait_until_rows_come(&source, RETURN_LIMIT);
        let removal =
            format!("holistics-tunnel uninstall-tunnel --all --yes --ca-cert {AUTHORITY}");
        lab.host.run("ada", &with_proxy(&removal)).expect_code(0);
        apt("purge");
    }
}

/// Setup, a reboot, a new key, and the removal.
fn journey(mut lab: HostLab, arguments: &str, look: impl FnOnce(&HostLab, &str)) {
    let watcher = lab.host.start(
        "root",
        "while :; do ps -A -ww -o args= >>/var/log/lab-ps; sleep 0.02; done",
    );
    let source = lab.data_source("Shop");
    let line = lab.setup_line(&source, &format!("--yes {arguments}"));
    let setup = lab.host.start("ada", &with_proxy(&line));
    lab.wait_until_connected(&source, &setup);
    let setup = lab.save_and_finish(&source, setup);
    if arguments.is_empty() {
        let through = format!("through the proxy {}", WebProxy::address());
        setup.expect_words(&[&through, "ncat"]);
    }
    lab.wait_until_rows_come(&source, RETURN_LIMIT);

    drop(watcher);
    lab.host.reboot();
    lab.wait_until_rows_come(&source, RETURN_LIMIT);
    let run = |line: &str| {
        let line = format!("holistics-tunnel {line} --ca-cert {AUTHORITY}");
        lab.host.run("ada", &with_proxy(&line)).expect_code(0)
    };
    run("doctor").expect_words(&["it speaks SSH through the proxy command"]);
    let manual = lab.host.run("ada", "holistics-tunnel manual linux");
    manual.expect_code(0).expect_words(&["-o ProxyCommand="]);
    // The same command again finds everything as it is.
    let again = lab.host.run("ada", &with_proxy(&line));
    again.expect_code(0).expect_words(&["nothing was changed"]);
    run("rotate-key --yes");
    lab.wait_until_rows_come(&source, RETURN_LIMIT);
    let script = lab
        .host
        .run("root", "ls /home/ada/.holistics/proxy-*.sh")
        .output();
    look(&lab, script.trim());

    run("uninstall-tunnel --all --yes");
    lab.host
        .run(
            "root",
            "ls -d /home/ada/.holistics /etc/h_autossh; pgrep -x 'ssh|autossh|ncat'",
        )
        .expect_code(1);
}

#[test]
fn a_proxy_that_refuses_the_port_of_ssh_is_told_before_a_key_is_registered() {
    let lab = HostLab::boot(Image::DebianReady);
    let _proxy = WebProxy::alone_leads_out_of(&lab, "ConnectPort 443\n");
    set_proxy(&lab, "");
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let setup = |arguments: &str| {
        let line = lab.setup_line(&source, &format!("--yes {arguments}"));
        lab.host.run("ada", &with_proxy(&line))
    };
    let server = format!("{VENDOR_NAME}:{}", lab.server.ssh_port());
    setup("").expect_code(FAILED).expect_words(&[
        &format!("the proxy {} of https_proxy", WebProxy::address()),
        "403",
        &format!("allow CONNECT to {server} on the proxy"),
    ]);
    // So is a command of somebody's that leads nowhere, in its own words.
    let nowhere = "--proxy-command 'sh -c \"echo no way to %h >&2; exit 1\"'";
    let said = setup(nowhere);
    assert!([FAILED, ROLLED_BACK].contains(&said.code), "{said}");
    said.expect_words(&[&format!("no way to {VENDOR_NAME}"), "--proxy-command"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}
