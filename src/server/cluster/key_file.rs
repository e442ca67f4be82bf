//! The table of keys on disk, for a start while the database cannot be reached.
//!
//! Two files in the data folder, each its owner's alone and put in its place as a whole: the table, and how old it
//! is, which is written more often. The table begins with a line that says what it is, whose, and what the rest must
//! be, so that one of another installation, or one that is cut off, is told from a good one. The second file counts only
//! with the table that it names.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::key_age::{Current, Moment};
use crate::protocol::TunnelId;
use crate::server::data_dir::DataDir;
use crate::server::store::{DEFAULT_REGION, KeyRow, KeyRows, OpenTunnel};
use crate::server::whole_file;

/// Of what both files are.
const FORMAT: u32 = 1;

/// Where the table is kept.
#[derive(Debug, Clone)]
pub struct KeyFile {
    table: PathBuf,
    age: PathBuf,
    installation: String,
}

/// The first line of the table.
#[derive(Debug, Serialize, Deserialize)]
struct Heading {
    format: u32,
    installation: String,
    /// What the other file calls this table.
    mark: String,
    version: i64,
    current_at: Timestamp,
    /// The SHA-256 of what follows.
    rest: String,
}

/// One line for each tunnel.
#[derive(Serialize, Deserialize)]
struct Line {
    tunnel: TunnelId,
    port: u16,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The other file.
#[derive(Debug, Serialize, Deserialize)]
struct Age {
    format: u32,
    of: String,
    current_at: Timestamp,
    reached_seconds: u64,
}

/// What the files hold.
#[derive(Debug)]
pub struct Kept {
    /// The table.
    pub rows: KeyRows,
    /// When it was current.
    pub current: Current,
    /// What its age is kept under.
    pub mark: Mark,
}

/// Names a table on disk.
#[derive(Debug, Clone)]
pub struct Mark(String);

impl KeyFile {
    /// That of this installation and region: what opens a tunnel in another one is another port.
    pub fn new(data_dir: &DataDir, mut installation: String, region: &str) -> Self {
        if region != DEFAULT_REGION {
            installation = format!("{installation} {region}");
        }
        KeyFile {
            table: data_dir.key_table(),
            age: data_dir.key_table_age(),
            installation,
        }
    }

    /// Reads it; nothing if there is none.
    pub fn read(&self, now: Instant) -> anyhow::Result<Option<Kept>> {
        let text = match fs::read_to_string(&self.table) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", self.table.display()))?,
        };
        let (heading, lines) = self
            .parse(&text)
            .with_context(|| format!("cannot use {}", self.table.display()))?;
        let current = match self.read_age(&heading.mark) {
            Some(age) => Current::once(
                // A younger table is not made older by what was written before it.
                age.current_at.max(heading.current_at),
                Duration::from_secs(age.reached_seconds),
                now,
            ),
            None => Current::once(heading.current_at, Duration::ZERO, now),
        };
        Ok(Some(Kept {
            rows: KeyRows {
                version: heading.version,
                rows: lines.into_iter().map(row).collect(),
            },
            current,
            mark: Mark(heading.mark),
        }))
    }

    fn parse(&self, text: &str) -> anyhow::Result<(Heading, Vec<Line>)> {
        let (heading, rest) = text.split_once('\n').context("it is cut off")?;
        let heading: Heading = serde_json::from_str(heading)
            .context("its first line is not what this version writes")?;
        ensure!(
            heading.format == FORMAT,
            "it has the format {}, and this version knows {FORMAT}",
            heading.format
        );
        ensure!(
            heading.installation == self.installation,
            "it is another installation's or region's: it was written with another secret.key or --region"
        );
        ensure!(heading.rest == hash(rest), "it is cut off or damaged");
        let lines = rest
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .context("a line is not what this version writes")?;
        Ok((heading, lines))
    }

    /// The age of the table with this mark, as far as it is known.
    fn read_age(&self, mark: &str) -> Option<Age> {
        let age: Age = serde_json::from_str(&fs::read_to_string(&self.age).ok()?).ok()?;
        (age.format == FORMAT && age.of == mark).then_some(age)
    }

