//! The command from the browser, `curl … | sh`, up to where the program takes over: with every tool and
//! shell that it may meet, and with all that may go wrong on the way.
//!
//! - [`journey`]: with the real program; [`released`]: with the one that `scripts/release` made;
//! - [`vendor`]: a vendor with a stand-in for it, for the rest: [`tools`], [`refusals`], [`broken`],
//!   [`https`], [`proxy`]; [`kept`]: what reaching it takes; [`stalling_line`]: a download that does not end;
//! - [`secrets`]: who could have seen the token.

mod broken;
mod https;
mod journey;
mod kept;
mod proxy;
mod refusals;
mod released;
mod secrets;
mod stalling_line;
mod tools;
mod vendor;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::bastion::Bastion;
use crate::support::process::Finished;
use holistics_tunnel::protocol::DataSource;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const CANNOT_TELL: i32 = 5;
const INTERRUPTED: i32 = 130;

/// Every shell that a bastion may have as `sh`.
const SHELLS: [&str; 4] = ["dash", "bash", "bash --posix", "busybox sh"];

/// The address in the command that set this data source up.
fn url_of(source: &DataSource) -> &str {
    let enrollment = source.enrollment.as_ref();
    url_in(&enrollment.expect("the answer to its creation").command)
}

/// The address in a command, `curl -fsSL URL | sh`.
fn url_in(command: &str) -> &str {
    let word = command.split(' ').nth(2);
    word.expect("the command's third word")
}

/// Runs a line of shell on a bastion, as somebody types it.
fn run(bastion: &Bastion, line: &str) -> Finished {
    bastion.run(&mut shell(bastion, line))
}

/// A line of shell on a bastion.
fn shell(bastion: &Bastion, line: &str) -> Command {
    let mut command = bastion.any_program("sh");
    command.args(["-c", line]);
    command
}

/// The script under this address, fetched now into a file that a shell of this bastion can read.
fn fetched(bastion: &Bastion, url: &str) -> PathBuf {
    let file = bastion.temporary().join("script");
    let mut curl = Command::new("curl");
    curl.args(["-fsSL", "--noproxy", "*", "-o"])
        .arg(&file)
        .arg(url);
    assert!(curl.status().expect("curl").success(), "{url}");
    file
}

/// Where the script puts the program.
fn program_of(bastion: &Bastion) -> PathBuf {
    bastion.own_folder().join("bin/holistics-tunnel")
}

#[track_caller]
fn content(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
