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
    let server = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    let helps = [
        ("HOLISTICS_TUNNEL_", bastion.program(["setup"])),
        ("HOLISTICS_TUNNEL_", bastion.program(["doctor"])),
        ("HOLISTICS_TUNNEL_", bastion.program(["uninstall-tunnel"])),
        ("HOLISTICS_TUNNEL_SERVER_", {
            let mut serve = bastion.any_program(server);
            serve.arg("serve");
            serve
        }),
    ];
    let mut flags = 0;
    for (prefix, mut command) in helps {
        let help = bastion.run(command.arg("--help")).expect_code(0).stdout;
        let begins = |line: &str| line.trim_start().starts_with('-') && line.starts_with("  ");
        let lines: Vec<&str> = help.lines().collect();
        let named = |line: &str| {
            let (_, long) = line.split_once("--")?;
            Some(long.split([' ', '=', '[']).next()?.to_owned())
        };
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins(line)) {
            let Some(flag) = named(line).filter(|flag| !WITHOUT.contains(&flag.as_str())) else {
                continue;
            };
            let of_flag = lines[at + 1..].iter().take_while(|line| !begins(line));
            let variable = format!("[env: {prefix}{}", flag.to_uppercase().replace('-', "_"));
            let is_shown = of_flag.into_iter().any(|line| line.contains(&variable));
            assert!(is_shown, "--{flag} has no {variable}\n{help}");
            flags += 1;
        }
    }
    assert!(flags > 50, "{flags} flags");
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
