//! Lines for the log that a peer can cause at will: a few of each kind, and then a number.
//!
//! A line is counted against its kind and who causes it, so that what one does hides nothing of
//! another's: a stranger is known by his network, a session by its key, since many bastions may stand
//! behind one address.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::limits::{LINES_APART, LINES_AT_ONCE, LINES_PER_SECOND, LINES_TOLD};
use super::pace::Pace;
use crate::protocol::TunnelId;
use crate::server::domain::peer_network::PeerNetwork;

/// What kind of line it is, in the words in which the log tells of those that were left out.
pub(super) type Kind = &'static str;

/// Who causes a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Network(PeerNetwork),
    /// By its fingerprint.
    Key(String),
    Tunnel(TunnelId),
    /// This server itself, or those for whom there is no room in the table, together.
    Others,
}

impl From<SocketAddr> for Who {
    fn from(peer: SocketAddr) -> Self {
        Who::Network(PeerNetwork::of(peer.ip()))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Network(network) => network.fmt(f),
            Who::Key(fingerprint) => f.write_str(fingerprint),
            Who::Tunnel(tunnel) => write!(f, "tunnel {tunnel}"),
            Who::Others => f.write_str("others"),
        }
    }
}

type Subject = (Kind, Who);

struct Entry {
    pace: Pace,
    left_out: u64,
    /// Since when lines have been left out.
    since: Instant,
}

/// How many lines there may be still.
#[derive(Default)]
pub(super) struct LogLines(Mutex<HashMap<Subject, Entry>>);

/// Lines that were left out before the one that is written; nothing if there are none.
#[derive(Debug, PartialEq)]
pub(super) struct LeftOut(Option<(u64, Duration)>);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some((lines, time)) => write!(
                f,
                " (and {} more like this in {} s)",
                grouped(lines),
                time.as_secs().max(1)
            ),
        }
    }
}

/// 20917 as 20,917.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl LogLines {
    /// Whether another line of this kind about these may be written; with what it should end.
    pub(super) fn may(&self, kind: Kind, who: impl Into<Who>) -> Option<LeftOut> {
        self.may_at(kind, who, Instant::now())
    }

    fn may_at(&self, kind: Kind, who: impl Into<Who>, now: Instant) -> Option<LeftOut> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut subject = (kind, who.into());
        if table.len() >= LINES_APART && !table.contains_key(&subject) {
            subject.1 = Who::Others;
        }
        let entry = table.entry(subject).or_insert_with(|| Entry {
            pace: Pace::new(LINES_AT_ONCE, LINES_PER_SECOND, now),
            left_out: 0,
            since: now,
        });
        if entry.pace.try_take(now) {
            return Some(entry.tell(now));
        }
        if entry.left_out == 0 {
            entry.since = now;
        }
        entry.left_out += 1;
        None
    }

    /// Takes out what has been left out and not told, and forgets whoever has been quiet.
    fn untold(&self, now: Instant) -> Vec<(Subject, LeftOut)> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut untold = Vec::new();
        table.retain(|subject, entry| {
            if entry.left_out > 0 {
                untold.push((subject.clone(), entry.tell(now)));
                return true;
            }
            !entry.pace.is_full(now)
        });
        untold
    }

    /// Tells from time to time what was left out, so that the end of a flood is told, too.
    pub(super) async fn tell(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LINES_TOLD) => {}
            }
            for ((kind, from), left_out) in self.untold(Instant::now()) {
                info!(%from, "{kind}{left_out}");
            }
        }
    }
}

impl Entry {
    fn tell(&mut self, now: Instant) -> LeftOut {
        match std::mem::take(&mut self.left_out) {
            0 => LeftOut(None),
            lines => LeftOut(Some((lines, now.saturating_duration_since(self.since)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = "a login was refused";

    fn peer(number: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from_bits(number), 1).into()
    }

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let lines = LogLines::default();
        let start = Instant::now();
        let written = (0..20_922)
            .filter(|_| lines.may_at(KIND, peer(1), start).is_some())
            .count();
        assert_eq!(written, 5);
        let later = start + Duration::from_secs(45);
        let next = lines.may_at(KIND, peer(1), later).unwrap();
        assert_eq!(next.to_string(), " (and 20,917 more like this in 45 s)");
    }

    #[test]
    fn what_one_peer_does_hides_nothing_of_another_s_nor_of_another_kind() {
        let lines = LogLines::default();
        let now = Instant::now();
        for _ in 0..100 {
            lines.may_at(KIND, peer(1), now);
        }
        assert_eq!(lines.may_at(KIND, peer(2), now), Some(LeftOut(None)));
        assert!(lines.may_at("another kind", peer(1), now).is_some());
    }

    #[test]
    fn the_end_of_a_flood_is_told_once_and_then_forgotten() {
        let lines = LogLines::default();
        let start = Instant::now();
        for _ in 0..100 {
            lines.may_at(KIND, peer(1), start);
        }
        let told = lines.untold(start + Duration::from_secs(45));
        let [((KIND, Who::Network(_)), left_out)] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(left_out.to_string(), " (and 95 more like this in 45 s)");
        assert!(lines.untold(start + Duration::from_secs(90)).is_empty());
        lines.untold(start + Duration::from_secs(3_600));
        assert!(lines.0.lock().unwrap().is_empty());
    }

    #[test]
    fn however_many_peers_there_are_the_table_stays_small() {
        let lines = LogLines::default();
        let now = Instant::now();
        for number in 0..100_000 {
            lines.may_at(KIND, peer(number), now);
        }
        assert!(lines.0.lock().unwrap().len() <= LINES_APART + 1);
    }
}
