//! Every promise of the documents names what holds it, in `docs/promises.md`: the tests and figures that it names are there.
//!
//! Needs nothing but the sources. Whether a test holds what stands beside it, nobody but a reader can tell.

use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/promises.md";

#[test]
fn every_test_and_figure_that_holds_a_promise_is_there() {
    let page = fs::read_to_string(at(PAGE)).expect("the promises");
    let found = faults_of(&page);
    assert!(found.is_empty(), "{PAGE}:\n{}", found.join("\n"));
    assert!(
        promises(&page).count() > 150,
        "the table is not read any more"
    );
}

#[test]
fn a_promise_with_a_wrong_name_a_dead_link_or_nothing_beside_it_is_told() {
    for (row, told) in [
        ("`it journey::a_killed_ssh_comes_back_by_itself`", None),
        ("`web the_whole_journey_works_without_javascript`", None),
        (
            "`lib server::passwords::tests::nobodys_password_takes_as_long_as_somebodys`",
            None,
        ),
        ("[figures](figures.md#faults)", None),
        ("`scripts/release --check`", None),
        ("`it journey::a_killed_ssh_stays_dead`", Some("no test")),
        // There, and no test.
        ("`it journey::wait_until_rows_come`", Some("no test")),
        ("`it travels::a_killed_ssh_comes_back`", Some("no module")),
        ("`it journey::tests::a_killed_ssh`", Some("no module")),
        ("`its journey::a_killed_ssh`", Some("neither")),
        ("`scripts/no-such-script`", Some("no script")),
        ("[figures](figures.md#no-such-heading)", Some("no heading")),
        ("[figures](no-such-file.md)", Some("no file")),
        ("", Some("nothing holds")),
    ] {
        let page =
            format!("| section | promise | held by |\n| --- | --- | --- |\n| | it | {row} |\n");
        let found = faults_of(&page);
        match told {
            None => assert!(found.is_empty(), "{row}: {found:?}"),
            Some(words) => {
                assert_eq!(found.len(), 1, "{row}: {found:?}");
                assert!(found[0].contains(words), "{row}: {found:?}");
            }
        }
    }
}

/// What is wrong with this text of the page, a line for each.
fn faults_of(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for row in promises(page) {
        let held_by = row.trim_end_matches('|').rsplit('|').next();
        let held_by = held_by.expect("a cell");
        let spans: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        if spans.is_empty() && links(held_by).is_empty() {
            found.push(format!("nothing holds {row}"));
        }
        found.extend(spans.into_iter().filter_map(|span| fault_of(span).err()));
    }
    found.extend(links(page).into_iter().filter_map(|to| dead(to).err()));
    found
}

/// The rows of the tables, but for their heads.
fn promises(page: &str) -> impl Iterator<Item = &str> {
    let is_head = |row: &&str| row.starts_with("| section |") || row.starts_with("| --- |");
    let rows = page.lines().filter(|line| line.starts_with('|'));
    rows.filter(move |row| !is_head(row))
}

/// Whether what holds a promise is there: a script, or a test under its program and full name.
fn fault_of(span: &str) -> Result<(), String> {
    let first = span.split(' ').next().unwrap_or_default();
    if first.starts_with("scripts/") {
        let is_there = at(first).is_file();
        return is_there.then_some(()).ok_or(format!("no script {first}"));
    }
    let root = match first {
        "lib" => at("src"),
        "it" | "lab" | "web" => at("tests").join(first),
        _ => return Err(format!("neither a test nor a script: {span}")),
    };
    let mut modules: Vec<&str> = span[first.len()..].trim().split("::").collect();
    let name = modules.pop().unwrap_or_default();
    let source = source_of(&root, &modules).ok_or(format!("no module: {span}"))?;
    has_test(&source, name)
        .then_some(())
        .ok_or(format!("no test: {span}"))
}

/// The text of the file that this path of modules leads to. The last of them may stand in the file itself.
fn source_of(root: &Path, modules: &[&str]) -> Option<String> {
    let Some((last, above)) = modules.split_last() else {
        return fs::read_to_string(root.join("main.rs")).ok();
    };
    let folder = above
        .iter()
        .fold(root.to_owned(), |path, part| path.join(part));
    let of_its_own = [
        folder.join(format!("{last}.rs")),
        folder.join(last).join("mod.rs"),
    ];
    let own = of_its_own
        .iter()
        .find_map(|file| fs::read_to_string(file).ok());
    own.or_else(|| {
        let file = source_of(root, above).filter(|_| !above.is_empty())?;
        file.contains(&format!("mod {last} {{")).then_some(file)
    })
}

fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let rest = line
            .strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with('('))
    };
    let is_test = |line: &&&str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    let mut functions = lines.iter().enumerate().filter(|(_, line)| begins(line));
    functions.any(|(at, _)| {
        let above = lines[..at].iter().rev();
        let mut above = above.take_while(|line| line.starts_with('#') || line.starts_with("//"));
        above.any(|line| is_test(&line))
    })
}

/// Where the links of a text lead.
fn links(text: &str) -> Vec<&str> {
    let ends = text.split("](").skip(1);
    ends.filter_map(|rest| rest.split(')').next()).collect()
}

/// Whether a link of the page leads to a file, and to a heading of it.
fn dead(link: &str) -> Result<(), String> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let path = at("docs").join(file);
    let text = fs::read_to_string(path).map_err(|_| format!("no file: {link}"))?;
    let is_there = heading.is_empty()
        || text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .any(|line| anchor(line.trim_start_matches('#')) == heading);
    is_there.then_some(()).ok_or(format!("no heading: {link}"))
}

/// The name under which a heading is linked.
fn anchor(heading: &str) -> String {
    let lower = heading.trim().to_lowercase();
    let kept = lower
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
