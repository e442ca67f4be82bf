//! The server under systemd, as far as one process can tell; tests/lab/ has the real one.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::process::{self, Running};
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(60);
const PROGRAM: &str = env!("CARGO_BIN_EXE_holistics-tunnel-server");

#[test]
fn the_service_manager_is_told_when_the_server_serves_and_when_it_ends() {
    let folder = Workspace::new();
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(LIMIT)).expect("a limit");
    let told = || {
        let mut state = [0; 64];
        let bytes = manager.recv(&mut state).expect("a word from the server");
        String::from_utf8_lossy(&state[..bytes]).into_owned()
    };
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "--data-dir"])
        .arg(folder.path().join("data"))
        .args(["--listen", "127.0.0.1:0", "--ssh-listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &socket);
    let server = Running::start(&mut command, folder.path(), "server");
    assert_eq!(told(), "READY=1");
    assert!(server.output().contains("\nready\n"), "{}", server.output());
    server.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    server.wait(LIMIT).expect_code(0);
}

#[test]
fn pages_and_completions_are_the_server_s_own() {
    let folder = Workspace::new();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        process::run(command.args(arguments), folder.path(), "server").expect_code(0)
    };
    assert!(
        run(&["--version"])
            .stdout
            .starts_with("holistics-tunnel-server ")
    );
    assert!(run(&["man"]).stdout.contains(".TH holistics-tunnel-server"));
    let pages = folder.path().join("man");
    run(&["man", "--dir", pages.to_str().expect("UTF-8")]);
    let page = std::fs::read_to_string(pages.join("holistics-tunnel-server-serve.1"));
    assert!(page.expect("a page").contains("trusted\\-proxy"));
    let script = folder.path().join("completions");
    std::fs::write(&script, run(&["completions", "bash"]).stdout).expect("a file");
    let complete = "source \"$0\"; COMP_WORDS=(holistics-tunnel-server log); COMP_CWORD=1; \
                    _holistics__tunnel__server holistics-tunnel-server log holistics-tunnel-server; \
                    echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", complete]).arg(&script);
    let completed = process::run(&mut bash, folder.path(), "bash").expect_code(0);
    assert_eq!(completed.stdout.trim(), "login-link");
    let shell = |name| run(&["completions", name]).stdout;
    assert!(shell("zsh").starts_with("#compdef holistics-tunnel-server"));
    assert!(shell("fish").contains("-l trusted-proxy"));
}
