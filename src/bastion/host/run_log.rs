//! The log of one run: every command with its status and time, the steps, and how it ended.
//!
//! Until the run has a folder of its own, the text is held in memory; a run that is rolled back takes
//! that folder with it, and [`RunLog::finish`] then saves the text where temporary files go. Secrets
//! are taken out before anything is kept.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::redaction::redact;
use super::{Command, CommandError, Output};

/// How many logs of one kind are kept.
const KEPT: usize = 10;
/// How many of the last lines of standard error stand in the log for each command.
const STDERR_LINES: usize = 20;
/// How many of each output's last lines, for commands of which everything is logged.
const ALL_LINES: usize = 500;

#[derive(Default)]
pub struct RunLog {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// What the run is: the beginning of the file's name. Nothing is logged before it is known.
    run: Option<String>,
    /// When it began, as it stands in the file's name.
    began: String,
    text: String,
    secrets: Vec<String>,
    file: Option<(PathBuf, File)>,
    /// Given by the user: stays, whatever happens to the run.
    is_chosen: bool,
    /// Whether the run has begun to change the host.
    has_changed: bool,
}

impl RunLog {
    /// Begins the log of a run, in `file` if the user chose one.
    pub fn begin(&self, run: &str, now: jiff::Timestamp, file: Option<&Path>) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.run = Some(run.to_owned());
        state.began = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        if let Some(path) = file {
            let opened = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(path)?;
            state.file = Some((path.to_owned(), opened));
            state.is_chosen = true;
        }
        Ok(())
    }

    /// What the run is, as it stands in the file's name.
    pub fn run(&self) -> String {
        self.state.borrow().run.clone().unwrap_or_default()
    }

    /// From here on this text is a secret.
    pub fn hide(&self, secret: &str) {
        if !secret.is_empty() {
            self.state.borrow_mut().secrets.push(secret.to_owned());
        }
    }

    /// From here on the run changes the host, and its log is worth keeping.
    pub fn changes_begin(&self) {
        self.state.borrow_mut().has_changed = true;
    }

    /// Adds a line, with its time.
    pub fn line(&self, now: jiff::Timestamp, text: &str) {
        let mut state = self.state.borrow_mut();
        if state.run.is_none() {
            return;
        }
        let text = redact(text, &state.secrets);
        let line = format!("{} {text}\n", now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"));
        state.text.push_str(&line);
        if let Some((_, file)) = &mut state.file {
            // A full disk must not end a run on account of its log.
            let _ = file.write_all(line.as_bytes());
        }
    }

    pub fn command(
        &self,
        now: jiff::Timestamp,
        command: &Command,
        shown: &str,
        result: &Result<Output, CommandError>,
        took: Duration,
    ) {
        let took = took.as_secs_f64();
        let mut text = match result {
            Ok(output) => format!("$ {shown} (status {}, {took:.2} s)", output.status),
            // The command stands in the error's own words.
            Err(error) => format!("$ {shown} ({took:.2} s): {error}"),
        };
        if let Ok(output) = result {
            let (stdout, stderr) = if command.logged {
                (ALL_LINES, ALL_LINES)
            } else {
                (0, STDERR_LINES)
            };
            text.push_str(&last_lines(&output.stdout, stdout));
            text.push_str(&last_lines(&output.stderr, stderr));
        }
        self.line(now, &text);
    }

    /// Gives the log its file in this folder, and removes the oldest ones of its kind. A log that has
    /// a file already keeps it.
    pub fn keep_in(&self, folder: &Path) {
        let mut state = self.state.borrow_mut();
        let Some(run) = state.run.clone().filter(|_| state.file.is_none()) else {
            return;
        };
        remove_oldest(folder, &run);
        let path = folder.join(format!("{run}-{}.log", state.began));
        state.file = write_new(&path, &state.text).ok().map(|file| (path, file));
    }

    /// The log's file, if it has one that is still there.
    pub fn path(&self) -> Option<PathBuf> {
        let state = self.state.borrow();
        let (path, _) = state.file.as_ref()?;
        path.exists().then(|| path.clone())
    }

    /// Makes sure that the log of a run that has changed something outlives it, and returns where it is.
    pub fn finish(&self) -> Option<PathBuf> {
        if let Some(path) = self.path() {
            return Some(path);
        }
        let state = self.state.borrow();
        let run = state.run.as_ref().filter(|_| state.has_changed)?;
        // A name that nobody can have guessed, made for this user alone.
        let mut saved = tempfile::Builder::new()
            .prefix(&format!("holistics-tunnel-{run}-{}-", state.began))
            .suffix(".log")
            .tempfile()
            .ok()?;
        saved.write_all(state.text.as_bytes()).ok()?;
        saved.keep().ok().map(|(_, path)| path)
    }
}

