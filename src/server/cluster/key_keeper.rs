//! Keeps a tunnel node's table of keys current, on disk too, and closes what a change forbids.
//!
//! PostgreSQL tells that something has changed; what, is then asked. That it tells is not relied on: it is asked
//! again and again, and everything is read anew after each lost connection. What was taken over is written to the
//! disk, and what is there for good is confirmed, so that others see when a key opens nothing any more, anywhere, also
//! at a node that is started again. Each of the three goes on while another has to wait.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::key_age::{Current, Moment};
use super::key_file::{KeyFile, Mark};
use super::key_table::KeyTable;
use crate::protocol::TunnelId;
use crate::server::domain::ControlPlane;
use crate::server::store::{DatabaseUrl, Line, Store};
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

/// How often the table is written to the disk at most, how soon again where it could not be, and how often its age.
const WRITE_GAP: Duration = Duration::from_secs(1);
const WRITE_AGAIN: Duration = Duration::from_secs(5);
const AGE_EVERY: Duration = Duration::from_secs(15);

/// How long to wait after something could not be confirmed.
const CONFIRM_AGAIN: Duration = Duration::from_secs(2);

/// How often it is confirmed again: it is lost with this node's row, which somebody may have deleted while this node was
/// not seen.
const CONFIRM_ANEW: Duration = Duration::from_secs(60);

/// What keeps it.
pub struct KeyKeeper {
    table: Arc<KeyTable>,
    file: KeyFile,
    store: Store,
    /// What this node is called, and where it is.
    node: String,
    /// Where it is confirmed what was taken over.
    url: DatabaseUrl,
    region: String,
    /// What the age of the table on disk is kept under.
    mark: Option<Mark>,
    taken: watch::Sender<Taken>,
    kept: watch::Sender<Taken>,
}

/// Up to which change the table was taken over and what that forbids closed, or up to which it is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    version: i64,
    /// Counts what was taken over: a database that was set back has a version twice.
    time: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    All,
    Changes,
}

