//! `doctor`, as the person at the bastion's shell runs it when something is wrong: what it finds, what
//! it says to do first, and that looking changes nothing.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::hosts::certificate;
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::process::{self, Finished, Running};
use crate::support::sql::LockedQuery;
use crate::support::workspace::Workspace;
use crate::support::{ports, wait};
use holistics_tunnel::protocol::{API_BASE, DataSource, DataSourceState};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// Longer than `doctor` may take, whatever is gone.
const DOCTOR_LIMIT: Duration = Duration::from_secs(60);
/// Wrong usage.
const USAGE: i32 = 2;
/// Longer than any `doctor` of a healthy tunnel takes, and answered with a number of its own.

// ---------------------------------------------------------------------------------------------
// A healthy tunnel, and a host without one
// ---------------------------------------------------------------------------------------------

#[test]
fn a_healthy_tunnel_passes_every_check_and_its_query_goes_on() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let before = lab.bastion.snapshot_of_what_lasts();
    let processes = lab.bastion.processes("ssh");
    let query = lab.query_that_runs_on(&source);

    let found = examine(&lab.bastion);
    assert_eq!(found.failed(), Vec::<&str>::new(), "{}", found.text);
    assert_eq!(found.document["ok"], true);
    // Plain http to this machine, and a service under --prefix.
    assert_eq!(
        found.skipped(),
        ["control-plane-tls", "service-boot"],
        "{}",
        found.text
    );
    found.expect("server-ssh", "pass", &["SSH-2.0"]);
    found.expect("server-host-key", "pass", &["SHA256:"]);
    found.expect("processes", "pass", &["autossh", "ssh"]);
    found.expect("database-protocol", "pass", &["PostgreSQL", "sessions"]);

    assert!(query.is_running(), "doctor outlasted the query");
    assert_eq!(
        query.answer().expect("the held query's answer"),
        LockedQuery::ANSWER
    );
    assert_eq!(lab.bastion.processes("ssh"), processes, "a new session");
    assert!(
        !lab.server.log().contains("refused"),
        "{}",
        lab.server.log()
    );
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());

    let id = tunnel_of(&source).id.to_string();
    let doctor = || lab.bastion.program(["doctor", &id]);
    lab.bastion
        .run(&mut doctor())
        .expect_code(0)
        .expect_words(&["✓ database-tcp", "Nothing is wrong"]);
    let ascii = lab.bastion.run(doctor().env("LANG", "C")).expect_code(0);
    assert!(ascii.output().is_ascii(), "{ascii}");
}

#[test]
fn a_host_without_tunnels_is_looked_at_before_setup() {
    let bastion = Bastion::new();
    let found = examine(&bastion);
    assert_eq!(found.failed(), Vec::<&str>::new(), "{}", found.text);
    found.expect("system", "pass", &[]);
    found.expect("receipt", "skip", &["no tunnels"]);

    let bare = Bastion::without(&["ssh", "autossh"]);
    let found = examine(&bare);
    found.expect("package-manager", "fail", &["missing"]);
    found.expect("openssh", "fail", &["not installed"]);
    assert_eq!(found.document["first"]["name"], "package-manager");
}

#[test]
fn a_tunnel_that_is_not_there_is_not_examined() {
    let bastion = Bastion::new();
    bastion
        .run(&mut bastion.program(["doctor", "4711"]))
        .expect_code(1)
        .expect_words(&["4711", "list"]);
}

// ---------------------------------------------------------------------------------------------
// The database
// ---------------------------------------------------------------------------------------------

