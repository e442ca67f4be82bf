//! What the tests of whole commands share: a Debian with systemd in memory, and a command as it is typed.

use std::path::Path;

use clap::{CommandFactory as _, FromArgMatches as _};
use serde_json::{Value, json};

use crate::bastion::cli::{Cli, Command};
use crate::bastion::host::http::Response;
use crate::bastion::host::scripted::ScriptedHost;
use crate::bastion::host::{Authority, HostExt as _, Output};

/// Has the system's files on a host.
pub(super) fn put_debian(host: &ScriptedHost) {
    for dir in [
        "/etc",
        "/etc/systemd",
        "/etc/systemd/system",
        "/run",
        "/run/systemd",
        "/run/systemd/system",
        "/var",
        "/var/run",
    ] {
        make_dir(host, dir);
    }
    let release = b"ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n";
    let path = Path::new("/etc/os-release");
    host.write(path, release, 0o644, Authority::Root).unwrap();
}

pub(super) fn make_dir(host: &ScriptedHost, dir: &str) {
    let dir = Path::new(dir);
    if !host.exists(dir) {
        host.create_dir(dir, 0o755, Authority::Root).unwrap();
    }
}

pub(super) fn parse(words: &[&str]) -> Command {
    let words = std::iter::once("holistics-tunnel").chain(words.iter().copied());
    let matches = Cli::command().try_get_matches_from(words).unwrap();
    Cli::from_arg_matches(&matches).unwrap().command
}

pub(super) fn said(stdout: &str, stderr: &str) -> Output {
    Output {
        status: 0,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}

pub(super) fn answer(status: u16, body: &Value) -> Response {
    Response {
        status,
        date: None,
        body: serde_json::to_vec(body).unwrap(),
    }
}

pub(super) fn problem(slug: &str, status: u16) -> Value {
    json!({"type": format!("/problems/{slug}"), "title": slug, "status": status, "detail": slug})
}
