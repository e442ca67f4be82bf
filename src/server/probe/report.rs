//! How the stages went, in words that can be shown: without the password, and not longer than a screen.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::timeout;

use crate::protocol::TestStage;

/// How long each stage may take. A test with one slow stage stays below the half minute after which
/// proxies give up.
const STAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// More than any database has to say about a login.
const LONGEST_DETAIL: usize = 600;

/// Why a stage failed, and what to do.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) detail: String,
    pub(super) remedy: String,
}

impl Failure {
    pub(super) fn new(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Failure {
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }
}

/// A stage failed; the report has it.
pub(super) struct Stopped;

/// The stages so far.
pub(super) struct Report<'a> {
    pub(super) stages: Vec<TestStage>,
    password: &'a str,
}

impl<'a> Report<'a> {
    pub(super) fn new(password: &'a str) -> Self {
        Report {
            stages: Vec::new(),
            password,
        }
    }

    /// Runs one stage within [`STAGE_TIMEOUT`] and writes down how it went.
    pub(super) async fn stage<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, Failure>>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<T, Stopped> {
        let started = Instant::now();
        // A driver may fall over an answer that no database gives. That is a result as well, and the
        // future, which is all that it has touched, is not used again.
        let work = AssertUnwindSafe(work).catch_unwind();
        let result = match timeout(STAGE_TIMEOUT, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(nonsense()),
            Err(_) => Err(too_slow()),
        };
        let (ok, detail, remedy) = match &result {
            Ok(value) => (true, describe(value), None),
            Err(failure) => (false, failure.detail.clone(), Some(failure.remedy.clone())),
        };
        self.stages.push(TestStage {
            name: name.to_owned(),
            ok,
            milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            detail: self.shown(&detail),
            remedy: remedy.map(|remedy| self.shown(&remedy)),
        });
        result.map_err(|_| Stopped)
    }

    /// What may be shown of a text that a driver or a database wrote.
    pub(super) fn shown(&self, text: &str) -> String {
        let text = without(self.password, text);
        let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let one_line = words.join(" ");
        match one_line.char_indices().nth(LONGEST_DETAIL) {
            Some((end, _)) => format!("{}…", &one_line[..end]),
            None => one_line,
        }
    }
}

fn too_slow() -> Failure {
    Failure::new(
        format!("no answer within {} s", STAGE_TIMEOUT.as_secs()),
        "Look whether host and port belong to such a database, whether a firewall on the way to the \
         database drops packets, and whether the database is overloaded.",
    )
}

fn nonsense() -> Failure {
    Failure::new(
        "the answer makes no sense in this database's protocol",
        "Look whether host and port belong to such a database.",
    )
}

fn without(password: &str, text: &str) -> String {
    if password.is_empty() {
        return text.to_owned();
    }
    text.replace(password, "[password]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_taken_out_of_what_others_write() {
        let report = Report::new("hunter2");
        assert_eq!(report.shown("bad hunter2!"), "bad [password]!");
        assert_eq!(Report::new("").shown("as it is"), "as it is");
    }

    #[test]
    fn what_others_write_is_shown_in_one_line_of_bounded_length() {
        let report = Report::new("hunter2");
        assert_eq!(report.shown("no\n\r\n\tentry\x1b[2J"), "no entry [2J");
        let shown = report.shown(&"é".repeat(10_000));
        assert_eq!(shown.chars().count(), LONGEST_DETAIL + 1);
    }

    #[tokio::test]
    async fn a_driver_that_falls_over_an_answer_is_a_failed_stage() {
        let mut report = Report::new("hunter2");
        let work = async {
            let answer: &[u8] = &[];
            Ok(answer[0])
        };
        let result = report.stage("login", work, u8::to_string).await;
        assert!(result.is_err());
        assert!(report.stages[0].detail.contains("makes no sense"));
    }
}