impl KeyKeeper {
    /// Fills the table from the disk, if there is something that can be used. `most` is how old that may be for keys to
    /// open their tunnels while the database cannot be asked.
    pub fn new(
        file: KeyFile,
        store: Store,
        url: DatabaseUrl,
        (node, region): (String, String),
        most: Duration,
    ) -> Self {
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
            url,
            region,
            mark,
            taken: watch::Sender::default(),
            kept: watch::Sender::default(),
        }
    }

    pub fn table(&self) -> Arc<KeyTable> {
        Arc::clone(&self.table)
    }

    /// Whether the table was filled from the disk, so that known keys can log in without the database.
    pub fn has_kept(&self) -> bool {
        self.mark.is_some()
    }

    /// Fills the table from the database.
    pub async fn fill(&self) -> anyhow::Result<()> {
        self.ask(Asked::All).await?;
        // What is on the disk is older, and must not be taken for this.
        self.has_taken_over();
        Ok(())
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
        let confirm = self.confirm_on();
        tokio::select! {
            never = follow => never,
            never = write => never,
            never = confirm => never,
        }
    }

    async fn follow_on(&self, tunnels: &TunnelServer) -> Infallible {
        let mut pause = FIRST_PAUSE;
        // Once it was filled from the database, the changes since are enough.
        let mut next = if self.table.is_behind() {
            Asked::All
        } else {
            Asked::Changes
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
        let mut is_first = true;
        loop {
            let asked = Instant::now();
            let was_behind = self.table.is_behind();
            let changed = self.ask(next).await?;
            if was_behind {
                tracing::info!(version = self.table.version(), "the keys are current again");
            }
            // A stranger's unknown key makes it ask, and nothing to be written.
            let is_new = is_first || changed.as_ref().is_none_or(|changed| !changed.is_empty());
            self.close_forbidden(tunnels, changed).await;
            if is_new {
                self.has_taken_over();
            }
            is_first = false;
            (next, *pause) = (Asked::Changes, FIRST_PAUSE);
            tokio::select! {
                told = listening.next() => told.context("the connection for change notifications was lost")?,
                () = self.table.wanted() => {}
                () = sleep(EVERY) => listening.check().await.context("the database is silent")?,
            }
            sleep_until(asked + GAP).await;
        }
    }

    fn has_taken_over(&self) {
        self.taken.send_modify(|taken| {
            taken.version = self.table.version();
            taken.time += 1;
        });
    }

    /// Takes over what the database says. Returns the tunnels that have changed; nothing where that may be all.
    async fn ask(&self, what: Asked) -> anyhow::Result<Option<Vec<TunnelId>>> {
        let moment = Moment::now();
        let time = self.table.begin();
        let changes = match what {
            Asked::All => None,
            Asked::Changes => {
                let since = self.table.version();
                let changes =
                    timeout(CHANGES_LIMIT, self.store.keys_since(&self.region, since)).await;
                let changes = changes.context("the database is silent")??;
                if changes.is_none() {
                    tracing::warn!(since, "the database was set back: all keys are read anew");
                }
                changes
            }
        };
        let changed = match changes {
            Some(changes) if changes.rows.is_empty() => Some(Vec::new()),
            Some(changes) => Some(self.table.change(changes)),
            None => {
                let all = timeout(ALL_LIMIT, self.store.all_keys(&self.region)).await;
                let all = all.context("the database is silent")??;
                if all.rows.is_empty() && !self.table.is_empty() {
                    self.store.refuse_without_data_sources().await?;
                }
                self.table.replace(all);
                None
            }
        };
        self.table.set_current(Current::at(moment));
        self.table.end(time);
        Ok(changed)
    }

    /// Closes the tunnels that are held by a key that opens them no more, or on a port that is theirs no more. Whoever
    /// takes a port looks at the table after he has it: so nobody slips in between.
    async fn close_forbidden(&self, tunnels: &TunnelServer, changed: Option<Vec<TunnelId>>) {
        for tunnel in changed.unwrap_or_else(|| tunnels.up()) {
            let Some(holder) = tunnels.holder(tunnel) else {
                continue;
            };
            if !self.table.opens(tunnel, holder.port, &holder.public_key) {
                tracing::info!(
                    tunnel = tunnel.0,
                    port = holder.port,
                    "closed: its session's key no longer opens it on that port"
                );
                tunnels.close_tunnel(tunnel).await;
            }
        }
    }

    /// Confirms what is on the disk. On a connection of its own: whoever writes waits for others, and while nobody can
    /// write, keys are followed all the same.
    async fn confirm_on(&self) -> Infallible {
        let mut line = Line::new(&self.url, CHANGES_LIMIT);
        let mut kept = self.kept.subscribe();
        let mut could_confirm = true;
        loop {
            let present = *kept.borrow_and_update();
            let mut is_confirmed = present == Taken::default();
            if !is_confirmed {
                match line.confirm_keys(&self.node, present.version).await {
                    Ok(true) => (is_confirmed, could_confirm) = (true, true),
                    Ok(false) => tracing::debug!(node = self.node, "not confirmed: no such node"),
                    Err(error) => {
                        if std::mem::replace(&mut could_confirm, false) {
                            tracing::warn!(?error, "cannot confirm yet which keys were taken over");
                        }
                    }
                }
            }
            let again = if is_confirmed {
                CONFIRM_ANEW
            } else {
                CONFIRM_AGAIN
            };
            tokio::select! {
                _ = kept.changed() => {}
                () = sleep(again) => {}
            }
        }
    }

    async fn write_on(&self, mut mark: Option<Mark>) -> Infallible {
        let mut age = interval(AGE_EVERY);
        age.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = self.taken.subscribe();
        loop {
            let is_written = *taken.borrow() == *self.kept.borrow();
            tokio::select! {
                _ = taken.changed() => {}
                _ = age.tick() => {}
                () = sleep(WRITE_AGAIN), if !is_written => {}
            }
            let present = *taken.borrow_and_update();
            let written = match &mark {
                _ if present != *self.kept.borrow() => self.write_table().await.map(|new| {
                    mark = Some(new);
                    self.kept.send_replace(present);
                }),
                Some(mark) => self.write_age(mark.clone()).await,
                None => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::data_dir::DataDir;
    use crate::server::store::{DEFAULT_REGION, KeyRow, KeyRows, OpenTunnel, TestStore};

    #[tokio::test]
    async fn keys_on_disk_from_before_a_start_are_not_said_to_be_current() {
        let Some(kept) = TestStore::on_postgres().await else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open_or_create(folder.path()).unwrap();
        let file = KeyFile::new(&data_dir, "ours".to_owned(), DEFAULT_REGION);
        let revoked_meanwhile = KeyRow {
            tunnel: TunnelId(1),
            open: Some(OpenTunnel {
                port: 20_001,
                key: "ssh-ed25519 AAAA".to_owned(),
                next: None,
            }),
        };
        let before = KeyRows {
            version: 0,
            rows: vec![revoked_meanwhile],
        };
        file.write(before, &Current::at(Moment::now())).unwrap();
        let keeper = KeyKeeper::new(
            file.clone(),
            kept.store.clone(),
            "postgres://nobody@127.0.0.1:1/none".parse().unwrap(),
            ("one".to_owned(), DEFAULT_REGION.to_owned()),
            Duration::from_secs(3600),
        );
        assert!(keeper.has_kept());
        // An empty database is one that is to be restored.
        let why = keeper.fill().await.unwrap_err();
        assert!(Store::is_outage(&why), "{why:#}");
        assert_eq!(keeper.table().len(), 1);
        kept.execute(
            "INSERT INTO data_sources (display_name, database_type, host, port, created_at)
             VALUES ('Shop', 'postgresql', 'db', 5432, 0)",
        )
        .await;
        keeper.fill().await.unwrap();
        let mut written = keeper.kept.subscribe();
        let first_writing = async {
            tokio::select! {
                never = keeper.write_on(keeper.mark.clone()) => match never {},
                changed = written.changed() => changed.unwrap(),
            }
        };
        let limit = Duration::from_secs(60);
        timeout(limit, first_writing)
            .await
            .expect("the new table comes first");
        let on_disk = file.read(Moment::now().steady).unwrap().unwrap();
        assert!(on_disk.rows.rows.is_empty());
    }
}
