//! Schemathesis calls everything that the description offers, with values that it allows and values
//! that it does not, and compares each answer with it. `scripts/schemathesis` installs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::lab::Lab;
use crate::support::process::Running;
use crate::support::server::Server;
use crate::support::workspace::Workspace;
use crate::world::token_command;

/// How often each call is made with values of either kind.
const EXAMPLES: &str = "25";

/// How long a run may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// What makes one run repeat another.
const SEED: &str = "20261124";

/// Calls that do not end by themselves; strangers are refused there, and that is fuzzed.
const STREAMS: &str = "watch_data_sources?$";

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
    fn run(&self, server: &Server, settings: &str, arguments: &[&str]) {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
        let mut command = Command::new(&self.program);
        command
            .env("HOME", self.workspace.path())
            .env("PYTHONPATH", &sources)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.tokens.iter().map(|(name, token)| (*name, token)))
            .current_dir(self.workspace.path())
            .arg("--config-file")
            .arg(sources.join(settings))
            .arg("run")
            .arg(format!("{}/api/v1/openapi.json", server.url))
            .args(["--no-color", "--seed", SEED, "--max-examples", EXAMPLES])
            .args(["--generation-database", "none", "--request-timeout", "30"])
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
    fuzzer.run(&server, "strangers.toml", &phases);
}

#[test]
fn whatever_a_bastion_or_an_operator_sends_is_answered_as_described() {
    let lab = Lab::new();
    lab.active_data_source("Sales");
    let fuzzer = Fuzzer::new(vec![
        (
            "OPERATOR_TOKEN",
            token_command(&lab.server, &["create", "fuzzer"]),
        ),
        ("TUNNEL_TOKEN", tunnel_token(&lab)),
    ]);
    let deletion = "delete_tunnel";
    fuzzer.run(
        &lab.server,
        "callers.toml",
        &[
            "--include-tag",
            "Bastion",
            "--exclude-operation-id",
            deletion,
        ],
    );
    fuzzer.run(
        &lab.server,
        "callers.toml",
        &[
            "--include-tag",
            "Operator",
            "--exclude-operation-id-regex",
            STREAMS,
        ],
    );
    fuzzer.run(
        &lab.server,
        "callers.toml",
        &["--include-operation-id", deletion],
    );
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
