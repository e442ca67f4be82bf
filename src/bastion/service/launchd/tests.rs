//! launchctl and the definitions, on a host in memory.

use std::path::Path;

use super::*;
use crate::bastion::host::scripted::ScriptedHost;
use crate::bastion::service::tunnel_file::example;

fn tunnel() -> TunnelName {
    "bi.example.com-7".parse().unwrap()
}

#[test]
fn the_definition_is_a_plist_whatever_a_path_holds() {
    let mut tunnel = example("/Users/ada & <co>");
    tunnel.autossh = "/opt/homebrew/bin/autossh".into();
    let text = render(&tunnel).unwrap();
    let daemon: plist::Dictionary = plist::from_bytes(text.as_bytes()).unwrap();
    let arguments: Vec<&str> = daemon["ProgramArguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_string().unwrap())
        .collect();
    assert_eq!(arguments[0], "/opt/homebrew/bin/autossh");
    assert!(arguments.contains(&"/Users/ada & <co>/.holistics/id_rsa"));
    assert_eq!(
        daemon["Label"].as_string(),
        Some("io.holistics.h_autossh.bi.example.com-7")
    );
}

/// What launchd does with it nobody has tried here; these are the keys that launchd.plist(5) names for it.
#[test]
fn a_daemon_that_ends_is_tried_again_every_ten_seconds_and_never_in_a_burst() {
    let text = render(&example("/Users/ada")).unwrap();
    let daemon: plist::Dictionary = plist::from_bytes(text.as_bytes()).unwrap();
    assert_eq!(daemon["KeepAlive"].as_boolean(), Some(true));
    assert_eq!(daemon["ThrottleInterval"].as_signed_integer(), Some(10));
    let environment = daemon["EnvironmentVariables"].as_dictionary().unwrap();
    assert_eq!(environment["AUTOSSH_MAXSTART"].as_string(), Some("1"));
}

#[test]
fn the_definition_is_read_again_whatever_a_path_holds() {
    let host = ScriptedHost::new();
    let layout = Layout::new(&host, Path::new("/"));
    for dir in ["/Library", "/Library/LaunchDaemons"] {
        host.create_dir(Path::new(dir), 0o755, Authority::Root)
            .unwrap();
    }
    let given = example("/Users/ada & <co>'s");
    let path = plist_path(&layout, given.id);
    let content = render(&given).unwrap();
    host.write(&path, content.as_bytes(), 0o644, Authority::Root)
        .unwrap();
    host.write(
        &daemons_dir(&layout).join("com.example.plist"),
        b"",
        0o644,
        Authority::Root,
    )
    .unwrap();
    let installed = Launchd.installed(&host, &layout).unwrap();
    assert_eq!(installed.len(), 1);
    assert_eq!(installed[0].name, given.id);
    assert_eq!(installed[0].user, "ada");
    assert_eq!(installed[0].target(), "db.internal:5432");
    assert_eq!(installed[0].log, given.log);
}

#[test]
fn a_daemon_still_going_down_is_waited_for() {
    let host = ScriptedHost::new();
    host.expect_all(&["sudo launchctl enable system/io.holistics.h_autossh.bi.example.com-7"]);
    host.expect(
        "sudo launchctl bootout system/io.holistics.h_autossh.bi.example.com-7",
        36,
        "",
        "Operation now in progress",
    );
    host.expect(
        "sudo launchctl bootstrap system",
        37,
        "",
        "Bootstrap failed: 37: Operation already in progress",
    );
    host.expect_all(&["sudo launchctl bootstrap system"]);
    let layout = Layout::new(&host, Path::new("/"));
    load(&host, &layout, tunnel()).unwrap();
    assert!(host.is_finished());
}

#[test]
fn a_daemon_that_never_starts_is_told_with_what_launchd_said() {
    let host = ScriptedHost::new();
    host.expect_all(&["sudo launchctl enable"]);
    host.expect("sudo launchctl bootout", 3, "", "No such process");
    for _ in 0..BOOTSTRAP_ATTEMPTS {
        host.expect(
            "sudo launchctl bootstrap",
            5,
            "",
            "Bootstrap failed: 5: Input/output error",
        );
    }
    let layout = Layout::new(&host, Path::new("/"));
    let error = load(&host, &layout, tunnel()).unwrap_err();
    assert!(error.to_string().contains("Input/output error"), "{error}");
    assert!(host.is_finished());
}

const PRINT: &str = "launchctl print system/io.holistics.h_autossh.bi.example.com-7";
const KICKSTART: &str =
    "sudo launchctl kickstart -k system/io.holistics.h_autossh.bi.example.com-7";

#[test]
fn one_tunnel_is_restarted_and_its_siblings_are_not() {
    let host = ScriptedHost::new();
    host.expect(PRINT, 0, "state = running", "");
    host.expect_all(&[KICKSTART]);
    let layout = Layout::new(&host, Path::new("/"));
    Launchd.restart_one(&host, &layout, tunnel()).unwrap();
    assert!(host.is_finished());
}

#[test]
fn a_tunnel_that_launchd_has_forgotten_is_loaded_again_by_a_restart() {
    let host = ScriptedHost::new();
    host.expect(PRINT, 113, "", "Could not find service");
    host.expect_all(&["sudo launchctl enable"]);
    host.expect("sudo launchctl bootout", 3, "", "No such process");
    host.expect_all(&["sudo launchctl bootstrap system"]);
    let layout = Layout::new(&host, Path::new("/"));
    Launchd.restart_one(&host, &layout, tunnel()).unwrap();
    assert!(host.is_finished());
}

#[test]
fn a_daemon_that_launchd_cannot_start_is_told_with_its_reason() {
    let print = |said: &str| {
        let host = ScriptedHost::new();
        host.expect("launchctl print system/io.holistics.h_autossh", 0, said, "");
        let layout = Layout::new(&host, Path::new("/"));
        Launchd.start_failure(&host, &layout, tunnel()).unwrap()
    };
    let scheduled = |code: &str| {
        print(&format!(
            "system/io.holistics.h_autossh.bi.example.com-7 = {{\n\tstate = spawn scheduled\n\n\tprogram = \
             /opt/homebrew/bin/autossh\n\truns = 3\n\tlast exit code = {code}\n}}\n"
        ))
    };
    let missing = scheduled("78: EX_CONFIG").unwrap();
    assert!(
        missing.told().contains("last exit code = 78: EX_CONFIG"),
        "{missing:?}"
    );
    assert!(
        missing.told().contains("state = spawn scheduled"),
        "{missing:?}"
    );
    assert!(
        missing.next.contains("/opt/homebrew/bin/autossh"),
        "{missing:?}"
    );
    assert!(scheduled("127").is_some());
    // ssh's own end is in the tunnel's log.
    assert_eq!(scheduled("1"), None);
    assert_eq!(scheduled("(never exited)"), None);
    assert_eq!(
        print("\tstate = running\n\tlast exit code = 78: EX_CONFIG\n"),
        None
    );
}
