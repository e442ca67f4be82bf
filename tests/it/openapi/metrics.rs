//! What Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;

use crate::openapi::visitor::Visitor;
use crate::openapi::world::World;
use crate::support::lab::{Lab, SERVICE_LIMIT, tunnel_of};
use crate::support::process;
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

const SOON: Duration = Duration::from_secs(20);

/// The samples of a page, by name and labels, after a look at its form.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut described = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(help.ends_with('.') && !help.ends_with(".."), "{line}");
            assert_eq!(described.insert(name, None), None, "{name} twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            *described.get_mut(name).expect("the help before the type") = Some(kind);
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            let name = sample.split('{').next().expect("a name");
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| described.get_key_value(name.strip_suffix(part)?))
                .or_else(|| described.get_key_value(name));
            let (_, kind) = family.unwrap_or_else(|| panic!("{name} is not described"));
            assert!(kind.is_some(), "{name} has no type");
            let value = value.parse().expect("a number");
            assert_eq!(
                samples.insert(sample.to_owned(), value),
                None,
                "{sample} twice"
            );
        }
    }
    samples
}

/// A server that serves metrics by themselves, and where.
fn measured() -> (Server, String) {
    let server = Server::start_with(10, &["--metrics-listen", "127.0.0.1:0"]);
    let log = server.log();
    let url = log.lines().find_map(|line| line.strip_prefix("metrics "));
    let url = url.expect("where metrics are").trim().to_owned();
    (server, url)
}

fn read(server: &Server, url: &str) -> BTreeMap<String, f64> {
    let page = Visitor::new(server).get(url);
    assert_eq!(page.status, 200, "{}", page.body);
    let media_type = page.headers["content-type"].to_str().expect("text");
    assert!(
        media_type.starts_with("text/plain; version=0.0.4"),
        "{media_type}"
    );
    samples(&page.body)
}

#[test]
fn the_main_address_shows_metrics_to_operators_alone_and_loopback_is_no_credential() {
    let world = World::new();
    let ask = |token: &str| {
        let request = world.stranger.request(Method::GET, "/metrics");
        request.bearer_auth(token).send().expect("an answer")
    };
    assert_eq!(world.stranger.get("/metrics").status, 401);
    assert_eq!(ask(&world.own.tunnel_token).status(), 403);
    assert_eq!(world.signed_in.get("/metrics").status, 200);
    let page = ask(&world.operator_token).text().expect("a body");
    let now = samples(&page);
    assert_eq!(now["holistics_tunnel_tunnels{state=\"down\"}"], 3.0);
    assert_eq!(now["holistics_tunnel_tunnels{state=\"up\"}"], 0.0);
    assert_eq!(now["holistics_tunnel_remote_ports"], 10.0);
    let enrolled = "holistics_tunnel_http_requests_total{route=\"/api/v1/enrollment/public-key\",method=\"PUT\",status=\"2xx\"}";
    assert_eq!(now[enrolled], 3.0);
}

#[test]
fn an_address_of_its_own_serves_metrics_without_a_credential_and_nothing_else() {
    let (server, url) = measured();
    read(&server, &url);
    let visitor = Visitor::new(&server);
    let elsewhere = |path: &str| visitor.get(&url.replace("/metrics", path));
    for path in [
        "/",
        "/api/v1/data-sources",
        "/api/v1/openapi.json",
        "/sign-in",
    ] {
        let page = elsewhere(path);
        assert_eq!(page.status, 404, "{path}: {}", page.body);
        assert_eq!(page.headers["content-type"], "application/problem+json");
    }
}