    /// Puts this table in the place of the one that is there. Returns what its age is kept under.
    pub fn write(&self, rows: KeyRows, current: &Current) -> anyhow::Result<Mark> {
        let mut rest = String::new();
        for KeyRow { tunnel, open } in rows.rows {
            let Some(OpenTunnel { port, key, next }) = open else {
                continue;
            };
            let line = Line {
                tunnel,
                port,
                key,
                next,
            };
            rest.push_str(&serde_json::to_string(&line)?);
            rest.push('\n');
        }
        let mark = Mark(format!("{:032x}", rand::random::<u128>()));
        let heading = Heading {
            format: FORMAT,
            installation: self.installation.clone(),
            mark: mark.0.clone(),
            version: rows.version,
            current_at: current.wall(),
            rest: hash(&rest),
        };
        let heading = serde_json::to_string(&heading)? + "\n";
        replace(&self.table, &[heading.as_bytes(), rest.as_bytes()])?;
        Ok(mark)
    }

    /// Keeps how old that table is now.
    pub fn write_age(&self, of: &Mark, current: &Current) -> anyhow::Result<()> {
        let age = Age {
            format: FORMAT,
            of: of.0.clone(),
            current_at: current.wall(),
            reached_seconds: current.age(Moment::now()).as_secs(),
        };
        replace(&self.age, &[serde_json::to_string(&age)?.as_bytes()])
    }
}

fn row(line: Line) -> KeyRow {
    KeyRow {
        tunnel: line.tunnel,
        open: Some(OpenTunnel {
            port: line.port,
            key: line.key,
            next: line.next,
        }),
    }
}

fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

fn replace(path: &Path, parts: &[&[u8]]) -> anyhow::Result<()> {
    whole_file::replace(path, parts).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn kept(installation: &str, dir: &tempfile::TempDir) -> KeyFile {
        let data_dir = DataDir::open_or_create(dir.path()).unwrap();
        KeyFile::new(&data_dir, installation.to_owned(), DEFAULT_REGION)
    }

    fn rows() -> KeyRows {
        let row = |tunnel, next: Option<&str>| KeyRow {
            tunnel: TunnelId(tunnel),
            open: Some(OpenTunnel {
                port: 20_001,
                key: "ssh-ed25519 AAAA".to_owned(),
                next: next.map(str::to_owned),
            }),
        };
        KeyRows {
            version: 7,
            rows: vec![row(1, None), row(2, Some("ssh-rsa BBBB"))],
        }
    }

    #[test]
    fn what_was_written_is_read_and_is_its_owner_s_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = kept("ours", &dir);
        let now = Moment::now();
        assert!(file.read(now.steady).unwrap().is_none());
        let current = Current::at(now);
        let mark = file.write(rows(), &current).unwrap();
        let read = file.read(now.steady).unwrap().unwrap();
        assert_eq!((read.rows.version, read.rows.rows), (7, rows().rows));
        assert!(read.current.age(now) < Duration::from_secs(1));

        let reached = Current::once(current.wall(), Duration::from_secs(90), now.steady);
        file.write_age(&mark, &reached).unwrap();
        let read = file.read(now.steady).unwrap().unwrap();
        assert!(read.current.age(now) >= Duration::from_secs(90));
        for path in [&file.table, &file.age] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // The age of a former table says nothing of a new one.
        file.write(rows(), &current).unwrap();
        let read = file.read(now.steady).unwrap().unwrap();
        assert!(read.current.age(now) < Duration::from_secs(1));
    }

    #[test]
    fn a_file_that_is_cut_off_damaged_or_another_s_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = kept("ours", &dir);
        file.write(rows(), &Current::at(Moment::now())).unwrap();
        let text = fs::read_to_string(&file.table).unwrap();
        let refused = |file: &KeyFile| format!("{:#}", file.read(Instant::now()).unwrap_err());
        for at in [0, 10, text.len() / 2, text.len() - 1] {
            fs::write(&file.table, &text[..at]).unwrap();
            let told = refused(&file);
            assert!(
                told.contains("cut off") || told.contains("first line"),
                "{told}"
            );
        }
        fs::write(&file.table, text.replace("20001", "20002")).unwrap();
        assert!(refused(&file).contains("damaged"));
        fs::write(&file.table, text.replace("\"format\":1", "\"format\":2")).unwrap();
        assert!(refused(&file).contains("the format 2"));
        fs::write(&file.table, &text).unwrap();
        assert!(refused(&kept("theirs", &dir)).contains("another installation's"));
        file.read(Instant::now()).unwrap().unwrap();
    }
}
