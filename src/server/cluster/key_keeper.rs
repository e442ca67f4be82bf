//! Keeps a tunnel node's table of keys current, on disk too, and closes what a change forbids.
//!
//! PostgreSQL tells that something has changed; what, is then asked. That it tells is not relied on: it is asked
//! again and again, and everything is read anew after each lost connection. What was taken over is confirmed, so
//! that others see when a key opens nothing any more, anywhere.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::key_age::{Current, Moment};
use super::key_file::{KeyFile, Mark};
use super::key_table::KeyTable;
use crate::protocol::TunnelId;
use crate::server::domain::ControlPlane;
use crate::server::store::Store;
use crate::server::tunnel_server::TunnelServer;

/// Where PostgreSQL tells of changes.
const CHANNEL: &str = "holistics_tunnel_keys";

/// How often is asked what has changed, though nothing was told.
const EVERY: Duration = Duration::from_secs(15);

/// How long the next question waits after the one before, whatever is told: many changes are taken over at once.
const GAP: Duration = Duration::from_millis(100);

/// How long an answer may take; all keys are many.
const CHANGES_LIMIT: Duration = Duration::from_secs(5);
const ALL_LIMIT: Duration = Duration::from_secs(60);

/// How long to wait after the database could not be asked: twice as long each time, from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How often the table is written to the disk at most, and its age.
const WRITE_GAP: Duration = Duration::from_secs(1);
const AGE_EVERY: Duration = Duration::from_secs(15);

/// What keeps it.
pub struct KeyKeeper {
    table: Arc<KeyTable>,
    file: KeyFile,
    store: Store,
    /// What this node is called.
    node: String,
    /// What the age of the table on disk is kept under.
    mark: Option<Mark>,
    /// Told when the table on disk is no longer the one in memory.
    unwritten: Notify,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    All,
    Changes,
}

impl KeyKeeper {
    /// Fills the table from the disk, if there is something that can be used. `most` is how old that may be for keys to
    /// open their tunnels while the database cannot be asked.
    pub fn new(file: KeyFile, store: Store, node: String, most: Duration) -> Self {
        let table = Arc::new(KeyTable::new(most));
        let kept = file.read(Moment::now().steady).unwrap_or_else(|error| {
            tracing::error!("the keys on disk are not used, and written anew once the database has answered: {error:#}");
            None
        });
        let mark = kept.map(|kept| {
            table.replace(kept.rows);
            table.set_current(kept.current);
            kept.mark
        });
        KeyKeeper {
            table,
            file,
            store,
            node,
            mark,
            unwritten: Notify::new(),
        }
    }

    /// The table.
    pub fn table(&self) -> Arc<KeyTable> {
        Arc::clone(&self.table)
    }

    /// Whether the table was filled from the disk, so that known keys can log in without the database.
    pub fn has_kept(&self) -> bool {
        self.mark.is_some()
    }

    /// Fills the table from the database.
    ///
    /// # Errors
    /// The database failed.
    pub async fn fill(&self) -> anyhow::Result<()> {
        self.ask(Asked::All).await.map(drop)
    }

    /// Runs until it is aborted.
    pub async fn keep(mut self, control: Arc<ControlPlane>) -> Infallible {
        let mark = self.mark.take();
        // Whoever keeps the keys has tunnels.
        let Some(tunnels) = control.tunnels.local() else {
            return std::future::pending().await;
        };
        let follow = self.follow_on(tunnels);
        let write = self.write_on(mark);
        tokio::select! {
            never = follow => never,
            never = write => never,
        }
    }