#[test]
fn whatever_is_asked_for_no_label_holds_it() {
    let (server, url) = measured();
    let visitor = Visitor::new(&server);
    let token = "hte_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for path in [
        "/i/",
        "/r/",
        "/login/",
        "/nothing/",
        "/data-sources/",
        "/assets/",
    ] {
        visitor.get(&format!("{path}{token}"));
    }
    let series = read(&server, &url).len();
    let page = visitor.get(&url).body;
    assert!(!page.contains("hte_"), "{page}");
    assert!(page.contains("route=\"none\""), "{page}");
    for number in 0..50 {
        visitor.get(&format!("/i/{token}{number}"));
        visitor.get(&format!("/nothing/{number}"));
        let method = Method::from_bytes(format!("BREW{number}").as_bytes()).expect("a method");
        visitor.with_cookies(visitor.request(method, "/nothing"));
    }
    let one_more_method = 2 + 12;
    let now = read(&server, &url).len();
    assert!(now <= series + one_more_method, "{series} became {now}");
}

#[test]
fn a_tunnel_and_what_goes_through_it_are_counted_as_they_are() {
    let (server, url) = measured();
    let lab = Lab::with(server);
    let name = |rest: &str| format!("holistics_tunnel_{rest}");
    let now = |rest: &str| read(&lab.server, &url)[&name(rest)];
    let source = lab.active_data_source("Sales");
    assert_eq!(now("tunnels{state=\"up\"}"), 1.0);
    assert_eq!(now("tunnels{state=\"down\"}"), 0.0);
    wait_for(|| now("ssh_sessions"), 1.0);

    let accepted = now("forwarded_connections_accepted_total");
    let client = lab.login_through(&source).expect("the database answers");
    assert_eq!(now("forwarded_connections"), 1.0);
    assert!(now("forwarded_connections_accepted_total") > accepted);
    assert!(now("forwarded_bytes_total{direction=\"from_bastion\"}") > 100.0);
    assert!(now("forwarded_bytes_total{direction=\"to_bastion\"}") > 50.0);
    drop(client);
    wait_for(|| now("forwarded_connections"), 0.0);

    assert!(lab.operator.test(source.id, &lab.postgres.login()).ok);
    assert_eq!(now("connection_tests_total{result=\"passed\"}"), 1.0);
    let mut wrong = lab.postgres.login();
    wrong.password = "not the password".to_owned();
    assert!(!lab.operator.test(source.id, &wrong).ok);
    assert_eq!(now("connection_tests_total{result=\"failed\"}"), 1.0);

    lab.bastion.service("stop").expect_code(0);
    wait::until_true("the tunnel to be down", SERVICE_LIMIT, String::new, || {
        now("tunnels{state=\"up\"}") == 0.0
    });
    assert_eq!(now("tunnels{state=\"down\"}"), 1.0);
    wait_for(|| now("ssh_sessions"), 0.0);
}

#[test]
fn what_the_tunnel_server_refuses_is_counted_by_its_reason() {
    let (server, url) = measured();
    let lab = Lab::with(server);
    let now = |rest: &str| read(&lab.server, &url)[&format!("holistics_tunnel_{rest}")];
    let source = lab.data_source("Sales");
    let setup = lab.setup_that_waits(&source);
    let enrolled = lab.operator.data_source(source.id);
    let port = tunnel_of(&enrolled).remote_port;
    let port = port.expect("an enrolled tunnel has a port");

    let own = lab.bastion.private_key();
    ssh(&lab, "nobody", &own, &["-N"]);
    assert!(now("logins_refused_total{reason=\"user\"}") >= 1.0);
    ssh(&lab, "tunnel", &own, &["-N", "-R", "1:127.0.0.1:1"]);
    assert_eq!(now("forwards_refused_total{reason=\"port\"}"), 1.0);
    let taken = format!("{port}:127.0.0.1:1");
    ssh(&lab, "tunnel", &own, &["-N", "-R", &taken]);
    assert_eq!(now("forwards_refused_total{reason=\"held\"}"), 1.0);
    ssh(&lab, "tunnel", &own, &["true"]);
    assert_eq!(now("ssh_requests_refused_total"), 1.0);
    let unknown = lab.bastion.temporary().join("unknown");
    let mut make = lab.bastion.any_program("ssh-keygen");
    make.args(["-q", "-N", "", "-t", "ed25519", "-f"])
        .arg(&unknown);
    lab.bastion.run(&mut make).expect_code(0);
    assert_eq!(now("logins_refused_total{reason=\"key\"}"), 0.0);
    ssh(&lab, "tunnel", &unknown, &["-N"]);
    assert_eq!(now("logins_refused_total{reason=\"key\"}"), 1.0);
    setup.signal(Signal::INT);
    setup.wait(SOON);
}

