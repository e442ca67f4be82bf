//! The stages together, on a host in memory.

use std::path::Path;

use super::*;
use crate::bastion::facts::{Family, Init, Tools};
use crate::bastion::host::scripted::{Listener, ScriptedHost};
use crate::bastion::host::{Authority, Output};
use crate::bastion::receipt::EnrolledRecord;
use crate::bastion::ssh::KeyType;
use crate::protocol::{DataSourceId, DatabaseType, TunnelServerAddress};

struct Nobody;

impl Watcher for Nobody {
    fn begins(&self, _: &str) {}
    fn ends(&self, _: &Check) {}
}

fn facts() -> Facts {
    Facts {
        id: "debian".into(),
        version: "12".into(),
        name: "Debian 12".into(),
        family: Family::Debian,
        family_by: None,
        package_manager: None,
        init: Init::None,
        architecture: None,
        libc: None,
        container: false,
        read_only: false,
        fips: false,
        selinux: false,
        privilege: None,
        tools: Tools::default(),
        openssh: None,
    }
}

fn receipt() -> Receipt {
    let mut receipt = Receipt::new(Path::new("/"));
    receipt.key_type = Some(KeyType::Rsa);
    let tunnel = TunnelRecord {
        // Nothing listens there.
        control_plane: "https://vendor.example".parse().unwrap(),
        data_source_id: DataSourceId(7),
        display_name: "Shop".into(),
        database_type: Some(DatabaseType::Mysql),
        target_host: "db.internal".into(),
        target_port: 3306,
        reach: Default::default(),
        token_sha256: String::new(),
        proxy_command: None,
        enrolled: Some(EnrolledRecord {
            remote_port: 20001,
            server: TunnelServerAddress {
                other_host: None,
                host: "tunnel.example".into(),
                port: 50022,
                user: "tunnel".into(),
                host_keys: vec!["ssh-ed25519 AAAA".into()],
            },
            former_servers: Vec::new(),
            tunnel_token: "htt_secret".into(),
        }),
        steps: Vec::new(),
    };
    receipt.tunnels.insert(tunnel_name(), tunnel);
    receipt
}

fn tunnel_name() -> TunnelName {
    "bi.example.com-7".parse().unwrap()
}

fn target(host: &ScriptedHost, receipt: Option<Receipt>) -> Target {
    let layout = Layout::new(host, Path::new("/"));
    let asked = receipt
        .iter()
        .flat_map(|receipt| receipt.tunnels.keys().copied());
    Target {
        facts: facts(),
        asked: asked.collect(),
        others: Vec::new(),
        installed: Ok(receipt.map(|receipt| (receipt, layout))),
        given: Given::default(),
    }
}

const DF: &str = "Filesystem\n/dev/sda1 100 50 9000000 50% /\n";

fn outcome(checks: &[Check], name: &str) -> (Outcome, String) {
    let check = checks.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("no check {name}"));
    (check.outcome, check.detail.clone())
}

#[test]
fn a_host_without_tunnels_is_looked_at_and_nothing_else_is() {
    let host = ScriptedHost::new();
    host.expect("LC_ALL=C df", 0, DF, "");
    let checks = examine(&host, &Nobody, &target(&host, None)).unwrap();
    assert!(checks.iter().all(|check| check.subject == "This host"));
    assert_eq!(outcome(&checks, "system").0, Outcome::Pass);
    assert_eq!(outcome(&checks, "package-manager").0, Outcome::Fail);
    assert_eq!(outcome(&checks, "openssh").0, Outcome::Fail);
    assert_eq!(outcome(&checks, "receipt").0, Outcome::Skip);
}

#[test]
fn a_kept_proxy_that_does_not_answer_is_named_with_its_remedy_and_without_its_login() {
    let host = ScriptedHost::new();
    host.expect("LC_ALL=C df", 0, DF, "");
    host.name("proxy.internal", "10.0.0.4");
    let mut receipt = receipt();
    for tunnel in receipt.tunnels.values_mut() {
        tunnel.reach.proxy = Some("http://ada:geheim@proxy.internal:3128".to_owned());
    }
    let target = target(&host, Some(receipt));
    let checks = examine(&host, &Nobody, &target).unwrap();
    let named = outcome(&checks, "control-plane-name");
    assert_eq!(named.0, Outcome::Pass);
    assert!(named.1.contains("the proxy that is kept"), "{}", named.1);
    let reached = checks
        .iter()
        .find(|check| check.name == "control-plane-tcp");
    let remedy = reached.unwrap().remedy.clone().unwrap();
    assert!(
        remedy.contains("`holistics-tunnel update-tunnel 7`"),
        "{remedy}"
    );
    let report = report::render(&*host, &target, &checks);
    assert!(!report.contains("geheim"), "{report}");
}

