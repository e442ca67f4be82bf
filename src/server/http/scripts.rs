//! The shell scripts a bastion fetches, and the commands that fetch them.
//!
//! They are POSIX sh and define functions only. The last line calls `main` inside braces, which a
//! shell reads to the closing one before it runs anything: a download that breaks off runs nothing. Every value is quoted for the shell where it is used.

use askama::Template;

use super::downloads::Offer;
use crate::protocol::TunnelId;
use crate::server::domain::address::PublicAddress;
use crate::server::domain::token::Token;
use crate::shell;

/// The command that sets a tunnel up.
pub fn bootstrap_command(public: &PublicAddress, token: &Token) -> String {
    fetch_and_run(public, "i", token)
}

/// The command that removes a tunnel.
pub fn removal_command(public: &PublicAddress, token: &Token) -> String {
    fetch_and_run(public, "r", token)
}

fn fetch_and_run(public: &PublicAddress, path: &str, token: &Token) -> String {
    let url = format!("{}/{path}/{}", public.url, token.as_str());
    format!("curl -fsSL {} | sh", quoted(&url))
}

/// The script under `/i/{token}`.
pub fn bootstrap(
    public: &PublicAddress,
    token: &str,
    offers: &[Offer],
) -> Result<String, askama::Error> {
    Bootstrap {
        program: Program::new(public, token, offers),
    }
    .render()
}

/// The script under `/r/{token}`.
pub fn removal(
    public: &PublicAddress,
    token: &str,
    offers: &[Offer],
    tunnel: TunnelId,
) -> Result<String, askama::Error> {
    Removal {
        program: Program::new(public, token, offers),
        tunnel,
    }
    .render()
}

/// A script that only says why there is none, and fails.
pub fn refusal(reason: &str) -> Result<String, askama::Error> {
    Refusal {
        reason: quoted(&format!("holistics-tunnel: {reason}")),
    }
    .render()
}

#[derive(Template)]
#[template(path = "bootstrap.sh", escape = "none")]
struct Bootstrap<'a> {
    program: Program<'a>,
}

#[derive(Template)]
#[template(path = "removal.sh", escape = "none")]
struct Removal<'a> {
    program: Program<'a>,
    tunnel: TunnelId,
}

#[derive(Template)]
#[template(path = "refusal.sh", escape = "none")]
struct Refusal {
    reason: String,
}

/// What both scripts need to get and start the program.
struct Program<'a> {
    /// Quoted for the shell.
    server: String,
    /// Quoted for the shell.
    token: String,
    offers: &'a [Offer],
    /// Which those are, in words that need no quoting between double quotes.
    offered: String,
}

impl<'a> Program<'a> {
    fn new(public: &PublicAddress, token: &str, offers: &'a [Offer]) -> Self {
        Program {
            server: quoted(&public.url),
            token: quoted(token),
            offers,
            offered: in_words(offers),
        }
    }
}

fn in_words(offers: &[Offer]) -> String {
    let targets: Vec<_> = offers.iter().map(|offer| offer.platform.target).collect();
    if targets.is_empty() {
        "It has none for any machine".to_owned()
    } else {
        format!("It has those for {}", targets.join(", "))
    }
}

fn quoted(text: &str) -> String {
    shell::word(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::domain::token::TokenKind;
    use crate::server::http::downloads::PLATFORMS;
    use std::fs::Permissions;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    fn public() -> PublicAddress {
        PublicAddress {
            url: "https://tunnel.example.com/it's".to_owned(),
            ssh_host: "tunnel.example.com".to_owned(),
            ssh_port: 50022,
        }
    }

    fn offers() -> Vec<Offer> {
        let offer = |platform| Offer {
            platform,
            sha256: "0".repeat(64),
        };
        PLATFORMS.into_iter().map(offer).collect()
    }

    fn scripts() -> [String; 4] {
        let token = Token::from_bytes(TokenKind::Enrollment, &rand::random());
        [
            bootstrap(&public(), token.as_str(), &offers()).unwrap(),
            bootstrap(&public(), token.as_str(), &[]).unwrap(),
            removal(&public(), token.as_str(), &offers(), TunnelId(7)).unwrap(),
            refusal("it's over").unwrap(),
        ]
    }

    fn feed(command: &mut Command, script: &str) -> std::process::Output {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("install shellcheck and dash: apt-get install shellcheck dash");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    #[test]
    fn the_scripts_are_clean_posix_sh() {
        for script in scripts() {
            let output = feed(
                Command::new("shellcheck").args(["--shell=sh", "--norc", "-"]),
                &script,
            );
            assert!(
                output.status.success(),
                "{}\n{script}",
                String::from_utf8_lossy(&output.stdout)
            );
            let output = feed(Command::new("dash").arg("-n"), &script);
            assert!(output.status.success(), "{script}");
        }
    }

    /// Every program the scripts call. Each of these only leaves a mark that it was called.
    const CALLED: [&str; 12] = [
        "chmod",
        "curl",
        "cut",
        "getconf",
        "grep",
        "id",
        "mkdir",
        "mktemp",
        "mv",
        "sha256sum",
        "uname",
        "wget",
    ];

    #[test]
    fn a_script_that_breaks_off_runs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (mark, home) = (folder.path().join("mark"), folder.path().join("home"));
        std::fs::create_dir(&home).unwrap();
        for name in CALLED {
            let program = folder.path().join(name);
            std::fs::write(&program, format!("#!/bin/sh\n: >{}\n", mark.display())).unwrap();
            std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        }
        let run = |shell: &str, script: &str| {
            let mut command = Command::new(shell);
            let environment = [("PATH", folder.path()), ("HOME", &home)];
            feed(command.arg("-s").env_clear().envs(environment), script)
        };
        for shell in ["/bin/dash", "/bin/bash"] {
            for script in scripts() {
                let whole = script.len();
                for end in (0..whole).step_by(50).chain(whole - 40..whole - 1) {
                    let output = run(shell, &script[..end]);
                    let is_silent = output.stdout.is_empty() && !mark.exists();
                    assert!(is_silent, "{shell} ran up to byte {end}:\n{script}");
                }
            }
            let [script, ..] = scripts();
            run(shell, &script);
            assert!(mark.exists(), "{shell}: a whole script leaves its mark");
            std::fs::remove_file(&mark).unwrap();
        }
        assert_eq!(home.read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_refusal_says_why_on_stderr_and_fails() {
        let script = refusal("it's `over` $(id)").unwrap();
        let output = feed(&mut Command::new("sh"), &script);
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("it's `over` $(id)"), "{stderr}");
    }

    #[test]
    fn the_command_is_one_line_that_a_shell_reads_as_meant() {
        let token = Token::from_bytes(TokenKind::Enrollment, &rand::random());
        let plain = PublicAddress {
            url: "http://127.0.0.1:8080".to_owned(),
            ..public()
        };
        assert_eq!(
            bootstrap_command(&plain, &token),
            format!("curl -fsSL http://127.0.0.1:8080/i/{} | sh", token.as_str())
        );
        let words = shell_words::split(&bootstrap_command(&public(), &token)).unwrap();
        assert_eq!(words[2], format!("{}/i/{}", public().url, token.as_str()));
    }
}