#[test]
fn what_stands_at_the_database_s_port_is_told_apart() {
    let lab = Lab::new();
    let port = ports::free_port();
    let source = lab.operator.create("Shop", port);
    set_up(&lab, &source, &["--no-database-check"]);

    let found = examine(&lab.bastion);
    found.expect("database-tcp", "fail", &["closed"]);
    found.expect("database-protocol", "skip", &["cannot be reached"]);
    assert_eq!(found.failed(), ["database-tcp"], "{}", found.text);
    assert!(
        found.first().contains("start the database"),
        "{}",
        found.first()
    );

    let cases: [(&str, Stand, &str); 4] = [
        (
            "an SSH server",
            Stand::Says(b"SSH-2.0-OpenSSH_9.2\r\n"),
            "SSH",
        ),
        (
            "a web server",
            Stand::Answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "HTTP",
        ),
        (
            "a proxy that knows no such host",
            Stand::HangsUp,
            "closes it without",
        ),
        ("a database that hangs", Stand::Silent, "sends nothing"),
    ];
    for (what, stand, word) in cases {
        let stand = Standing::at(port, stand);
        let found = examine(&lab.bastion);
        found.expect("database-tcp", "pass", &[]);
        found.expect("database-protocol", "fail", &[word]);
        assert_eq!(
            found.failed(),
            ["database-protocol"],
            "{what}: {}",
            found.text
        );
        drop(stand);
    }

    let full = Full::at(port);
    let found = examine(&lab.bastion);
    found.expect("database-tcp", "fail", &["filtered"]);
    assert!(found.first().contains("firewall"), "{}", found.first());
    drop(full);
}

// ---------------------------------------------------------------------------------------------
// The vendor
// ---------------------------------------------------------------------------------------------

#[test]
fn with_the_vendor_gone_it_says_so_and_looks_at_the_rest() {
    let mut lab = Lab::new();
    lab.active_data_source("Shop");
    lab.server.stop();

    let begun = Instant::now();
    let found = examine(&lab.bastion);
    assert!(begun.elapsed() < DOCTOR_LIMIT, "{:?}", begun.elapsed());
    found.expect("control-plane-tcp", "fail", &["closed"]);
    found.expect("token", "skip", &["cannot be reached"]);
    found.expect("server-tcp", "fail", &["closed"]);
    found.expect("server-host-key", "skip", &[]);
    found.expect("service", "pass", &[]);
    found.expect("database-protocol", "pass", &["PostgreSQL"]);
}

#[test]
fn a_host_key_that_changed_is_a_failure_and_taken_from_the_control_plane_alone() {
    let mut lab = Lab::new();
    let source = lab.active_data_source("Shop");
    lab.server.stop();
    for key in host_keys(&lab.server.data_dir()) {
        std::fs::remove_file(&key).expect("the old host key");
    }
    lab.server.start_again();

    let found = examine(&lab.bastion);
    found.expect(
        "server-host-key",
        "fail",
        &["not the pinned one", "SHA256:"],
    );
    found.expect("server-key", "skip", &["host key"]);
    found.expect("tunnel", "fail", &["down"]);
    let remedy = found.first();
    assert!(remedy.contains("update-tunnel"), "{remedy}");

    let id = tunnel_of(&source).id.to_string();
    let update = &mut lab.bastion.program(["update-tunnel", "--yes", id.as_str()]);
    lab.bastion.run(update).expect_code(0);
    let found = examine(&lab.bastion);
    found.expect("host-keys", "pass", &[]);
    found.expect("server-host-key", "pass", &["SHA256:"]);
}

#[test]
fn what_this_host_s_ssh_no_longer_does_is_told_apart_with_a_remedy_that_succeeds() {
    const REAL: &str = "exec /usr/bin/ssh \"$@\"";
    let mut lab = Lab::new();
    lab.bastion = Bastion::without(&["ssh"]);
    lab.bastion.put_program("ssh", REAL);
    lab.active_data_source("Shop");
    let found_with = |lines: &str| {
        lab.bastion.put_program("ssh", &format!("{lines}\n{REAL}"));
        examine(&lab.bastion)
    };

    let policy = r#"case "$*" in *-v*tunnel@*) set -- -o HostKeyAlgorithms=ssh-dss "$@" ;; esac"#;
    let found = found_with(policy);
    found.expect(
        "server-host-key",
        "fail",
        &["no algorithms in common", "Their offer"],
    );
    assert!(
        found.first().contains("no network is at fault"),
        "{}",
        found.first()
    );

    let refuses = r#"case "$*" in
        *ServerAliveCountMax*) echo "Bad configuration option: serveralivecountmax" >&2; exit 255 ;;
    esac"#;
    let found = found_with(refuses);
    found.expect(
        "server-host-key",
        "fail",
        &["refuses the arguments", "Bad configuration option"],
    );
    assert!(
        found.first().contains("no network is at fault"),
        "{}",
        found.first()
    );

    let another = r#"[ "$*" != -V ] || { echo "Dropbear v2022.83" >&2; exit; }"#;
    let found = found_with(another);
    found.expect("openssh", "fail", &["not OpenSSH", "Dropbear v2022.83"]);
    assert!(
        found.first().contains("install the OpenSSH client"),
        "{}",
        found.first()
    );

    let no_ed25519 =
        r#"case "$*" in "-Q key") /usr/bin/ssh -Q key | grep -v ed25519; exit ;; esac"#;
    let found = found_with(no_ed25519);
    found.expect(
        "openssh",
        "fail",
        &["`ssh -Q key` does not list ssh-ed25519"],
    );
    let remedy = "rotate-key --key-type rsa";
    assert!(found.first().contains(remedy), "{}", found.first());
    let key = std::fs::read(lab.bastion.private_key()).expect("the key");
    let rotate = |more: &[&str]| {
        let mut command = lab.bastion.program(["rotate-key", "--yes"]);
        lab.bastion.start(command.args(more)).wait(SETUP_LIMIT)
    };
    // Of the type that is in use there is no new one.
    rotate(&[]).expect_code(USAGE).expect_words(&[
        "no keys of type ed25519",
        "--key-type rsa or --key-type ecdsa",
    ]);
    assert_eq!(
        std::fs::read(lab.bastion.private_key()).expect("the key"),
        key
    );
    rotate(&["--key-type", "rsa"]).expect_code(0);
    let found = examine(&lab.bastion);
    assert_eq!(found.failed(), Vec::<&str>::new(), "{}", found.text);
}

