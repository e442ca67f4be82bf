//! Values in every text that a shell runs: they arrive whole, and nothing of them is run.

use std::path::Path;

use holistics_tunnel::bastion::fuzzing;
use holistics_tunnel::manual::{self, Part, System, Values};
use holistics_tunnel::protocol::TunnelId;
use holistics_tunnel::server::domain::address::PublicAddress;
use holistics_tunnel::server::domain::token::{Token, TokenKind};
use holistics_tunnel::server::http::downloads::{Offer, PLATFORMS};
use holistics_tunnel::server::http::scripts;

use crate::fields::texts;
use crate::in_shells::{Check, hold_in_scripts, hold_when_typed, said_by_sh};
use crate::systemd;

/// The last lines of scripts, which begin everything.
const MAIN: &str = "{ main \"$@\"; exit; }";
const INIT_MAIN: &str = "main \"$@\"";

pub fn run(input: &[u8]) {
    // No value can hold a NUL: it ends a word for the system itself.
    let mut words = texts(input).into_iter().map(|word| word.replace('\0', ""));
    let mut word = || words.next().unwrap_or_default();
    let (url, token, reason, path, user) = (word(), word(), word(), word(), word());
    let words: Vec<String> = words.collect();
    let public = PublicAddress {
        url: url.clone(),
        ssh_host: "vendor.example".to_owned(),
        ssh_port: 50022,
    };
    let mut in_scripts = vec![
        server_script(
            "the setup script",
            scripts::bootstrap(&public, &token, &offers()),
            &url,
            &token,
        ),
        server_script(
            "the removal script",
            scripts::removal(&public, &token, &offers(), TunnelId(7)),
            &url,
            &token,
        ),
        refusal(&reason),
        init_script(&path),
        proxy_word(&path),
    ];
    in_scripts.extend(build_script(&path));
    in_scripts.extend(tunnel_file(&user, &path, &reason));
    hold_in_scripts(&in_scripts);

    let values = values(url, reason, path, user);
    hold_when_typed(&[command(&public), shown(words), guide(&values)]);
    unit(&values);
}

fn offers() -> Vec<Offer> {
    let sha256 = "0".repeat(64);
    PLATFORMS
        .map(|platform| Offer {
            platform,
            sha256: sha256.clone(),
        })
        .into()
}

fn server_script<E: std::fmt::Debug>(
    name: &'static str,
    script: Result<String, E>,
    url: &str,
    token: &str,
) -> Check {
    let script = script.expect("the template is whole");
    let functions = script.trim_end().strip_suffix(MAIN).expect("it ends so");
    Check {
        name,
        script: format!("{functions}\nout \"$server\" \"$token\""),
        says: vec![url.to_owned(), token.to_owned()],
    }
}

fn refusal(reason: &str) -> Check {
    let script = scripts::refusal(reason).expect("the template is whole");
    Check {
        name: "a refusal",
        // The end is marked, since a shell takes the last line ends away.
        script: format!("said=$( (\n{script}\n) 2>&1; printf .)\nout \"$said\""),
        says: vec![format!("holistics-tunnel: {reason}\n.")],
    }
}

fn init_script(path: &str) -> Check {
    let root = Path::new("/").join(path);
    let script = fuzzing::init_script(&root);
    let functions = script
        .trim_end()
        .strip_suffix(INIT_MAIN)
        .expect("it ends so");
    let folders = [root.join("etc/h_autossh"), root.join("var/run/h_autossh")];
    Check {
        name: "the init script",
        script: format!("{functions}\nout \"$TUNNELS_DIR\" \"$PID_DIR\""),
        says: folders
            .map(|folder| folder.to_string_lossy().into_owned())
            .into(),
    }
}

fn proxy_word(path: &str) -> Check {
    Check {
        name: "a word of a proxy command",
        // ssh does this.
        script: format!(
            "out {}",
            fuzzing::proxy_word(Path::new(path)).replace("%%", "%")
        ),
        says: vec![path.to_owned()],
    }
}

/// The same path as the folder, and as that of ssh.
fn build_script(path: &str) -> [Check; 2] {
    const CONFIGURE: &str = "./configure ";
    let check = |folder: &str, ssh: &str| {
        let script = fuzzing::build_script(Path::new(folder), Path::new(ssh));
        // Behind the folder, and before the path of ssh.
        let at = script
            .find(CONFIGURE)
            .filter(|_| folder != path)
            .or(script.rfind(CONFIGURE));
        let (before, after) = script.split_at(at.expect("it is configured"));
        let after = &after[CONFIGURE.len()..];
        let stubs = "cd() { out \"$1\"; }; tar() { :; }; make() { :; }";
        Check {
            name: "the build of autossh",
            script: format!("{stubs}\n{before}out {after}"),
            says: vec![
                folder.to_owned(),
                "--prefix=/usr/local".to_owned(),
                format!("ac_cv_path_ssh={ssh}"),
                "ac_cv_lib_nsl_gethostbyname=no".to_owned(),
                "ac_cv_lib_socket_connect=no".to_owned(),
            ],
        }
    };
    [check(path, "/usr/bin/ssh"), check("/tmp/x", path)]
}

