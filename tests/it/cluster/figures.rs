//! What was missed, over all turns, as a line that can be compared with other runs.

use std::time::Duration;

use crate::support::figures::say;
use crate::support::rows::Missed;

/// How often each fault is brought about: `CLUSTER_TURNS`, or three times.
pub fn turns() -> usize {
    number_from("CLUSTER_TURNS").unwrap_or(3)
}

/// How long PostgreSQL is away: `CLUSTER_OUTAGE` in seconds, or ten minutes.
pub fn outage() -> Duration {
    Duration::from_secs(number_from("CLUSTER_OUTAGE").unwrap_or(600) as u64)
}

fn number_from(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// What a fault cost, as often as it was brought about.
pub struct Cost {
    fault: &'static str,
    concerned: Vec<Missed>,
    others: Vec<Missed>,
}

impl Cost {
    /// Nothing yet.
    pub fn of(fault: &'static str) -> Self {
        Cost {
            fault,
            concerned: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Adds a turn: what each tunnel missed, and which of them are those that the fault was about.
    pub fn add(&mut self, missed: Vec<Missed>, concerned: &[String]) {
        for one in missed {
            if concerned.contains(&one.name) {
                self.concerned.push(one);
            } else {
                self.others.push(one);
            }
        }
    }

    /// Says it.
    pub fn say(&self) {
        for (which, missed) in [("concerned", &self.concerned), ("others", &self.others)] {
            if missed.is_empty() {
                continue;
            }
            let (median, worst) = gaps(missed);
            let lost: usize = missed.iter().map(|one| one.lost).sum();
            let failed: usize = missed.iter().map(|one| one.failed).sum();
            say(&format!(
                "{}, tunnels {which} ({} of all turns): without rows {:.2} s at the median, {:.2} s at worst; \
                 {lost} connections lost, {failed} new ones failed",
                self.fault,
                missed.len(),
                median.as_secs_f64(),
                worst.as_secs_f64(),
            ));
        }
    }

    /// The longest time without rows through any tunnel.
    pub fn worst(&self) -> Duration {
        let all = self.concerned.iter().chain(&self.others);
        all.map(|one| one.gap).max().unwrap_or_default()
    }

    /// How many lasting connections were lost.
    pub fn lost(&self) -> usize {
        let all = self.concerned.iter().chain(&self.others);
        all.map(|one| one.lost).sum()
    }
}

fn gaps(missed: &[Missed]) -> (Duration, Duration) {
    let mut gaps: Vec<_> = missed.iter().map(|one| one.gap).collect();
    gaps.sort_unstable();
    (gaps[gaps.len() / 2], gaps[gaps.len() - 1])
}

/// Says what the vendor was shown, a change to a line.
pub fn say_shown(fault: &str, changes: &[String]) {
    say(&format!("{fault}, shown meanwhile: {}", changes.join("; ")));
}

/// How many tunnels return at once: `CLUSTER_MANY`, or two thousand.
pub fn many() -> usize {
    number_from("CLUSTER_MANY").unwrap_or(2_000)
}