#[test]
fn a_tunnel_removed_at_the_vendor_s_is_to_be_taken_off_this_host() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    remove_at_the_vendor(&lab, &source);

    let found = examine(&lab.bastion);
    found.expect("token", "fail", &["removed"]);
    found.expect("server-host-key", "pass", &[]);
    found.expect("server-key", "skip", &["removed"]);
    let remedy = format!(
        "holistics-tunnel uninstall-tunnel {}",
        tunnel_of(&source).id
    );
    assert!(found.first().contains(&remedy), "{}", found.first());
}

#[test]
fn a_key_pair_that_was_replaced_is_not_accepted() {
    let lab = Lab::new();
    lab.active_data_source("Shop");
    let key = lab.bastion.private_key();
    std::fs::remove_file(&key).expect("the old key");
    let mut keygen = lab.bastion.any_program("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key);
    std::fs::remove_file(key.with_extension("pub")).expect("the old public key");
    lab.bastion.run(&mut keygen).expect_code(0);

    let found = examine(&lab.bastion);
    found.expect("token", "pass", &[]);
    found.expect("server-host-key", "pass", &[]);
    found.expect("server-key", "fail", &["not accept"]);
    assert!(found.first().contains("replaced"), "{}", found.first());
}

#[test]
fn certificates_that_are_not_accepted_are_told_apart() {
    let lab = Lab::new();
    lab.active_data_source("Shop");
    let workspace = Workspace::new();
    let folder = workspace.path();
    let own = certificate::for_name("localhost", folder);
    let wrong = folder.join("other");
    std::fs::create_dir(&wrong).expect("a folder");
    let other = certificate::for_name("elsewhere.example", &wrong);
    let expired = expired_certificate(folder);

    let cases = [
        (&own.certificate, &own.key, None, "fail", "authority"),
        (
            &own.certificate,
            &own.key,
            Some(&own.authority),
            "pass",
            "accepted",
        ),
        (
            &other.certificate,
            &other.key,
            Some(&other.authority),
            "fail",
            "another name",
        ),
        (&expired, &own.key, Some(&expired), "fail", "expired"),
    ];
    for (certificate, key, authority, outcome, word) in cases {
        let port = ports::free_port();
        let _web = web_server(folder, certificate, key, port);
        say_that_the_control_plane_is(&lab.bastion, &format!("https://localhost:{port}"));
        let mut command = lab.bastion.program(["doctor", "--json"]);
        if let Some(authority) = authority {
            command.arg("--ca-cert").arg(authority);
        }
        let found = Found::from(lab.bastion.run(&mut command));
        found.expect("control-plane-tls", outcome, &[word]);
        if outcome == "fail" {
            found.expect("token", "skip", &["trusted"]);
            assert_eq!(found.failed()[0], "control-plane-tls", "{}", found.text);
        }
    }
}

#[test]
fn the_proxy_in_use_is_named_and_is_what_is_looked_at() {
    let lab = Lab::new();
    lab.active_data_source("Shop");
    say_that_the_control_plane_is(&lab.bastion, "https://vendor.invalid");
    let mut command = lab.bastion.program(["doctor", "--json"]);
    let proxy = format!("http://ada:geheim@127.0.0.1:{}", ports::free_port());
    command.env("https_proxy", proxy);
    let finished = lab.bastion.run(&mut command);
    let found = Found::from(finished);
    found.expect("control-plane-name", "pass", &["proxy of https_proxy"]);
    found.expect("control-plane-tcp", "fail", &["closed"]);
    assert!(found.first().contains("https_proxy"), "{}", found.first());
    let shown = found.document.to_string();
    assert!(!shown.contains("geheim"), "{shown}");
}

// ---------------------------------------------------------------------------------------------
// This host
// ---------------------------------------------------------------------------------------------

#[test]
fn a_killed_autossh_is_missed() {
    let lab = Lab::new();
    lab.active_data_source("Shop");
    for autossh in lab.bastion.processes("autossh") {
        process::signal(&autossh, Signal::KILL);
    }
    let gone = || lab.bastion.processes("autossh").is_empty();
    wait::until_true("autossh to be gone", SERVICE_LIMIT, String::new, gone);

    let found = examine(&lab.bastion);
    found.expect("service", "fail", &["died"]);
    found.expect("processes", "fail", &["without its autossh"]);
    assert!(
        found.first().contains("service restart"),
        "{}",
        found.first()
    );
}

#[test]
fn a_stopped_service_is_to_be_started() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    lab.bastion.service("stop").expect_code(0);
    lab.operator
        .wait_for_state(source.id, DataSourceState::Down, SERVICE_LIMIT);

    let found = examine(&lab.bastion);
    found.expect("service", "fail", &["stopped"]);
    found.expect("processes", "fail", &["neither"]);
    found.expect("tunnel", "fail", &["down"]);
    assert!(found.first().contains("service start"), "{}", found.first());
}

