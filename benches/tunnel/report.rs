//! The tables that are printed, the same for a machine (`--json FILE`), and for a page (`--markdown FILE`).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

const NAME_WIDTH: usize = 30;
const CELL_WIDTH: usize = 8;

/// The sections whose heading in a page is not their name.
const HEADINGS: [(&str, &str); 2] = [("load", "Load"), ("table", "Beside others")];

/// All tables of one run.
pub struct Report {
    json: Option<PathBuf>,
    markdown: Option<PathBuf>,
    /// What was called, but for the page that is written.
    command: String,
    machine: Machine,
    section: &'static str,
    tables: Vec<Kept>,
}

/// A table as it is printed.
struct Kept {
    section: &'static str,
    title: String,
    aims: Vec<String>,
    columns: Vec<String>,
    rows: Vec<(String, Vec<Cell>)>,
}

impl Report {
    pub fn new(json: Option<PathBuf>, markdown: Option<PathBuf>, command: String) -> Self {
        Report {
            json,
            markdown,
            command,
            machine: Machine::of_now(),
            section: "",
            tables: Vec::new(),
        }
    }

    /// The tables that follow are this section's.
    pub fn begin(&mut self, section: &'static str) {
        self.section = section;
        self.machine = Machine::of_now();
    }

    /// Begins a table. What it shows, and the aim in words, stand above its figures.
    pub fn table(&mut self, title: &str, aims: &[&str], columns: &[&str]) -> Table<'_> {
        println!("\n{title}");
        for aim in aims {
            println!("    aim: {aim}");
        }
        let mut line = format!("  {:<NAME_WIDTH$}", "");
        for column in columns {
            let width = width(column);
            line.push_str(&format!("  {column:>width$}"));
        }
        println!("{line}");
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        self.tables.push(Kept {
            section: self.section,
            title: title.to_owned(),
            aims: owned(aims),
            columns: owned(columns),
            rows: Vec::new(),
        });
        Table {
            kept: self.tables.last_mut().expect("it was just added"),
        }
    }

    /// Writes the files that were asked for; after every section, so that a later failure leaves
    /// what was found.
    pub fn save(&self) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            let tables: Vec<_> = self.tables.iter().map(Kept::as_json).collect();
            fs::write(file, serde_json::to_string_pretty(&tables)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        if let Some(file) = &self.markdown {
            let before = fs::read_to_string(file).unwrap_or_default();
            let after = with_section(&before, self.section, &self.as_markdown())
                .with_context(|| file.display().to_string())?;
            fs::write(file, after).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }

    /// The present section.
    fn as_markdown(&self) -> String {
        let mut text = format!(
            "Measured by `{}` on {}, with a load of {} at the beginning and {} at the end.\n",
            self.command,
            self.machine.description,
            self.machine.load,
            Machine::of_now().load
        );
        let own = self
            .tables
            .iter()
            .filter(|kept| kept.section == self.section);
        own.for_each(|kept| text.push_str(&kept.as_markdown()));
        text
    }
}

impl Kept {
    fn as_json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, cells)| {
            let mut row = Map::new();
            row.insert("name".to_owned(), name.as_str().into());
            for (column, cell) in self.columns.iter().zip(cells) {
                row.insert(column.clone(), cell.value.into());
            }
            Value::Object(row)
        });
        json!({"title": self.title, "aims": self.aims, "rows": rows.collect::<Vec<_>>()})
    }

    fn as_markdown(&self) -> String {
        let mut text = format!("\n{}:\n\n| |", self.title);
        for column in &self.columns {
            text.push_str(&format!(" {column} |"));
        }
        text.push_str(&format!(
            "\n| --- |{}",
            " ---: |".repeat(self.columns.len())
        ));
        for (name, cells) in &self.rows {
            text.push_str(&format!("\n| {name} |"));
            for cell in cells {
                text.push_str(&format!(" {} |", cell.text));
            }
        }
        text.push('\n');
        for aim in &self.aims {
            text.push_str(&format!("\nAim: {aim}.\n"));
        }
        text
    }
}