/// The last lines of an output, below the command's. Of what was written over itself, as progress is, its
/// last state.
fn last_lines(output: &str, count: usize) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let mut text = String::new();
    for line in &lines[lines.len().saturating_sub(count)..] {
        let line = line.trim_end();
        // Writing to a string does not fail.
        let _ = write!(text, "\n    {}", line.rsplit('\r').next().unwrap_or(line));
    }
    text
}

fn write_new(path: &Path, text: &str) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Whether this is the name of a log that [`RunLog::keep_in`] wrote.
fn is_log_of(run: &str, name: &str) -> bool {
    name.strip_prefix(run)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix("Z.log"))
        .is_some_and(|time| time.chars().all(|c| c.is_ascii_digit() || c == 'T'))
}

/// Leaves room for one more. What cannot be removed is no reason to stop.
fn remove_oldest(folder: &Path, run: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut logs: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| is_log_of(run, &entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    // The time in the name sorts them.
    logs.sort();
    let surplus = (logs.len() + 1).saturating_sub(KEPT);
    for old in &logs[..surplus] {
        let _ = fs::remove_file(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

    fn output(status: i32, stderr: &str) -> Result<Output, CommandError> {
        Ok(Output {
            status,
            stdout: String::new(),
            stderr: stderr.to_owned(),
        })
    }

    #[test]
    fn a_log_holds_commands_and_no_secrets_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = RunLog::default();
        log.begin("setup", NOW, None).unwrap();
        log.hide("open-sesame");
        let said = output(7, "Authorization: Bearer abc\nopen-sesame is wrong\n");
        log.command(
            NOW,
            &Command::new("curl"),
            "curl -u open-sesame",
            &said,
            Duration::from_millis(1250),
        );
        log.keep_in(folder.path());
        log.line(NOW, "the end");
        let path = log.finish().unwrap();
        assert_eq!(
            path,
            folder.path().join("setup-19700101T000000Z.log"),
            "its name"
        );
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("status 7, 1.25 s"), "{text}");
        assert!(text.contains("the end"), "{text}");
        assert!(
            !text.contains("open-sesame") && !text.contains("abc"),
            "{text}"
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_a_package_manager_both_outputs_are_logged_without_secrets_when_it_succeeds_too() {
        let folder = tempfile::tempdir().unwrap();
        let log = RunLog::default();
        log.begin("setup", NOW, None).unwrap();
        let said = Ok(Output {
            status: 0,
            stdout: "(Reading database ... 5%\r(Reading database ... done\nGet:1 http://ada:x@mirror.example/a\n".to_owned(),
            stderr: "W: a warning\n".to_owned(),
        });
        log.command(
            NOW,
            &Command::new("apt-get").logged(),
            "apt-get",
            &said,
            Duration::ZERO,
        );
        log.command(NOW, &Command::new("id"), "id", &said, Duration::ZERO);
        log.keep_in(folder.path());
        let text = fs::read_to_string(log.finish().unwrap()).unwrap();
        assert_eq!(text.matches("W: a warning").count(), 2, "{text}");
        assert_eq!(
            text.matches("(Reading database ... done").count(),
            1,
            "{text}"
        );
        assert!(
            text.contains("@mirror.example/a") && !text.contains("ada:x"),
            "{text}"
        );
        assert!(!text.contains("5%"), "{text}");
    }

    #[test]
    fn the_ten_newest_logs_are_kept_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let others = ["tunnel-7.log", "setup-notes.log", "autossh-build.log"];
        for other in others {
            fs::write(folder.path().join(other), "").unwrap();
        }
        for second in 0..14 {
            let log = RunLog::default();
            let began = jiff::Timestamp::from_second(second).unwrap();
            log.begin("setup", began, None).unwrap();
            log.keep_in(folder.path());
        }
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let logs: Vec<&String> = names.iter().filter(|name| name.contains("1970")).collect();
        assert_eq!(logs.len(), KEPT);
        assert_eq!(logs[0], "setup-19700101T000004Z.log");
        for other in others {
            assert!(names.iter().any(|name| name == other), "{other}");
        }
    }

    #[test]
    fn a_log_whose_folder_went_is_saved_and_one_of_a_run_that_changed_nothing_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let log = RunLog::default();
        log.begin("setup", NOW, None).unwrap();
        log.line(NOW, "looked");
        assert_eq!(log.finish(), None);

        log.changes_begin();
        log.keep_in(folder.path());
        folder.close().unwrap();
        let saved = log.finish().unwrap();
        assert!(fs::read_to_string(&saved).unwrap().contains("looked"));
        let mode = fs::metadata(&saved).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(saved).unwrap();
    }
}
