//! How often somebody may try to sign in: by address and by account, in a table of bounded size.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::server::domain::peer_network::PeerNetwork;

/// Attempts are counted from the first one for this long.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// Entries in the table. When it is full, the oldest gives way.
const ENTRIES: usize = 10_000;

/// Failed attempts for one account in a window.
const PER_ACCOUNT: u32 = 10;

/// Failed attempts from one address in a window: several people may share one.
const PER_ADDRESS: u32 = 30;

/// Whose attempts are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Address(PeerNetwork),
    Account(String),
}

impl Who {
    fn limit(&self) -> u32 {
        match self {
            Who::Address(_) => PER_ADDRESS,
            Who::Account(_) => PER_ACCOUNT,
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
    pub fn attempt(&self, address: IpAddr, account: &str) -> Result<(), Duration> {
        self.attempt_at(Instant::now(), &who(address, account))
    }

    /// Forgets the attempts of who has just signed in.
    pub fn succeeded(&self, address: IpAddr, account: &str) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for who in who(address, account) {
            table.remove(&who);
        }
    }

    fn attempt_at(&self, now: Instant, all: &[Who; 2]) -> Result<(), Duration> {
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

fn who(address: IpAddr, account: &str) -> [Who; 2] {
    [
        Who::Address(PeerNetwork::of(address)),
        Who::Account(account.chars().take(64).collect()),
    ]
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

    #[test]
    fn an_account_is_closed_after_ten_attempts_and_open_again_after_a_quarter_of_an_hour() {
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
    fn a_sign_in_that_succeeds_begins_anew() {
        let limit = RateLimit::default();
        for _ in 0..40 {
            assert_eq!(limit.attempt(address(1), "admin"), Ok(()));
            limit.succeeded(address(1), "admin");
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