/// A page with this text in a section, between two marks. A page that has no such section gets one at its end.
fn with_section(page: &str, section: &str, text: &str) -> anyhow::Result<String> {
    let begin = format!("<!-- scripts/bench {section} writes this -->\n");
    let end = format!("<!-- end of scripts/bench {section} -->\n");
    let text = format!("{begin}{text}{end}");
    if let Some((before, rest)) = page.split_once(&begin) {
        let after = rest.split_once(&end);
        let (_, after) = after.with_context(|| format!("there is no line {:?}", end.trim()))?;
        return Ok(format!("{before}{text}{after}"));
    }
    ensure!(!page.contains(&end), "there is no line {:?}", begin.trim());
    let heading = HEADINGS.iter().find(|(name, _)| *name == section);
    let heading = heading.map_or(section, |(_, heading)| heading);
    let gap = if page.is_empty() { "" } else { "\n" };
    Ok(format!("{page}{gap}## {heading}\n\n{text}"))
}

/// Where and when something was measured.
struct Machine {
    description: String,
    /// How many processes wanted to run in the last minute.
    load: String,
}

impl Machine {
    fn of_now() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let after = |text: &str, label: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(label));
            line.map(|line| line.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let model = after(&read("/proc/cpuinfo"), "model name");
        let memory = after(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.and_then(|memory| memory.split(' ').next()?.parse::<u64>().ok());
        let description = format!(
            "{processors} processors ({}), {} GB, Linux {}, {}",
            model.as_deref().unwrap_or("unknown").trim(),
            kib.unwrap_or_default() / 1_000_000,
            read("/proc/sys/kernel/osrelease").trim(),
            jiff::Timestamp::now().strftime("%Y-%m-%d")
        );
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().unwrap_or_default().to_owned();
        Machine { description, load }
    }
}

fn width(column: &str) -> usize {
    column.chars().count().max(CELL_WIDTH)
}

/// A table that grows row by row.
pub struct Table<'a> {
    kept: &'a mut Kept,
}

impl Table<'_> {
    pub fn row(&mut self, name: &str, cells: &[Cell]) {
        let mut line = format!("  {name:<NAME_WIDTH$}");
        for (column, cell) in self.kept.columns.iter().zip(cells) {
            let width = width(column);
            line.push_str(&format!("  {:>width$}", cell.text));
        }
        println!("{line}");
        self.kept.rows.push((name.to_owned(), cells.to_vec()));
    }
}

/// One figure: as it is printed, and as a number.
#[derive(Clone)]
pub struct Cell {
    text: String,
    value: Option<f64>,
}

/// A figure with so many digits after the point.
pub fn number(value: f64, digits: usize) -> Cell {
    Cell {
        text: format!("{value:.digits$}"),
        value: Some(value),
    }
}

/// A ratio, or seconds.
pub fn two(value: f64) -> Cell {
    number(value, 2)
}

/// Bytes per second as Mbit/s.
pub fn mbits(bytes_per_second: f64) -> Cell {
    number(bytes_per_second * 8.0 / 1e6, 0)
}

/// Bytes as KiB.
pub fn kib(bytes: f64) -> Cell {
    number(bytes / 1024.0, 1)
}

/// Bytes as MB.
pub fn mb(bytes: f64) -> Cell {
    number(bytes / 1e6, 1)
}

/// Seconds as milliseconds.
pub fn millis(seconds: f64) -> Cell {
    number(seconds * 1e3, 1)
}

/// What is no figure.
pub fn words(text: &str) -> Cell {
    Cell {
        text: text.to_owned(),
        value: None,
    }
}

/// No figure: it is the base of the others, or was not asked for.
pub fn none() -> Cell {
    Cell {
        text: "-".to_owned(),
        value: None,
    }
}
