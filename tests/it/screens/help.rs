//! Help, completions, manual pages.

use super::*;

/// `cargo insta accept`, or INSTA_UPDATE=always, takes what is new.
#[test]
fn help_of_every_command() {
    let bastion = Bastion::new();
    let help = |command: &[&str]| {
        let mut program = bastion.program(command);
        bastion.run(program.arg("--help")).expect_code(0).stdout
    };
    let program = help(&[]);
    let listed = program
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1);
    let commands: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    let mut text = program.clone();
    for command in &commands {
        text.push_str(&format!("\n==== {command}\n\n{}", help(&[command])));
    }
    insta::assert_snapshot!("help", text);
}

#[test]
fn every_flag_has_its_variable() {
    const WITHOUT: [&str; 3] = ["help", "version", "new-installation"];
    let bastion = Bastion::new();
    let mut flags = 0;
    for (prefix, mut command) in [
        ("HOLISTICS_TUNNEL_", bastion.program(["setup"])),
        ("HOLISTICS_TUNNEL_", bastion.program(["doctor"])),
        ("HOLISTICS_TUNNEL_", bastion.program(["uninstall-tunnel"])),
        ("HOLISTICS_TUNNEL_SERVER_", serve(&bastion)),
    ] {
        let help = bastion.run(command.arg("--help")).expect_code(0).stdout;
        for (flag, said) in said_of_flags(&help) {
            if WITHOUT.contains(&flag.as_str()) {
                continue;
            }
            let variable = format!("{prefix}{}", flag.to_uppercase().replace('-', "_"));
            // With the value that it has, or without where that may be a secret.
            let is_shown = ["=", "]"].map(|end| said.contains(&format!("{variable}{end}")));
            assert!(is_shown.contains(&true), "--{flag}: {said}");
            flags += 1;
        }
    }
    assert!(flags > 50, "{flags} flags");
}

#[test]
fn the_defaults_that_the_documents_name_are_the_server_s() {
    let bastion = Bastion::new();
    let help = bastion.run(serve(&bastion).arg("--help")).expect_code(0);
    let flags = said_of_flags(&help.stdout);
    for (flag, default, document, words) in [
        ("port-rest", "24h", "server", "`serve --port-rest` (24 h"),
        (
            "audit-age",
            "400d",
            "server",
            "`serve --audit-age` (400 days)",
        ),
        ("stale-logins", "24h", "server", "`--stale-logins` (24 h)"),
        (
            "drain-timeout",
            "10m",
            "server",
            "`--drain-timeout` (10 min)",
        ),
        (
            "web-connections-per-address",
            "256",
            "server",
            "256 connections of one address",
        ),
        (
            "enrollment-ttl",
            "24h",
            "security",
            "24 hours, for one tunnel",
        ),
        (
            "forward-listen",
            "127.0.0.1",
            "security",
            "on loopback unless told otherwise",
        ),
        (
            "ports",
            "20000-29999",
            "operations",
            "20000–29999 (`--ports`)",
        ),
        (
            "ssh-listen",
            "0.0.0.0:50022",
            "operations",
            "50022 (`--ssh-listen`)",
        ),
        ("ssh-logins", "1024", "capacity", "`--ssh-logins` (1,024)"),
    ] {
        let said = flags.iter().find(|(name, _)| name == flag).expect(flag);
        let default = format!("[default: {default}]");
        assert!(said.1.contains(&default), "{said:?}");
        let file = format!("{}/docs/{document}.md", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&file).expect("a document");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{file} does not say: {words}");
    }
}

fn serve(bastion: &Bastion) -> Command {
    let mut serve = bastion.any_program(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    serve.arg("serve");
    serve
}

/// Each flag of a help's text, and what is said of it.
fn said_of_flags(help: &str) -> Vec<(String, String)> {
    // What is said of a flag stands further in.
    let begins = |line: &str| line.starts_with("  -") || line.starts_with("      --");
    let lines: Vec<&str> = help.lines().collect();
    let first = lines.iter().enumerate().filter(|(_, line)| begins(line));
    first
        .filter_map(|(at, line)| {
            let (_, long) = line.split_once("--")?;
            let name = long.split([' ', '=', '[']).next()?;
            let further = lines[at + 1..].iter().take_while(|line| !begins(line));
            let words = [line].into_iter().chain(further);
            let words: Vec<&str> = words.flat_map(|line| line.split_whitespace()).collect();
            Some((name.to_owned(), words.join(" ")))
        })
        .collect()
}

#[test]
fn completions_and_manual_pages_are_understood_by_those_who_read_them() {
    let bastion = Bastion::new();
    let completions = |shell: &str| {
        let mut program = bastion.program(["completions", shell]);
        bastion.run(&mut program).expect_code(0).stdout
    };
    let script = bastion.temporary().join("completions");
    std::fs::write(&script, completions("bash")).expect("a file");
    bastion
        .run(bastion.any_program("bash").arg("-n").arg(&script))
        .expect_code(0);
    // What bash itself makes of it, as if Tab was pressed.
    let complete = "source \"$0\"; COMP_WORDS=(holistics-tunnel unin); COMP_CWORD=1; \
                    _holistics__tunnel holistics-tunnel unin holistics-tunnel; echo \"${COMPREPLY[@]}\"";
    let completed = bastion
        .run(
            bastion
                .any_program("bash")
                .args(["-c", complete])
                .arg(&script),
        )
        .expect_code(0);
    assert_eq!(completed.stdout.trim(), "uninstall-tunnel");
    assert!(completions("zsh").starts_with("#compdef holistics-tunnel"));
    assert!(completions("fish").contains("-l token-file"));

    let dir = bastion.temporary().join("man1");
    let mut man = bastion.program(["man"]);
    bastion.run(man.arg("--dir").arg(&dir)).expect_code(0);
    for page in [
        "holistics-tunnel.1",
        "holistics-tunnel-setup.1",
        "holistics-tunnel-status.1",
    ] {
        let text = std::fs::read_to_string(dir.join(page)).expect(page);
        assert!(text.contains(".TH holistics-tunnel"), "{page}:\n{text}");
    }
    let main = bastion.run(&mut bastion.program(["man"])).expect_code(0);
    assert!(main.stdout.contains("uninstall\\-tunnel"), "{main}");
}