#[test]
fn changed_files_and_open_permissions_are_named() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let file = lab.bastion.tunnel_file(tunnel_of(&source).id);
    let mut content = std::fs::read_to_string(&file).expect("the tunnel's file");
    content.push_str("AUTOSSH_PORT=20000\n");
    std::fs::write(&file, content).expect("the tunnel's file, changed");
    let found = examine(&lab.bastion);
    found.expect("files", "fail", &["AUTOSSH_PORT=20000", "was added"]);
    assert_eq!(found.failed(), ["files"], "{}", found.text);

    let key = lab.bastion.private_key();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&key, open).expect("open permissions");
    let found = examine(&lab.bastion);
    found.expect("permissions", "fail", &["644"]);
    found.expect("server-key", "fail", &["others can read it"]);
    assert!(found.first().contains("chmod go="), "{}", found.first());
}

#[test]
fn a_damaged_receipt_is_a_failure_with_a_remedy() {
    let lab = Lab::new();
    lab.active_data_source("Shop");
    std::fs::write(lab.bastion.receipt(), "{").expect("a damaged receipt");
    let found = examine(&lab.bastion);
    found.expect("receipt", "fail", &["damaged"]);
    assert_eq!(found.failed(), ["receipt"], "{}", found.text);
}

// ---------------------------------------------------------------------------------------------
// The report
// ---------------------------------------------------------------------------------------------

#[test]
fn the_report_for_support_holds_no_secret() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    set_up(&lab, &source, &[]);
    let token = tunnel_token(&lab.bastion);
    let log = lab.bastion.tunnel_log(tunnel_of(&source).id);
    let mut said = std::fs::read_to_string(&log).unwrap_or_default();
    said.push_str(&format!(
        "somebody pasted {token} here\nthe line after it\n"
    ));
    std::fs::write(&log, said).expect("the log");

    let file = lab.bastion.home().join("report.txt");
    let mut command = lab.bastion.program(["doctor", "--report"]);
    lab.bastion
        .run(command.arg(&file))
        .expect_code(0)
        .expect_words(&["report.txt"]);
    let mode = file.metadata().expect("the report").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let report = std::fs::read_to_string(&file).expect("the report");

    let mut command = lab.bastion.program(["doctor", "--report", "-"]);
    let printed = lab.bastion.run(&mut command).expect_code(0);
    let key = std::fs::read_to_string(lab.bastion.private_key());
    let key = key.expect("the private key");
    let key_line = key.lines().nth(3).expect("a line of the key");
    for text in [&report, &printed.stdout] {
        for secret in [&token, token_of(&source), key_line, "htt_", "hte_"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        for held in [
            "the line after it",
            "H_AUTOSSH_PROGRAM",
            "database-protocol",
            "OpenSSH_",
        ] {
            assert!(text.contains(held), "{held} is not in {text}");
        }
    }
}

