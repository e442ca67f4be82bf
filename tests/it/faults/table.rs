//! The figures as a table in Markdown, a line for each fault.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

const HEAD: &str = "\
| what happens | aim | median | worst | turns | plain command: median | worst | turns | the other tunnel's longest gap | left over |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

/// Faults that end at the same time write one after another.
static WRITING: Mutex<()> = Mutex::new(());

/// What is told of a fault. Times are seconds until rows came again.
pub struct Line {
    pub fault: String,
    pub aim: String,
    pub median: String,
    pub worst: String,
    pub turns: usize,
    pub plain_median: String,
    pub plain_worst: String,
    pub plain_turns: usize,
    pub sibling: String,
    pub left: String,
}

/// Whether a table is made.
pub fn is_made() -> bool {
    file().is_some()
}

fn file() -> Option<PathBuf> {
    std::env::var_os("FAULTS_TABLE").map(PathBuf::from)
}

/// Adds a fault's line, where a table is made.
pub fn add(line: &Line) {
    let Some(file) = file() else { return };
    let (turns, plain_turns) = (line.turns.to_string(), line.plain_turns.to_string());
    let cells: [&str; 10] = [
        &line.fault,
        &line.aim,
        &line.median,
        &line.worst,
        &turns,
        &line.plain_median,
        &line.plain_worst,
        &plain_turns,
        &line.sibling,
        &line.left,
    ];
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let open = OpenOptions::new().append(true).create(true).open(file);
    let mut table = open.expect("the table's file");
    let is_new = table.metadata().expect("its length").len() == 0;
    let head = if is_new { HEAD } else { "" };
    writeln!(table, "{head}| {} |", cells.join(" | ")).expect("the table is written");
}
