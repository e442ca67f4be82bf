//! How the stages went, in words that can be shown: without the password, and not longer than a screen.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::time::timeout;

use super::allowance::{Allowance, MOST_KIB};
use crate::protocol::{ConnectionTest, TestStage};

/// How long each stage may take. A test with one slow stage stays below the half minute after which
/// proxies give up.
const STAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// More than any database has to say about a login.
const LONGEST_DETAIL: usize = 600;
/// The longest word that a database's sentences are made of.
const LONGEST_WORD: usize = 16;

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
    /// What is taken out of what others write.
    secret: Option<&'a str>,
    allowance: Allowance,
    tell: &'a (dyn Fn(&TestStage) + Sync),
}

impl<'a> Report<'a> {
    /// One that tells of each stage once it is over.
    pub(super) fn new(
        login: &'a ConnectionTest,
        allowance: Allowance,
        tell: &'a (dyn Fn(&TestStage) + Sync),
    ) -> Self {
        Report {
            stages: Vec::new(),
            secret: secret(login),
            allowance,
            tell,
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
            // Whatever the driver makes of the end of its connection, this is why it ended.
            Ok(Ok(Err(_)) | Err(_)) if self.allowance.is_spent() => Err(too_much()),
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(nonsense()),
            Err(_) => Err(too_slow()),
        };
        let (ok, detail, remedy) = match &result {
            Ok(value) => (true, describe(value), None),
            Err(failure) => (false, failure.detail.clone(), Some(failure.remedy.clone())),
        };
        let stage = TestStage {
            name: name.to_owned(),
            ok,
            milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            detail: self.shown(&detail),
            remedy: remedy.map(|remedy| self.shown(&remedy)),
        };
        (self.tell)(&stage);
        self.stages.push(stage);
        result.map_err(|_| Stopped)
    }

    /// What may be shown of a text that a driver or a database wrote.
    pub(super) fn shown(&self, text: &str) -> String {
        let text = match self.secret {
            Some(secret) => text.replace(secret, "[password]"),
            None => text.to_owned(),
        };
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
        "Check whether host and port belong to such a database, whether a firewall on the way to the \
         database drops packets, and whether the database is overloaded.",
    )
}

fn nonsense() -> Failure {
    Failure::new(
        "the answer makes no sense in this database's protocol",
        "Check whether host and port belong to such a database.",
    )
}

fn too_much() -> Failure {
    Failure::new(
        format!("the other side sends without an end: the test ended after {MOST_KIB} KiB"),
        "Check whether host and port belong to such a database.",
    )
}

/// The password, where it can be taken out without telling it. It may be a saved one, which whoever asks for the test
/// does not know: he must not learn from a gap that what he sent was right, nor which word of a well-known
/// sentence is missing.
fn secret(login: &ConnectionTest) -> Option<&str> {
    let password = login.password.as_str();
    // Some databases fold the names that they repeat.
    let folded = password.to_lowercase();
    let is_sent = |text: &str| text.to_lowercase().contains(&folded);
    let stays = password.is_empty()
        || is_sent(&login.database)
        || is_sent(&login.username)
        || is_ordinary(password);
    (!stays).then_some(password)
}

/// Whether a password is like a word or a number that a database may write by chance.
fn is_ordinary(password: &str) -> bool {
    password.chars().count() <= LONGEST_WORD
        && (password.chars().all(char::is_alphabetic)
            || password.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(database: &str, password: &str) -> ConnectionTest {
        ConnectionTest {
            database: database.to_owned(),
            username: "reader".to_owned(),
            password: password.to_owned(),
            tls: None,
        }
    }

    fn shown(database: &str, password: &str, text: &str) -> String {
        Report::new(&login(database, password), Allowance::default(), &|_| ()).shown(text)
    }

    #[test]
    fn the_password_is_taken_out_of_what_others_write() {
        assert_eq!(shown("shop", "hunter2", "bad hunter2!"), "bad [password]!");
        assert_eq!(shown("shop", "", "as it is"), "as it is");
    }

    #[test]
    fn what_the_caller_sent_comes_back_as_it_is_whether_or_not_it_is_the_password() {
        for guess in ["hunter2", "hunter3", "HUNTER2", "a hunter2 in more"] {
            for said in [guess.to_owned(), guess.to_lowercase()] {
                let said = format!("no database {said}");
                assert_eq!(shown(guess, "hunter2", &said), said);
            }
        }
    }

    #[test]
    fn a_password_that_is_a_word_leaves_no_gap_in_a_well_known_sentence() {
        for (password, said) in [
            ("password", "password authentication failed for user"),
            ("authentication", "password authentication failed for user"),
            ("15.3", "PostgreSQL 15.3 on x86_64"),
            ("1", "SELECT 1 was answered"),
        ] {
            assert_eq!(shown("shop", password, said), said);
        }
    }

    #[test]
    fn what_others_write_is_shown_in_one_line_of_bounded_length() {
        let shown = |text: &str| shown("shop", "hunter2", text);
        assert_eq!(shown("no\n\r\n\tentry\x1b[2J"), "no entry [2J");
        let shown = shown(&"é".repeat(10_000));
        assert_eq!(shown.chars().count(), LONGEST_DETAIL + 1);
    }

    #[tokio::test]
    async fn a_driver_that_falls_over_an_answer_is_a_failed_stage() {
        let login = login("shop", "hunter2");
        let mut report = Report::new(&login, Allowance::default(), &|_| ());
        let work = async {
            let answer: &[u8] = &[];
            Ok(answer[0])
        };
        let result = report.stage("login", work, u8::to_string).await;
        assert!(result.is_err());
        assert!(report.stages[0].detail.contains("makes no sense"));
    }
}