// ---------------------------------------------------------------------------------------------

/// What `doctor --json` found.
struct Found {
    document: Value,
    text: String,
    code: i32,
}

impl Found {
    fn from(finished: Finished) -> Self {
        let found = Found {
            document: finished.json(),
            text: finished.to_string(),
            code: finished.code,
        };
        let is_well = found.failed().is_empty();
        assert_eq!(found.code == 0, is_well, "{}", found.text);
        assert_eq!(found.document["ok"], is_well, "{}", found.text);
        for check in found.checks() {
            let has_remedy = check["remedy"].is_string();
            assert_eq!(has_remedy, check["outcome"] == "fail", "{check}");
            let milliseconds = check["milliseconds"].as_u64().expect("a time");
            assert!(milliseconds < 12_000, "{check}");
        }
        found
    }

    fn checks(&self) -> &Vec<Value> {
        self.document["checks"].as_array().expect("checks")
    }

    /// The outcome and the detail of each check of a host with one tunnel.
    fn by_name(&self) -> BTreeMap<&str, (&str, &str)> {
        self.checks()
            .iter()
            .map(|check| {
                let field = |name: &str| check[name].as_str().expect("a text");
                (field("name"), (field("outcome"), field("detail")))
            })
            .collect()
    }

    fn named(&self, outcome: &str) -> Vec<&str> {
        self.checks()
            .iter()
            .filter(|check| check["outcome"] == outcome)
            .map(|check| check["name"].as_str().expect("a name"))
            .collect()
    }

    fn failed(&self) -> Vec<&str> {
        self.named("fail")
    }

    fn skipped(&self) -> Vec<&str> {
        self.named("skip")
    }

    fn first(&self) -> &str {
        self.document["first"]["remedy"].as_str().expect("a remedy")
    }

    #[track_caller]
    fn expect(&self, name: &str, outcome: &str, words: &[&str]) {
        let checks = self.by_name();
        let (found, detail) = checks
            .get(name)
            .unwrap_or_else(|| panic!("no check {name} in {}", self.text));
        assert_eq!(*found, outcome, "{name}: {detail}\n{}", self.text);
        for word in words {
            assert!(detail.contains(word), "{word:?} is not in {name}: {detail}");
        }
    }
}

fn examine(bastion: &Bastion) -> Found {
    Found::from(bastion.run(&mut bastion.program(["doctor", "--json"])))
}

/// The whole of the setup, with these further arguments.
fn set_up(lab: &Lab, source: &DataSource, arguments: &[&str]) {
    let mut command = lab.bastion.setup(&lab.server, token_of(source));
    let setup = lab.bastion.start(command.args(arguments));
    lab.wait_until_connected(source, &setup);
    lab.operator.save(source.id);
    setup.wait(SETUP_LIMIT).expect_code(0);
}

fn tunnel_token(bastion: &Bastion) -> String {
    let receipt = std::fs::read(bastion.receipt()).expect("the receipt");
    let receipt: Value = serde_json::from_slice(&receipt).expect("JSON");
    let tunnels = receipt["tunnels"].as_object().expect("tunnels");
    let tunnel = tunnels.values().next().expect("a tunnel");
    let token = tunnel["enrolled"]["tunnel_token"].as_str();
    token.expect("a token").to_owned()
}

/// As a deletion with `?force=true` in the browser leaves it: the bastion is not told.
fn remove_at_the_vendor(lab: &Lab, source: &DataSource) {
    let url = format!(
        "{}{API_BASE}/tunnels/{}",
        lab.server.url,
        tunnel_of(source).id
    );
    let http = reqwest::blocking::Client::builder().no_proxy();
    let request = http.build().expect("an HTTP client").delete(url);
    let answer = request.bearer_auth(tunnel_token(&lab.bastion)).send();
    assert!(answer.expect("an answer").status().is_success());
}

