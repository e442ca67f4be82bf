//! What the person on the bastion sees and is asked: the screen of a setup, questions, JSON, logs,
//! help; and what is left when they stop it at any moment.

mod help;
mod json;
mod logs;
mod questions;
mod setup;
mod stopped;
mod transcripts;
mod watch;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::process::{self, Finished};
use crate::support::pty::{Input, Pty};
use crate::support::server::Server;
use crate::support::{ports, wait};
use holistics_tunnel::protocol::{DataSource, DataSourceState};
use rustix::process::Signal;

const ENTER: &str = "\r";
const DOWN: &str = "\x1b[B";
const CTRL_C: &str = "\x03";
/// How long a screen may take to show what needs no other machine.
const SCREEN_LIMIT: Duration = Duration::from_secs(20);
const STEPS: [&str; 8] = [
    "directory",
    "packages",
    "key-pair",
    "enrollment",
    "temporary-tunnel",
    "wait-for-save",
    "service",
    "service-tunnel",
];

/// Setup that asks before it changes anything.
fn setup_that_asks(lab: &Lab, source: &DataSource) -> Command {
    lab.bastion.setup_without_yes(&lab.server, token_of(source))
}

fn at_terminal(command: &mut Command, columns: u16) -> Pty {
    if !command.get_envs().any(|(name, _)| name == "TERM") {
        command.env("TERM", "xterm-256color");
    }
    Pty::start(command, columns, Input::Terminal)
}

#[track_caller]
fn assert_is_left_in_order(screen: &Pty) {
    assert!(screen.has_cursor(), "the cursor is hidden");
    assert!(screen.is_as_a_shell_left_it(), "the terminal's modes");
}

/// Standard output's lines, each of which has to be one JSON object.
#[track_caller]
fn events(finished: &Finished) -> Vec<serde_json::Value> {
    let lines = finished.stdout.lines();
    let parsed = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let events: Option<Vec<_>> = parsed.collect();
    let events = events.filter(|events| events.iter().all(serde_json::Value::is_object));
    events.unwrap_or_else(|| panic!("not an object on each line of\n{finished}"))
}