    async fn follow_on(&self, tunnels: &TunnelServer) -> Infallible {
        let mut pause = FIRST_PAUSE;
        // Once it was filled from the database, the changes since are enough.
        let mut next = match self.table.is_behind() {
            true => Asked::All,
            false => Asked::Changes,
        };
        loop {
            let Err(error) = self.follow(tunnels, next, &mut pause).await;
            if !self.table.is_behind() {
                tracing::warn!(
                    "cannot ask the database for the keys, so those that are known go on opening their tunnels: \
                     {error:#}"
                );
            }
            self.table.fall_behind();
            next = Asked::All;
            // Not all nodes at the same moment.
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Follows the database over one connection.
    async fn follow(
        &self,
        tunnels: &TunnelServer,
        mut next: Asked,
        pause: &mut Duration,
    ) -> anyhow::Result<Infallible> {
        // Before it is asked: nothing falls in between.
        let mut listening = self.store.listen(CHANNEL).await?;
        let mut confirmed = None;
        loop {
            let asked = Instant::now();
            let was_behind = self.table.is_behind();
            let changed = self.ask(next).await?;
            if was_behind {
                tracing::info!(version = self.table.version(), "the keys are current again");
            }
            self.close_forbidden(tunnels, changed).await;
            // A stranger's unknown key makes it ask, and nothing to be written.
            let version = self.table.version();
            if confirmed != Some(version) && self.confirm(version).await {
                confirmed = Some(version);
            }
            (next, *pause) = (Asked::Changes, FIRST_PAUSE);
            tokio::select! {
                told = listening.next() => told.context("the connection that tells of changes is lost")?,
                () = self.table.wanted() => {}
                () = sleep(EVERY) => listening.check().await.context("the database is silent")?,
            }
            sleep_until(asked + GAP).await;
        }
    }

    /// Takes over what the database says. Returns the tunnels that have changed; nothing where that may be all.
    async fn ask(&self, what: Asked) -> anyhow::Result<Option<Vec<TunnelId>>> {
        let moment = Moment::now();
        let time = self.table.begin();
        let changes = match what {
            Asked::All => None,
            Asked::Changes => {
                let since = self.table.version();
                let changes = timeout(CHANGES_LIMIT, self.store.keys_since(since)).await;
                let changes = changes.context("the database is silent")??;
                if changes.is_none() {
                    tracing::warn!(since, "the database was set back: all keys are read anew");
                }
                changes
            }
        };
        let (changed, is_written) = match changes {
            Some(changes) if changes.rows.is_empty() => (Some(Vec::new()), true),
            Some(changes) => (Some(self.table.change(changes)), false),
            None => {
                let all = timeout(ALL_LIMIT, self.store.all_keys()).await;
                self.table.replace(all.context("the database is silent")??);
                (None, false)
            }
        };
        self.table.set_current(Current::at(moment));
        self.table.end(time);
        if !is_written {
            self.unwritten.notify_one();
        }
        Ok(changed)
    }

    /// Closes the tunnels that are held by a key that opens them no more. Whoever takes a port looks at the table
    /// after he has it: so nobody slips in between.
    async fn close_forbidden(&self, tunnels: &TunnelServer, changed: Option<Vec<TunnelId>>) {
        for tunnel in changed.unwrap_or_else(|| tunnels.up()) {
            let Some(holder) = tunnels.holder(tunnel) else {
                continue;
            };
            if !self.table.opens(tunnel, &holder.public_key) {
                tracing::info!(
                    tunnel = tunnel.0,
                    "closed: its session's key opens it no more"
                );
                tunnels.close_tunnel(tunnel).await;
            }
        }
    }

    /// Says that this version is taken over. Returns whether that is written.
    async fn confirm(&self, version: i64) -> bool {
        let confirmed = timeout(CHANGES_LIMIT, self.store.confirm_keys(&self.node, version)).await;
        match &confirmed {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::debug!(node = self.node, "not confirmed: no such node"),
            Ok(Err(error)) => tracing::warn!(?error, "cannot confirm what was taken over"),
            Err(_) => tracing::warn!("cannot confirm what was taken over: the database is silent"),
        }
        matches!(confirmed, Ok(Ok(true)))
    }

    async fn write_on(&self, mut mark: Option<Mark>) -> Infallible {
        let mut age = interval(AGE_EVERY);
        age.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_written = true;
        loop {
            tokio::select! {
                () = self.unwritten.notified() => is_written = false,
                _ = age.tick() => {}
            }
            let written = match &mark {
                Some(mark) if is_written => self.write_age(mark.clone()).await,
                None if is_written => Ok(()),
                _ => self.write_table().await.map(|new| {
                    mark = Some(new);
                    is_written = true;
                }),
            };
            if let Err(error) = written {
                tracing::error!(
                    "the keys are not kept on disk, where a start without the database needs them: {error:#}"
                );
            }
            sleep(WRITE_GAP).await;
        }
    }

    async fn write_table(&self) -> anyhow::Result<Mark> {
        let (table, file) = (self.table(), self.file.clone());
        let write = move || {
            // What is current then is in the rows that are read afterwards.
            let current = table.current();
            file.write(table.rows(), &current)
        };
        tokio::task::spawn_blocking(write).await?
    }

    async fn write_age(&self, mark: Mark) -> anyhow::Result<()> {
        let (current, file) = (self.table.current(), self.file.clone());
        tokio::task::spawn_blocking(move || file.write_age(&mark, &current)).await?
    }
}
