//! How often somebody may try to sign in, in a table of bounded size.
//!
//! A browser that has signed in to an account before is counted by itself alone. All others are counted
//! by their address and, so that many addresses together cannot guess without end, by the account:
//! whoever guesses at an account slows down other strangers, and never those who know the password
//! and have used it in this browser. In a new browser a sign-in link lets them in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::domain::peer_network::PeerNetwork;

/// Attempts are counted from the first one for this long.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// Entries in the table. When it is full, the oldest gives way.
const ENTRIES: usize = 10_000;

/// Failed attempts for one account in a window, by a browser that it knows or by all strangers.
const PER_ACCOUNT: u32 = 10;

/// Failed attempts from one address in a window: several people may share one.
const PER_ADDRESS: u32 = 30;

/// Who tries.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// A browser that has signed in to the account before, by its number.
    Known(&'a str),
    /// Anybody else, who comes from this address and names this account.
    Stranger(IpAddr, &'a str),
}

impl Asker<'_> {
    /// Under what the attempts are counted.
    fn who(self) -> Vec<Who> {
        match self {
            Asker::Known(browser) => vec![Who::Browser(browser.to_owned())],
            Asker::Stranger(address, account) => vec![
                Who::Address(PeerNetwork::of(address)),
                Who::Account(account.chars().take(64).collect()),
            ],
        }
    }
}

/// Whose attempts are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Browser(String),
    Address(PeerNetwork),
    Account(String),
}

impl Who {
    fn limit(&self) -> u32 {
        match self {
            Who::Address(_) => PER_ADDRESS,
            Who::Browser(_) | Who::Account(_) => PER_ACCOUNT,
        }
    }
}

#[derive(Debug)]
struct Attempts {
    count: u32,
    since: Instant,
}

/// The table.
#[derive(Debug, Default)]
pub struct RateLimit(Mutex<HashMap<Who, Attempts>>);

impl RateLimit {
    /// Counts an attempt before it is made, so that many at once cannot pass together.
    ///
    /// # Errors
    /// There were too many; how long to wait.
    pub fn attempt(&self, asker: Asker<'_>) -> Result<(), Duration> {
        self.attempt_at(Instant::now(), &asker.who())
    }

    /// Forgets the attempts of who has just signed in.
    pub fn succeeded(&self, asker: Asker<'_>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for who in asker.who() {
            table.remove(&who);
        }
    }

    fn attempt_at(&self, now: Instant, all: &[Who]) -> Result<(), Duration> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for who in all {
            if let Some(attempts) = table.get(who) {
                let age = now.saturating_duration_since(attempts.since);
                if age < WINDOW && attempts.count >= who.limit() {
                    return Err(WINDOW - age);
                }
            }
        }
        for who in all {
            make_room(&mut table, now, who);
            let attempts = table.entry(who.clone()).or_insert(Attempts {
                count: 0,
                since: now,
            });
            if now.saturating_duration_since(attempts.since) >= WINDOW {
                *attempts = Attempts {
                    count: 0,
                    since: now,
                };
            }
            attempts.count += 1;
        }
        Ok(())
    }
}

fn make_room(table: &mut HashMap<Who, Attempts>, now: Instant, who: &Who) {
    if table.len() < ENTRIES || table.contains_key(who) {
        return;
    }
    table.retain(|_, attempts| now.saturating_duration_since(attempts.since) < WINDOW);
    if table.len() >= ENTRIES {
        let oldest = table.iter().min_by_key(|(_, attempts)| attempts.since);
        if let Some(oldest) = oldest.map(|(who, _)| who.clone()) {
            table.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn who(address: IpAddr, account: &str) -> Vec<Who> {
        Asker::Stranger(address, account).who()
    }

    #[test]
    fn strangers_may_guess_ten_times_at_an_account_and_again_after_a_quarter_of_an_hour() {
        let limit = RateLimit::default();
        let start = Instant::now();
        for last in 0..10 {
            let all = who(address(last), "admin");
            assert_eq!(limit.attempt_at(start, &all), Ok(()));
        }
        let all = who(address(99), "admin");
        assert_eq!(limit.attempt_at(start, &all), Err(WINDOW));
        assert_eq!(limit.attempt_at(start, &who(address(99), "other")), Ok(()));
        assert_eq!(limit.attempt_at(start + WINDOW, &all), Ok(()));
    }

    #[test]
    fn a_browser_that_is_known_is_counted_by_itself_alone() {
        let limit = RateLimit::default();
        for _ in 0..40 {
            let _ = limit.attempt(Asker::Stranger(address(1), "admin"));
        }
        for _ in 0..10 {
            assert_eq!(limit.attempt(Asker::Known("hts_1")), Ok(()));
        }
        assert!(limit.attempt(Asker::Known("hts_1")).is_err());
        assert_eq!(limit.attempt(Asker::Known("hts_2")), Ok(()));
    }

    #[test]
    fn a_sign_in_that_succeeds_begins_anew() {
        let limit = RateLimit::default();
        for _ in 0..40 {
            let stranger = Asker::Stranger(address(1), "admin");
            assert_eq!(limit.attempt(stranger), Ok(()));
            limit.succeeded(stranger);
        }
    }

    #[test]
    fn the_table_does_not_grow_beyond_its_bound() {
        let limit = RateLimit::default();
        let start = Instant::now();
        for number in 0..6000 {
            let all = [
                Who::Account(format!("{number}")),
                Who::Account(format!("again {number}")),
            ];
            assert_eq!(limit.attempt_at(start, &all), Ok(()));
        }
        assert_eq!(limit.0.lock().unwrap().len(), ENTRIES);
    }
}
