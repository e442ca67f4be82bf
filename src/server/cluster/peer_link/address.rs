//! Where a node is: its name is looked up seldom, never for long, and never twice at once.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::timeout;

/// For how long an answer is as good as a new one.
const REMEMBERED: Duration = Duration::from_secs(10);

/// How long is waited for an answer.
const LOOKUP_TIME: Duration = Duration::from_millis(500);

/// How a name becomes addresses.
type Lookup = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// A node's address as it was told, `HOST:PORT`.
pub(super) struct Address(Arc<Name>);

struct Name {
    text: String,
    lookup: Lookup,
    found: watch::Sender<Found>,
    /// The system may need much longer than anybody waits for it, and takes a thread meanwhile.
    is_looked_up: AtomicBool,
}

/// What is known of a name.
#[derive(Default)]
struct Found {
    /// Those of the last answer that there was.
    addresses: Vec<SocketAddr>,
    /// When it came; none if it has proved to be wrong.
    at: Option<Instant>,
    /// Why there was none the last time.
    failed: Option<String>,
}

impl Address {
    pub(super) fn new(text: &str) -> Self {
        Address::looked_up_by(text, |text| {
            Box::pin(async move { Ok(lookup_host(text).await?.collect()) })
        })
    }

    fn looked_up_by(text: &str, lookup: Lookup) -> Self {
        Address(Arc::new(Name {
            text: text.to_owned(),
            lookup,
            found: watch::Sender::default(),
            is_looked_up: AtomicBool::new(false),
        }))
    }

    /// What it stands for now; if nobody says so in time, what it stood for before.
    ///
    /// # Errors
    /// It stands for nothing, or nobody has ever said what for.
    pub(super) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(literal) = self.0.text.parse() {
            return Ok(vec![literal]);
        }
        let mut answers = self.0.found.subscribe();
        if let Some(recent) = answers.borrow().recent_at(Instant::now()) {
            return Ok(recent);
        }
        self.look_up();
        // The sender lives as long as this.
        let _ = timeout(LOOKUP_TIME, answers.changed()).await;
        answers.borrow().last(&self.0.text)
    }

    /// Nobody has answered there: the name may stand for something else by now.
    pub(super) fn doubt(&self) {
        self.0.found.send_modify(|found| found.at = None);
    }

    /// Asks the system, unless that is being done.
    fn look_up(&self) {
        let name = Arc::clone(&self.0);
        if name.is_looked_up.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::spawn(async move {
            let answer = (name.lookup)(name.text.clone()).await;
            name.is_looked_up.store(false, Ordering::Release);
            name.found.send_modify(|found| found.take(answer));
        });
    }
}

impl Found {
    fn take(&mut self, answer: io::Result<Vec<SocketAddr>>) {
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                *self = Found {
                    addresses,
                    at: Some(Instant::now()),
                    failed: None,
                };
            }
            Ok(_) => self.failed = Some("it has no address".to_owned()),
            Err(error) => self.failed = Some(error.to_string()),
        }
    }

    fn recent_at(&self, now: Instant) -> Option<Vec<SocketAddr>> {
        let is_recent = self
            .at
            .is_some_and(|at| now.duration_since(at) < REMEMBERED);
        is_recent.then(|| self.addresses.clone())
    }

    fn last(&self, text: &str) -> io::Result<Vec<SocketAddr>> {
        if !self.addresses.is_empty() {
            return Ok(self.addresses.clone());
        }
        Err(match &self.failed {
            Some(why) => io::Error::other(format!("{text} cannot be looked up: {why}")),
            None => io::Error::new(
                ErrorKind::TimedOut,
                format!(
                    "{text} cannot be looked up within {} ms",
                    LOOKUP_TIME.as_millis()
                ),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::join_all;

    use super::*;

    fn there(last: u8) -> Vec<SocketAddr> {
        vec![([192, 0, 2, last], 7).into()]
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_many_and_again_when_it_may_have_changed() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let address = Address::looked_up_by("node:7", |_| {
            let number = ASKED.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move { Ok(there(number as u8)) })
        });
        for found in join_all((0..512).map(|_| address.resolve())).await {
            assert_eq!(found.unwrap(), there(1));
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        address.doubt();
        assert_eq!(address.resolve().await.unwrap(), there(2));

        let found = address.0.found.borrow();
        let at = found.at.unwrap();
        assert!(found.recent_at(at + REMEMBERED / 2).is_some());
        assert!(found.recent_at(at + REMEMBERED).is_none());
    }

    #[tokio::test]
    async fn names_that_nobody_answers_for_cost_one_question_and_what_was_known_counts_on() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let address = Address::looked_up_by("node:7", |_| {
            Box::pin(async {
                if ASKED.fetch_add(1, Ordering::Relaxed) > 0 {
                    std::future::pending::<()>().await;
                }
                Ok(there(1))
            })
        });
        assert_eq!(address.resolve().await.unwrap(), there(1));
        address.doubt();
        let started = Instant::now();
        for found in join_all((0..512).map(|_| address.resolve())).await {
            assert_eq!(found.unwrap(), there(1));
        }
        assert!(started.elapsed() >= LOOKUP_TIME);
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_name_that_stands_for_nothing_says_why() {
        let address = Address::looked_up_by("node:7", |_| {
            Box::pin(async { Err(io::Error::other("no such host")) })
        });
        let error = address.resolve().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "node:7 cannot be looked up: no such host"
        );
        let silent = Address::looked_up_by("node:7", |_| Box::pin(std::future::pending()));
        let error = silent.resolve().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let literal = Address::new("[2001:db8::1]:7");
        let literal = literal.resolve().await.unwrap();
        assert_eq!(literal, ["[2001:db8::1]:7".parse().unwrap()]);
    }
}
