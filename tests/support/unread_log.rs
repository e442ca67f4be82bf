//! A log that nobody reads.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Command;

use reqwest::Method;

use super::server::Operator;
use super::workspace::Workspace;

/// A pipe in place of a file, and its end for reading.
pub fn pipe(folder: &Workspace) -> (PathBuf, File) {
    let path = folder.path().join("log");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    // Also for writing: to open one end alone waits for the other.
    let reader = OpenOptions::new().read(true).write(true).open(&path);
    (path, reader.expect("the pipe"))
}

/// How many lines the server has lost.
pub fn lost_lines(operator: &Operator) -> u64 {
    let answer = operator.call_beside(Method::GET, "/metrics").send();
    let text = answer.and_then(reqwest::blocking::Response::text);
    let text = text.expect("the metrics");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("holistics_tunnel_log_lines_lost_total "));
    let line = line.unwrap_or_else(|| panic!("not counted in:\n{text}"));
    line.parse().expect("a number")
}
