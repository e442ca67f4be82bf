//! The transcripts in the README: what the real programs say, with times, ports and folders of this
//! run replaced by others that stay the same.
//!
//! `scripts/transcripts` writes them anew; without it, a difference fails the test.

use super::*;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
/// Set, the README is written instead of compared.
const UPDATE: &str = "UPDATE_TRANSCRIPTS";
/// Lines that are longer are broken.
const WIDTH: usize = 92;

#[test]
fn the_readme_s_transcripts_are_what_the_programs_say() {
    let lab = Lab::new();
    let source = lab.data_source("Shop");
    // Readers are shown the key that setup makes by itself.
    let mut setup = lab
        .bastion
        .setup_with_default_key(&lab.server.url, token_of(&source));
    let setup = lab.bastion.start(setup.arg("--yes"));
    lab.wait_until_connected(&source, &setup);
    let setup = lab.save_and_finish(&source, setup);
    let status = lab.bastion.run(&mut lab.bastion.program(["status"]));
    let list = lab.bastion.run(&mut lab.bastion.program(["list"]));
    let id = tunnel_of(&source).id.to_string();
    let mut removal = lab.bastion.program(["uninstall-tunnel", &id, "--yes"]);
    let removal = lab.bastion.run(&mut removal);

    let real = Real::of(&lab, &list);
    let setup_line = "setup --server https://vendor.example --token-file token --yes";
    let blocks = [
        ("setup", real.transcript(&[(setup_line, &setup)])),
        (
            "afterwards",
            real.transcript(&[("list", &list), ("status", &status)]),
        ),
        (
            "removal",
            real.transcript(&[("uninstall-tunnel 7 --yes", &removal)]),
        ),
    ];
    let before = std::fs::read_to_string(README).expect("the README");
    let mut after = before.clone();
    for (name, block) in blocks {
        after = with_block(&after, name, &block);
    }
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(README, after).expect("the README");
        return;
    }
    assert!(
        before == after,
        "the README's transcripts are not what the programs say; scripts/transcripts writes:\n{after}"
    );
}

/// What a run has of its own, and what stands for it in a transcript.
struct Real {
    replaced: Vec<(String, &'static str)>,
}

impl Real {
    fn of(lab: &Lab, list: &Finished) -> Self {
        let text = |path: PathBuf| path.to_str().expect("a path in UTF-8").to_owned();
        let whoami = |command: &str| {
            let ran = lab.bastion.run(&mut lab.bastion.any_program(command));
            ran.expect_code(0).stdout.trim().to_owned()
        };
        let database = format!("127.0.0.1:{}", lab.postgres.port());
        let through = list.stdout.split(" port ").nth(1);
        let port = through.and_then(|rest| rest.split_whitespace().next());
        let port = port.expect("a remote port").to_owned();
        let replaced = vec![
            (
                env!("CARGO_BIN_EXE_holistics-tunnel").to_owned(),
                "holistics-tunnel",
            ),
            (format!("{}/", lab.server.url), "https://vendor.example/"),
            (text(lab.bastion.home()), "/home/ada"),
            (text(lab.bastion.prefix()), ""),
            // Before the port alone: it may be a part of another number.
            (database, "10.0.0.5:5432"),
            (
                format!("on {} as {}:", whoami("hostname"), whoami("whoami")),
                "on bastion as ada:",
            ),
            ("for 127.0.0.1,".to_owned(), "for vendor.example,"),
            (format!("remote port {port}"), "remote port 20001"),
            (format!("port {port}"), "port 20001"),
            ("of 127.0.0.1".to_owned(), "of vendor.example"),
            ("127.0.0.1 port".to_owned(), "vendor.example port"),
        ];
        Real { replaced }
    }

    /// The commands, each with what it said.
    fn transcript(&self, commands: &[(&str, &Finished)]) -> String {
        let mut text = String::new();
        for (command, finished) in commands {
            assert_eq!(finished.code, 0, "{finished}");
            text.push_str(&format!("$ holistics-tunnel {command}\n"));
            let output = finished.output();
            let lines: Vec<String> = output.lines().map(|line| self.line(line)).collect();
            for line in aligned(lines) {
                text.push_str(&fold(&line));
            }
        }
        text
    }

    fn line(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (own, other) in &self.replaced {
            line = line.replace(own.as_str(), other);
        }
        for number in [
            "tunnel ",
            "status ",
            "doctor ",
            "Tunnel ",
            "uninstall-tunnel ",
        ] {
            line = line.replace(&format!("{number}1"), &format!("{number}7"));
        }
        // `list` shows the number in a column of its own.
        if let Some(rest) = line.strip_prefix("1   ") {
            line = format!("7   {rest}");
        }
        if let Some(begin) = line.rfind(" (").filter(|_| line.ends_with(" s)")) {
            line.truncate(begin);
        }
        line
    }
}

/// A table of `list`, with its columns as wide as what stands in them now.
fn aligned(lines: Vec<String>) -> Vec<String> {
    if !lines.iter().any(|line| line.starts_with("ID  ")) {
        return lines;
    }
    let cells = |line: &String| -> Vec<String> {
        let cells = line.split("  ").map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let rows: Vec<Vec<String>> = lines.iter().map(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
    let padded = |row: &Vec<String>| -> String {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(at, cell)| format!("{cell:<0$}", width(at).unwrap_or(0)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(padded).collect()
}

/// The line, broken at blanks where it is too long.
fn fold(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let mut folded = String::new();
    let mut rest = line.trim_end();
    while rest.chars().count() > WIDTH {
        let Some(at) = rest[..WIDTH].rfind(' ').filter(|at| *at > indent) else {
            break;
        };
        folded.push_str(&rest[..at]);
        folded.push('\n');
        rest = rest[at..].trim_start();
    }
    folded + rest + "\n"
}

/// The README with this block between its marks.
fn with_block(readme: &str, name: &str, block: &str) -> String {
    let mark = format!("<!-- transcript: {name} -->\n");
    let (before, rest) = readme
        .split_once(&mark)
        .unwrap_or_else(|| panic!("no mark in the README: {mark}"));
    let (_, after) = rest.split_once("<!-- end -->").expect("the mark's end");
    format!("{before}{mark}```console\n{block}```\n<!-- end -->{after}")
}
