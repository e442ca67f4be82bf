//! The table of keys that a tunnel node answers logins from. It is in memory: no login waits for the database.
//!
//! Whoever keeps it current ([`key_keeper`](super::key_keeper)) puts into it what has changed, and says whether the
//! database can be asked. While it cannot, the keys that are known go on opening their tunnels for a bounded time.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::key_age::{Current, Moment};
use crate::protocol::TunnelId;
use crate::server::store::{KeyRow, KeyRows, OpenTunnel};
use crate::server::tunnel_server::{Grant, KeyAuthority};

/// How long somebody who is not known waits until the newest changes are there.
const CATCH_UP: Duration = Duration::from_secs(2);

/// From which age on the table counts as old, whatever else is known. Its keeper asks more often.
const OLD: Duration = Duration::from_secs(60);

pub struct KeyTable {
    keys: RwLock<Keys>,
    current: RwLock<Current>,
    /// How old it may be while the database cannot be asked.
    most: Duration,
    following: watch::Sender<Following>,
    /// Told when somebody is not known.
    wanted: Notify,
    answered_behind: AtomicU64,
}

/// How the keeper stands.
#[derive(Debug, Clone, Copy, Default)]
struct Following {
    /// Whether the database could not be asked the last time.
    behind: bool,
    /// How many times it was begun to ask it,
    begun: u64,
    /// and which of them was the last that was answered.
    ended: u64,
}

#[derive(Default)]
struct Keys {
    version: i64,
    tunnels: HashMap<TunnelId, OpenTunnel>,
    /// The tunnels of each key.
    of: HashMap<String, Vec<TunnelId>>,
}

impl KeyTable {
    /// An empty one, which knows nothing yet and may be as old as this at most.
    pub fn new(most: Duration) -> Self {
        KeyTable {
            keys: RwLock::default(),
            current: RwLock::new(Current::once(
                jiff::Timestamp::UNIX_EPOCH,
                Duration::ZERO,
                Moment::now().steady,
            )),
            most,
            following: watch::Sender::new(Following {
                behind: true,
                ..Following::default()
            }),
            wanted: Notify::new(),
            answered_behind: AtomicU64::new(0),
        }
    }

    /// Puts this in the place of everything that is in it.
    pub fn replace(&self, rows: KeyRows) {
        let mut new = Keys {
            version: rows.version,
            ..Keys::default()
        };
        rows.rows.into_iter().for_each(|row| new.take(row));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// Takes over what has changed. Returns the tunnels concerned.
    pub fn change(&self, rows: KeyRows) -> Vec<TunnelId> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.version = rows.version;
        let changed = rows.rows.iter().map(|row| row.tunnel).collect();
        rows.rows.into_iter().for_each(|row| keys.take(row));
        changed
    }

    /// Everything that is in it.
    pub fn rows(&self) -> KeyRows {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let row = |(tunnel, open): (&TunnelId, &OpenTunnel)| KeyRow {
            tunnel: *tunnel,
            open: Some(open.clone()),
        };
        KeyRows {
            version: keys.version,
            rows: keys.tunnels.iter().map(row).collect(),
        }
    }

    /// Up to which change it is known.
    pub fn version(&self) -> i64 {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.version
    }

    /// The tunnels that a key opens.
    pub fn tunnels(&self) -> Vec<TunnelId> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.tunnels.keys().copied().collect()
    }

    /// How many keys are in it.
    pub fn len(&self) -> usize {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.of.len()
    }

    /// Whether no key is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this key opens this tunnel on this port.
    pub fn opens(&self, tunnel: TunnelId, port: u16, key: &str) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let opens = |open: &OpenTunnel| open.key == key || open.next.as_deref() == Some(key);
        let open = keys.tunnels.get(&tunnel);
        open.is_some_and(|open| open.port == port && opens(open))
    }

    /// It was current then.
    pub fn set_current(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }

    /// When it was current.
    pub fn current(&self) -> Current {
        *self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago it was last known to be current.
    pub fn age(&self) -> Duration {
        self.current().age(Moment::now())
    }

    /// Whether the database cannot be asked now, as far as is known.
    pub fn is_behind(&self) -> bool {
        self.following.borrow().behind || self.age() > OLD
    }

    /// How often a key was found while the database could not be asked.
    pub fn answered_behind(&self) -> u64 {
        self.answered_behind.load(Relaxed)
    }

    /// The database is asked now. Returns which time this is.
    pub fn begin(&self) -> u64 {
        let mut time = 0;
        self.following.send_modify(|following| {
            following.begun += 1;
            time = following.begun;
        });
        time
    }

    /// The database has answered this time, and what it said is in the table.
    pub fn end(&self, time: u64) {
        self.following.send_modify(|following| {
            following.behind = false;
            following.ended = time;
        });
    }

    /// The database cannot be asked.
    pub fn fall_behind(&self) {
        self.following
            .send_modify(|following| following.behind = true);
    }

    /// Returns when somebody came who is not known.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Keys {
    fn take(&mut self, row: KeyRow) {
        if let Some(former) = self.tunnels.remove(&row.tunnel) {
            for key in keys_of(&former) {
                let Some(tunnels) = self.of.get_mut(key) else {
                    continue;
                };
                tunnels.retain(|tunnel| *tunnel != row.tunnel);
                if tunnels.is_empty() {
                    self.of.remove(key);
                }
            }
        }
        let Some(open) = row.open else { return };
        for key in keys_of(&open) {
            self.of.entry(key.clone()).or_default().push(row.tunnel);
        }
        self.tunnels.insert(row.tunnel, open);
    }

    fn grants(&self, key: &str) -> Vec<Grant> {
        let tunnels = self.of.get(key).into_iter().flatten();
        let grant = |tunnel: &TunnelId| {
            let open = self.tunnels.get(tunnel)?;
            Some(Grant {
                tunnel_id: *tunnel,
                port: open.port,
                replaces: open.next.as_deref() == Some(key),
            })
        };
        tunnels.filter_map(grant).collect()
    }
}

