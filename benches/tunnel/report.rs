//! The tables that are printed, and the same for a machine (`--json FILE`).

use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Map, Value, json};

const NAME_WIDTH: usize = 30;
const CELL_WIDTH: usize = 8;

/// All tables of one run.
pub struct Report {
    file: Option<PathBuf>,
    tables: Vec<Value>,
}

impl Report {
    pub fn new(file: Option<PathBuf>) -> Self {
        Report {
            file,
            tables: Vec::new(),
        }
    }

    /// Begins a table. What it shows, and the aim in words, stand above its figures.
    pub fn table(&mut self, title: &str, aims: &[&str], columns: &[&'static str]) -> Table<'_> {
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
        self.tables
            .push(json!({"title": title, "aims": aims, "rows": []}));
        Table {
            report: self,
            columns: columns.to_vec(),
        }
    }

    /// Writes the file, if one was asked for; after every section, so that a later failure leaves
    /// what was found.
    pub fn save(&self) -> anyhow::Result<()> {
        if let Some(file) = &self.file {
            std::fs::write(file, serde_json::to_string_pretty(&self.tables)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

fn width(column: &str) -> usize {
    column.chars().count().max(CELL_WIDTH)
}

/// A table that grows row by row.
pub struct Table<'a> {
    report: &'a mut Report,
    columns: Vec<&'static str>,
}

impl Table<'_> {
    pub fn row(&mut self, name: &str, cells: &[Cell]) {
        let mut line = format!("  {name:<NAME_WIDTH$}");
        let mut row = Map::new();
        row.insert("name".to_owned(), name.into());
        for (column, cell) in self.columns.iter().zip(cells) {
            let width = width(column);
            line.push_str(&format!("  {:>width$}", cell.text));
            row.insert((*column).to_owned(), cell.value.into());
        }
        println!("{line}");
        let rows = self
            .report
            .tables
            .last_mut()
            .and_then(|t| t.get_mut("rows"));
        if let Some(Value::Array(rows)) = rows {
            rows.push(Value::Object(row));
        }
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

/// No figure: it is the base of the others, or was not asked for.
pub fn none() -> Cell {
    Cell {
        text: "-".to_owned(),
        value: None,
    }
}