/// Root reads it as shell, and systemd in its own way.
fn tunnel_file(user: &str, path: &str, target: &str) -> Option<Check> {
    let (home, program) = (Path::new("/").join(path), Path::new("/").join(path));
    let (file, arguments) = fuzzing::tunnel_file(user, &home, &program, target)?;
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once('=').expect("each line is an assignment");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
            "{line}"
        );
        assert!(!value.contains(['\\', '\'', '$', '`', '#', ';']), "{line}");
    }
    let mut says = vec![user.to_owned(), program.to_string_lossy().into_owned()];
    says.extend(arguments);
    Some(Check {
        name: "a tunnel's file",
        script: format!(
            "{file}\nset -f\nout \"$H_AUTOSSH_USER\" \"$H_AUTOSSH_PROGRAM\" $H_AUTOSSH_ARGUMENTS"
        ),
        says,
    })
}

fn command(public: &PublicAddress) -> Check {
    let token = Token::from_bytes(TokenKind::Enrollment, &[7; 32]);
    let command = scripts::bootstrap_command(public, &token);
    Check {
        name: "the command from the browser",
        script: format!("exec 3>&1\ncurl() {{ out \"$@\" >&3; }}\nsh() {{ :; }}\n{command}"),
        says: vec![
            "-fsSL".to_owned(),
            format!("{}/i/{}", public.url, token.as_str()),
        ],
    }
}

fn shown(words: Vec<String>) -> Check {
    Check {
        name: "a command that is shown",
        script: fuzzing::shown("out", &words),
        // With nothing to say, `out` says one empty word.
        says: if words.is_empty() {
            vec![String::new()]
        } else {
            words
        },
    }
}

fn values(url: String, name: String, path: String, host: String) -> Values {
    let mut values = Values {
        display_name: name,
        control_plane: url,
        number: "7".to_owned(),
        is_enrolled: true,
        private_key: path.clone(),
        known_hosts: path,
        keygen_command: "ssh-keygen".to_owned(),
        ssh_arguments: Vec::new(),
        ssh_environment: None,
        curl_proxy: String::new(),
        proxy_command: None,
        host_key_alias: None,
        host_keys: Vec::new(),
        server_user: "tunnel".to_owned(),
        server_host: host.clone(),
        server_port: "50022".to_owned(),
        remote_port: "20001".to_owned(),
        target_host: host,
        target_port: "5432".to_owned(),
    };
    values.ssh_arguments = values.unix_arguments();
    values
}

fn guide(values: &Values) -> Check {
    Check {
        name: "ssh in the guide",
        script: format!("ssh() {{ out \"$@\"; }}\n{}", values.ssh_command()),
        says: values.ssh_arguments.clone(),
    }
}

/// What the guide has written into a unit, systemd reads as it was meant.
fn unit(values: &Values) {
    let is_one_line = |word: &String| !word.chars().any(char::is_control);
    let others = [&values.display_name, &values.control_plane];
    // Nothing else is ever taken from a person.
    if !values.ssh_arguments.iter().chain(others).all(is_one_line) {
        return;
    }
    let guide = manual::render(System::Linux, values).expect("the template is whole");
    let typed = manual::parts(&guide)
        .into_iter()
        .find_map(|part| match part {
            Part::Typed(text) if text.starts_with("printf '%s\\n' '[Unit]'") => Some(text),
            _ => None,
        });
    let typed = typed.expect("the guide makes a unit");
    let (unit, _) = typed
        .rsplit_once("\nsudo systemctl")
        .expect("the unit is started");
    let stubs = "id() { echo me; }; autossh() { :; }; sudo() { while IFS= read -r line; do out \"$line\"; done; }";
    let lines = said_by_sh(&format!("{stubs}\n{unit}"));
    let line = lines
        .iter()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let started = systemd::words(line.unwrap_or_else(|| panic!("nothing is started by {lines:?}")));
    assert_eq!(started[..3], ["autossh", "-M", "0"]);
    assert_eq!(started[3..], values.ssh_arguments, "{line:?}");
}