/// Each key of a tunnel once.
fn keys_of(open: &OpenTunnel) -> HashSet<&String> {
    [Some(&open.key), open.next.as_ref()]
        .into_iter()
        .flatten()
        .collect()
}

#[async_trait]
impl KeyAuthority for KeyTable {
    async fn grants(&self, public_key: &str) -> anyhow::Result<Vec<Grant>> {
        let is_behind = self.is_behind();
        if is_behind {
            ensure!(
                self.age() <= self.most,
                "the database cannot be asked, and what was known of the keys is older than --stale-logins allows"
            );
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let grants = keys.grants(public_key);
        if is_behind && !grants.is_empty() {
            self.answered_behind.fetch_add(1, Relaxed);
        }
        Ok(grants)
    }

    async fn catch_up(&self) -> bool {
        let mut following = self.following.subscribe();
        let now = *following.borrow();
        if now.behind {
            return false;
        }
        self.wanted.notify_one();
        // Those that have begun before may have missed what this is about.
        let enough = |state: &Following| state.behind || state.ended > now.begun;
        let state = timeout(CATCH_UP, following.wait_for(enough)).await;
        matches!(state, Ok(Ok(state)) if !state.behind)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn row(tunnel: i64, key: &str, next: Option<&str>) -> KeyRow {
        KeyRow {
            tunnel: TunnelId(tunnel),
            open: Some(OpenTunnel {
                port: 20_000 + u16::try_from(tunnel).unwrap(),
                key: key.to_owned(),
                next: next.map(str::to_owned),
            }),
        }
    }

    fn rows(version: i64, rows: Vec<KeyRow>) -> KeyRows {
        KeyRows { version, rows }
    }

    async fn ports(table: &KeyTable, key: &str) -> Vec<(u16, bool)> {
        let grants = table.grants(key).await.unwrap();
        let mut ports: Vec<_> = grants.iter().map(|g| (g.port, g.replaces)).collect();
        ports.sort_unstable();
        ports
    }

    fn current(most: Duration) -> KeyTable {
        let table = KeyTable::new(most);
        table.set_current(Current::at(Moment::now()));
        table.end(0);
        table
    }

    #[tokio::test]
    async fn a_key_opens_what_the_last_change_says_and_nothing_else() {
        let table = current(Duration::ZERO);
        let all = vec![
            row(1, "a", None),
            row(2, "a", Some("b")),
            row(3, "c", Some("c")),
        ];
        table.replace(rows(7, all));
        assert_eq!(ports(&table, "a").await, [(20_001, false), (20_002, false)]);
        assert_eq!(ports(&table, "b").await, [(20_002, true)]);
        assert_eq!(ports(&table, "c").await, [(20_003, true)]);
        assert_eq!(table.len(), 3);

        let removed = KeyRow {
            tunnel: TunnelId(1),
            open: None,
        };
        table.change(rows(9, vec![removed, row(2, "b", None)]));
        assert!(ports(&table, "a").await.is_empty());
        assert_eq!(ports(&table, "b").await, [(20_002, false)]);
        assert!(table.opens(TunnelId(2), 20_002, "b"));
        assert!(!table.opens(TunnelId(2), 20_002, "a"), "another key's");
        assert!(!table.opens(TunnelId(2), 20_001, "b"), "another port");
        assert_eq!((table.version(), table.len()), (9, 2));

        table.replace(rows(3, vec![row(4, "d", None)]));
        assert!(ports(&table, "b").await.is_empty());
        assert_eq!((table.version(), table.rows().rows.len()), (3, 1));
    }

    #[tokio::test]
    async fn known_keys_open_their_tunnels_without_the_database_for_a_bounded_time() {
        let table = current(Duration::from_secs(3600));
        table.replace(rows(1, vec![row(1, "a", None)]));
        table.fall_behind();
        assert_eq!(ports(&table, "a").await.len(), 1);
        assert_eq!(table.answered_behind(), 1);
        assert!(!table.catch_up().await, "there is nobody to ask");

        let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2);
        let now = Moment::now().steady;
        table.set_current(Current::once(long_ago, Duration::ZERO, now));
        let refused = table.grants("a").await.unwrap_err();
        assert!(refused.to_string().contains("--stale-logins"), "{refused}");
        table.set_current(Current::at(Moment::now()));
        table.end(1);
        assert_eq!(ports(&table, "a").await.len(), 1);
        assert_eq!(table.answered_behind(), 1);
    }

    #[tokio::test]
    async fn whoever_is_not_known_waits_for_what_is_asked_after_he_came() {
        let table = Arc::new(current(Duration::ZERO));
        let begun = table.begin();
        let waiting = Arc::clone(&table);
        let waits = tokio::spawn(async move { waiting.catch_up().await });
        table.wanted().await;
        table.end(begun);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "that one had begun before");
        table.end(table.begin());
        assert!(waits.await.unwrap());
    }
}