#[test]
fn what_depends_on_something_that_failed_is_skipped_with_the_reason() {
    let host = ScriptedHost::new();
    host.expect("LC_ALL=C df", 0, DF, "");
    host.name("tunnel.example", "10.0.0.2");
    host.listen("10.0.0.2:50022", Listener::Silent);
    host.name("db.internal", "10.0.0.3");
    host.listen(
        "10.0.0.3:3306",
        Listener::Says(b"\x09\0\0\0\x0a8.4.0\0xx".to_vec()),
    );
    let checks = examine(&host, &Nobody, &target(&host, Some(receipt()))).unwrap();

    assert_eq!(outcome(&checks, "control-plane-name").0, Outcome::Fail);
    for name in [
        "control-plane-tcp",
        "control-plane-tls",
        "clock",
        "token",
        "tunnel",
    ] {
        assert_eq!(outcome(&checks, name).0, Outcome::Skip, "{name}");
    }
    let (found, detail) = outcome(&checks, "server-tcp");
    assert_eq!(found, Outcome::Fail);
    assert!(detail.contains("filtered"), "{detail}");
    for name in ["server-ssh", "server-host-key", "server-key"] {
        assert_eq!(outcome(&checks, name).0, Outcome::Skip, "{name}");
    }
    // The database is looked at whatever has become of the vendor.
    assert_eq!(
        outcome(&checks, "database-protocol"),
        (Outcome::Pass, "it is MySQL 8.4.0".to_owned())
    );
}

#[test]
fn behind_a_proxy_command_it_is_ssh_that_says_whether_the_server_answers() {
    let host = ScriptedHost::new();
    host.expect("LC_ALL=C df", 0, DF, "");
    host.install("ssh");
    host.on("ssh ", |_, _| Output::default());
    host.on("SHELL=/bin/sh ssh -v", |_, _| Output {
        status: 255,
        stderr: "debug1: x\nNcat: Proxy returned status code 403.\n".to_owned(),
        ..Output::default()
    });
    let mut receipt = receipt();
    let tunnel = receipt.tunnels.get_mut(&tunnel_name()).unwrap();
    tunnel.proxy_command = Some("ncat %h %p".parse().unwrap());
    let checks = examine(&host, &Nobody, &target(&host, Some(receipt))).unwrap();
    // Its name is not this host's business.
    for name in ["server-name", "server-tcp", "server-host-key", "server-key"] {
        assert_eq!(outcome(&checks, name).0, Outcome::Skip, "{name}");
    }
    let (found, detail) = outcome(&checks, "server-ssh");
    assert_eq!(found, Outcome::Fail);
    assert!(
        detail.contains("Proxy returned status code 403"),
        "{detail}"
    );
}

#[test]
fn a_setup_that_did_not_end_is_told_and_its_service_is_not_looked_at() {
    let host = ScriptedHost::new();
    host.expect("LC_ALL=C df", 0, DF, "");
    let mut receipt = receipt();
    receipt.init = Some(Init::Systemd);
    let checks = examine(&host, &Nobody, &target(&host, Some(receipt))).unwrap();
    assert_eq!(outcome(&checks, "setup").0, Outcome::Fail);
    for name in ["files", "service-boot", "service"] {
        assert_eq!(outcome(&checks, name).0, Outcome::Skip, "{name}");
    }
    assert!(host.is_finished(), "the service manager was not asked");
}

#[test]
fn the_report_holds_the_receipt_without_its_tokens() {
    let host = ScriptedHost::new();
    host.create_dir(Path::new("/home/ada/.holistics"), 0o700, Authority::User)
        .unwrap();
    let text = report::render(&host, &target(&host, Some(receipt())), &[]);
    assert!(text.contains("\"remote_port\": 20001"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
