//! Schemathesis calls everything that the description offers, with values that it allows and values
//! that it does not, and compares each answer with it. `scripts/schemathesis` installs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holistics_tunnel::protocol::DataSourceId;
use holistics_tunnel::server::http::api::openapi;
use reqwest::Method;
use serde_json::{Value, json};

use crate::openapi::visitor::Visitor;
use crate::openapi::world::{enrolled, token_command};
use crate::support::lab::Lab;
use crate::support::process::Running;
use crate::support::server::{Operator, Server};
use crate::support::workspace::Workspace;

/// How often each call is made with values of either kind.
const EXAMPLES: &str = "25";

/// How long a run may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// What makes one run repeat another.
const SEED: &str = "20261124";

/// Calls that do not end by themselves; strangers are refused there, and that is fuzzed.
const STREAMS: &str = "watch_data_sources?$";

/// Calls that do not succeed in these runs: streams; the removal, which has a run of its own; and
/// what needs a session with a key that nobody has the other half of.
const UNREACHED: [&str; 4] = [
    "watch_data_source",
    "watch_data_sources",
    "delete_tunnel",
    "confirm_key",
];

/// Schemathesis and its settings.
struct Fuzzer {
    workspace: Workspace,
    program: PathBuf,
    /// Environment variables that the settings name.
    tokens: Vec<(&'static str, String)>,
}

impl Fuzzer {
    fn new(tokens: Vec<(&'static str, String)>) -> Self {
        let program = target_folder().join("schemathesis/bin/schemathesis");
        assert!(
            program.exists(),
            "{} is not there: run scripts/schemathesis",
            program.display()
        );
        Fuzzer {
            workspace: Workspace::new(),
            program,
            tokens,
        }
    }

    #[track_caller]
    fn run(&self, server: &Server, arguments: &[&str]) {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/openapi");
        let mut command = Command::new(&self.program);
        command
            .env("HOME", self.workspace.path())
            .env("PYTHONPATH", &sources)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.tokens.iter().map(|(name, token)| (*name, token)))
            .current_dir(self.workspace.path());
        if !self.tokens.is_empty() {
            let settings = sources.join("callers.toml");
            command.arg("--config-file").arg(settings);
        }
        command
            .arg("run")
            .arg(format!("{}/api/v1/openapi.json", server.url))
            .args(["--no-color", "--warnings", "off", "--seed", SEED])
            .args(["--max-examples", EXAMPLES, "--generation-database", "none"])
            .args(["--request-timeout", "30"])
            .args(arguments);
        let ended = Running::start(&mut command, self.workspace.path(), "schemathesis").wait(LIMIT);
        println!("{}", ended.stdout);
        ended.expect_code(0);
    }
}

fn target_folder() -> PathBuf {
    // The programs under test lie in `debug` or `release` of the target folder.
    let program = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    let target = program.parent().and_then(Path::parent);
    target.expect("a target folder").to_owned()
}

#[test]
fn whatever_a_stranger_sends_is_answered_as_described() {
    let server = Server::start();
    let fuzzer = Fuzzer::new(Vec::new());
    let phases = ["--phases", "examples,coverage,fuzzing"];
    fuzzer.run(&server, &phases);
}

#[test]
fn whatever_a_bastion_or_an_operator_sends_is_answered_as_described() {
    // Keys are registered by the dozen, and a port that was given back rests.
    let lab = Lab::with(Server::start_with(60, &[]));
    lab.active_data_source("Sales");
    let operator_token = token_command(&lab.server, &["create", "fuzzer"]);
    is_set_up_by_hand(&lab.operator, lab.data_source("By hand").id);
    let fuzzer = Fuzzer::new(vec![
        ("OPERATOR_TOKEN", operator_token.clone()),
        ("TUNNEL_TOKEN", tunnel_token(&lab)),
    ]);
    let bastion = ["--include-tag", "Bastion"];
    fuzzer.run(
        &lab.server,
        &[&bastion[..], &["--exclude-operation-id", "delete_tunnel"]].concat(),
    );
    let operator = ["--include-tag", "Operator"];
    fuzzer.run(
        &lab.server,
        &[&operator[..], &["--exclude-operation-id-regex", STREAMS]].concat(),
    );
    expect_successes(&lab.server, &operator_token);
}

/// A tunnel whose key an operator has registered, for the calls that are for such a one.
fn is_set_up_by_hand(operator: &Operator, id: DataSourceId) {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    let path = format!("/data-sources/{id}/public-key");
    let request = operator.call(Method::PUT, &path);
    let answer = request.json(&json!({ "public_key": key })).send();
    assert_eq!(answer.expect("an answer").status(), 200);
}

#[test]
fn whatever_is_sent_to_remove_a_tunnel_is_answered_as_described() {
    let server = Server::start();
    let visitor = Visitor::new(&server);
    let operator_token = token_command(&server, &["create", "fuzzer"]);
    let bastion = enrolled(&visitor, &operator_token, "Sales", 1);
    assert_eq!(bastion.tunnel, 1, "the number that is tried first");
    let fuzzer = Fuzzer::new(vec![
        ("OPERATOR_TOKEN", operator_token),
        ("TUNNEL_TOKEN", bastion.tunnel_token),
    ]);
    fuzzer.run(&server, &["--include-operation-id", "delete_tunnel"]);
    let request = visitor.request(Method::GET, "/api/v1/tunnels/1");
    let answer = request.bearer_auth(&fuzzer.tokens[1].1).send();
    assert_eq!(
        answer.expect("an answer").status(),
        404,
        "it was not removed"
    );
}

/// Refusals alone would be described well by little. Every call that can succeed has done so, as the
/// server itself has counted.
fn expect_successes(server: &Server, operator_token: &str) {
    let request = Visitor::new(server).request(Method::GET, "/metrics");
    let metrics = request.bearer_auth(operator_token).send();
    let metrics = metrics.expect("an answer").text().expect("a body");
    let paths = openapi::document()["paths"].as_object().expect("paths");
    for (path, item) in paths {
        for (method, call) in item.as_object().expect("calls") {
            let name = call["operationId"].as_str().expect("a name");
            if call["tags"][0] == "Anybody" || UNREACHED.contains(&name) {
                continue;
            }
            let method = method.to_uppercase();
            let series = format!("{{route=\"{path}\",method=\"{method}\",status=\"2xx\"}}");
            assert!(
                metrics.contains(&series),
                "{name} never succeeded:\n{metrics}"
            );
        }
    }
}

/// The token that setup has got for the only tunnel.
fn tunnel_token(lab: &Lab) -> String {
    let receipt = std::fs::read(lab.bastion.receipt()).expect("the receipt");
    let receipt: Value = serde_json::from_slice(&receipt).expect("JSON");
    let token = find(&receipt, "tunnel_token");
    token.expect("a tunnel token").to_owned()
}

fn find<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    match value {
        Value::Object(members) => match members.get(name) {
            Some(found) => found.as_str(),
            None => members.values().find_map(|member| find(member, name)),
        },
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}