fn host_keys(data_dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![data_dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no host keys below {data_dir:?}");
    found
}

fn say_that_the_control_plane_is(bastion: &Bastion, url: &str) {
    let receipt = std::fs::read(bastion.receipt()).expect("the receipt");
    let mut receipt: Value = serde_json::from_slice(&receipt).expect("JSON");
    for tunnel in receipt["tunnels"]
        .as_object_mut()
        .expect("tunnels")
        .values_mut()
    {
        tunnel["control_plane"] = url.into();
    }
    std::fs::write(bastion.receipt(), receipt.to_string()).expect("the receipt");
}

/// A certificate of `server.key` whose day was years ago, signed by itself.
fn expired_certificate(folder: &Path) -> PathBuf {
    const CONFIG: &str = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nserial = serial\nnew_certs_dir = .\n\
        default_md = sha256\npolicy = any\nx509_extensions = names\n[any]\ncommonName = supplied\n\
        [names]\nsubjectAltName = DNS:localhost\n";
    std::fs::write(folder.join("ca.cnf"), CONFIG).expect("a configuration");
    std::fs::write(folder.join("index"), "").expect("an index");
    std::fs::write(folder.join("serial"), "01").expect("a serial number");
    for arguments in [
        "req -new -key server.key -subj /CN=localhost -out expired.csr",
        "ca -batch -config ca.cnf -selfsign -keyfile server.key -in expired.csr -notext \
         -startdate 20200101000000Z -enddate 20200102000000Z -out expired.pem",
    ] {
        let mut openssl = Command::new("openssl");
        openssl
            .args(arguments.split_whitespace())
            .current_dir(folder);
        process::run(&mut openssl, folder, "openssl").expect_code(0);
    }
    folder.join("expired.pem")
}

/// A web server with this certificate that knows nothing of tunnels.
fn web_server(folder: &Path, certificate: &Path, key: &Path, port: u16) -> Running {
    let mut server = Command::new("openssl");
    server.args([
        "s_server",
        "-quiet",
        "-www",
        "-accept",
        &format!("127.0.0.1:{port}"),
    ]);
    server.arg("-cert").arg(certificate).arg("-key").arg(key);
    let server = Running::start(&mut server, folder, &format!("web-{port}"));
    server.wait_until("the web server", SERVICE_LIMIT, || ports::is_open(port));
    server
}

/// What a test has standing at a port.
#[derive(Clone, Copy)]
enum Stand {
    /// It speaks first.
    Says(&'static [u8]),
    /// It answers whatever it is told.
    Answers(&'static [u8]),
    HangsUp,
    Silent,
}

/// A server that a test stands in for. Dropped, its port is closed.
struct Standing {
    address: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Told to a standing server, these words end it.
const LAST_WORDS: &[u8] = b"that is all";

impl Standing {
    fn at(port: u16, stand: Stand) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = ports::listen_on(port);
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                if let Stand::Says(words) = stand {
                    let _ = stream.write_all(words);
                }
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let mut buffer = [0; 512];
                let said = match stand {
                    Stand::HangsUp => stream.peek(&mut buffer).unwrap_or_default(),
                    _ => stream.read(&mut buffer).unwrap_or_default(),
                };
                if buffer[..said] == *LAST_WORDS {
                    return;
                }
                match stand {
                    Stand::Answers(words) => drop(stream.write_all(words)),
                    Stand::Says(_) | Stand::Silent => kept.push(stream),
                    Stand::HangsUp => {}
                }
            }
        });
        Standing {
            address,
            thread: Some(thread),
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _ = stream.write_all(LAST_WORDS);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A port whose backlog is full: the kernel drops whoever knocks, as a firewall does.
struct Full {
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Full {
    fn at(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
        let listener = Socket::from(ports::listen_on(port));
        listener.listen(0).expect("a shorter backlog");
        let waiting = (0..4)
            .map(|_| {
                let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                waiting.set_nonblocking(true).expect("an option");
                // Those that find no room go on trying; nobody waits for them.
                let _ = waiting.connect(&address);
                waiting
            })
            .collect();
        Full {
            _listener: listener,
            _waiting: waiting,
        }
    }
}
