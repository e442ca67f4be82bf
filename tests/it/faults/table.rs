//! The figures as a table in Markdown, a line for each fault.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::faults::measure::Measured;

const HEAD: &str = "| what happens | seconds until rows come again: median | worst | plain command | \
                    the other tunnel's longest gap | left over |\n| --- | --- | --- | --- | --- | --- |\n";

/// Whether one is made.
pub fn is_made() -> bool {
    file().is_some()
}

fn file() -> Option<PathBuf> {
    std::env::var_os("FAULTS_TABLE").map(PathBuf::from)
}

/// Adds a fault's line, where a table is made.
pub fn add(fault: &str, measured: &Measured) {
    let plain = match measured.plain {
        Some(Some(back)) => seconds(back),
        Some(None) => "> 240".to_owned(),
        None => "–".to_owned(),
    };
    add_line(&[
        fault,
        &seconds(measured.median()),
        &seconds(measured.worst()),
        &plain,
        &format!("{:.1}", measured.sibling.as_secs_f64()),
        &measured.left.to_string(),
    ]);
}

/// Adds a line of what is told in another way.
pub fn add_line(cells: &[&str; 6]) {
    let Some(file) = file() else { return };
    let open = OpenOptions::new().append(true).create(true).open(file);
    let mut table = open.expect("the table's file");
    let is_new = table.metadata().expect("its length").len() == 0;
    let head = if is_new { HEAD } else { "" };
    writeln!(table, "{head}| {} |", cells.join(" | ")).expect("the table is written");
}

/// As it stands in the table.
pub fn seconds(back: Duration) -> String {
    match back {
        Duration::ZERO => "not noticed".to_owned(),
        back => format!("{:.1}", back.as_secs_f64()),
    }
}