/// Dashboards and alerts are written against these: names, help, types, labels and the values that are there
/// from the start.
#[test]
fn the_metrics_are_called_what_dashboards_call_them() {
    let (server, url) = measured();
    let page = Visitor::new(&server).get(&url).body;
    let mut lines: Vec<_> = page
        .lines()
        .filter(|line| !line.contains("{version="))
        .collect();
    // The program decides about no order that a reader sees.
    lines.sort_unstable();
    let lines: Vec<_> = lines
        .into_iter()
        .map(|line| {
            if line.starts_with('#') {
                line
            } else {
                line.rsplit_once(' ').expect("a value").0
            }
        })
        .collect();
    // There, each server also tells of its own table of keys.
    let name = if server.is_on_postgres() {
        "metrics_on_postgres"
    } else {
        "metrics"
    };
    insta::assert_snapshot!(name, lines.join("\n"));
}

#[test]
fn every_metric_that_documents_and_alerts_name_is_there() {
    let (server, url) = measured();
    // A route is counted from its first request on.
    assert_eq!(Visitor::new(&server).get("/healthz").status, 200);
    let page = Visitor::new(&server).get(&url).body;
    let shown: BTreeSet<_> = names_in(&page);
    let mut named = 0;
    for file in [
        "README.md",
        "docs/server.md",
        "docs/operations.md",
        "docs/alerts.yml",
    ] {
        for name in names_in(&document(file)) {
            assert!(shown.contains(&name), "{file} names {name}");
            named += 1;
        }
    }
    assert!(named >= 15, "{named}");
}

/// What begins as the names of metrics do.
fn names_in(text: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let prefix = "holistics_tunnel_";
    text.match_indices(prefix)
        .map(|(at, _)| word(&text[at..]))
        .collect()
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn each_alert_fires_when_it_should_and_none_while_all_is_well() {
    let folder = Workspace::new();
    let mut promtool = Command::new("promtool");
    promtool
        .args(["test", "rules", "tests/data/alerts-test.yml"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    process::run(&mut promtool, folder.path(), "promtool")
        .expect_code(0)
        .expect_words(&["success"]);
    // One that has no test would not be missed.
    let tested = document("tests/data/alerts-test.yml");
    let alerts = document("docs/alerts.yml");
    let alerts = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        assert!(tested.contains(&format!("alertname: {alert}}}")), "{alert}");
    }
}

/// Runs the bastion's ssh as this user with this key, and waits until it has been refused.
fn ssh(lab: &Lab, user: &str, key: &Path, arguments: &[&str]) {
    let known_hosts = lab.bastion.own_folder().join("known_hosts");
    let pinned = std::fs::read_to_string(&known_hosts).expect("the pinned host keys");
    let alias = pinned.split(' ').next().expect("a name");
    let mut command = lab.bastion.any_program("ssh");
    command
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .args(["-o", "ExitOnForwardFailure=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
        .args(["-o", &format!("HostKeyAlias={alias}")])
        .arg("-i")
        .arg(key)
        .args(["-p", lab.server.ssh_port(), "-l", user, "127.0.0.1"])
        .args(arguments);
    let ended = lab.bastion.start(&mut command).wait(SOON);
    assert_ne!(ended.code, 0, "{}", ended.output());
}

fn wait_for(now: impl Fn() -> f64, number: f64) {
    let what = format!("the number to be {number}");
    wait::until_true(
        &what,
        SOON,
        || format!("it is {}", now()),
        || now() == number,
    );
}
