//! Writes down how the tunnels do: for each tunnel and day how long it was up, and what it carried.
//!
//! Off the way of the data: once a minute, by the minute of the clock, the tunnel server is asked what has
//! happened since, and the days that changed are written. So a kill or a lost machine costs a minute, which is
//! then not known. What cannot be written stays, and is written with the next minute.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::cluster::view::Others;
use super::domain::ControlPlane;
use super::domain::history::{Day, KEPT_DAYS, Tally};
use super::store::{self, Engine, Store};
use super::tunnel_server::Activity;

/// How often is written.
const EVERY_MS: i64 = 60_000;

/// After how many minutes of one day the oldest days are forgotten: a clock that is wrong for a moment
/// shall not cost all of them.
const STEADY_MINUTES: u32 = 10;

pub struct HistoryRecorder {
    control: Arc<ControlPlane>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tally: Tally,
    today: Option<Day>,
    /// How many times in a row it was that day.
    minutes: u32,
}

impl HistoryRecorder {
    /// One that knows which tunnels have been up before this server was started, if the database can be used.
    pub async fn new(control: Arc<ControlPlane>) -> Self {
        let mut state = State::default();
        // What was before is not known where the database is opened later.
        if control.store.is_open()
            && let Err(error) = state.begin(&control.store).await
        {
            tracing::error!(
                ?error,
                "cannot read which tunnels have been up before; their first minute is not known"
            );
        }
        HistoryRecorder {
            control,
            state: Mutex::new(state),
        }
    }

    /// Runs until it is aborted. What it has not written then is written by [`HistoryRecorder::write`].
    pub async fn record(&self) {
        loop {
            tokio::time::sleep(to_the_minute(jiff::Timestamp::now())).await;
            self.write().await;
        }
    }

    /// Writes what has happened until now.
    pub async fn write(&self) {
        let mut state = self.state.lock().await;
        let tunnels = &self.control.tunnels;
        let Some(local) = tunnels.local() else {
            return;
        };
        let (store, activity) = (&self.control.store, local.activity());
        let is_to_join = store.engine() == Engine::Postgres && tunnels.member().is_none();
        let written = if is_to_join {
            // As which node it is written, and what the others did, is known once it is one of them.
            state.write(store, activity, None, Others::default).await
        } else {
            let node = Some(tunnels.node_name());
            state
                .write(store, activity, node, || tunnels.others())
                .await
        };
        if let Err(error) = written {
            tracing::error!(?error, "cannot write the tunnels' history; it is kept");
        }
    }
}

impl State {
    async fn begin(&mut self, store: &Store) -> store::Result<()> {
        self.tally.watch(store.tunnels_ever_seen().await?);
        Ok(())
    }

    async fn write(
        &mut self,
        store: &Store,
        activity: &Activity,
        node: Option<&str>,
        others: impl FnOnce() -> Others,
    ) -> store::Result<()> {
        let alive = store.tunnels_ever_seen().await;
        let known = alive.as_ref().ok();
        let (span, others) = (activity.take(), others());
        let now = jiff::Timestamp::now();
        let end = now - span.end.elapsed();
        self.tally.add(
            &span,
            end,
            known.map(|alive| alive.iter().copied().collect()),
            &others,
        );
        alive?;
        let Some(node) = node else {
            return Ok(());
        };
        for day in self.tally.unknown_days() {
            let written = store.tunnels_on(day.0, node).await?;
            self.tally.add_written(day, written);
        }
        store
            .keep_tunnel_days(&self.tally.unwritten(), node)
            .await?;
        self.tally.written(Day::of(end));
        self.forget(Day::of(end), store).await
    }

    /// Forgets what is too old, once a day; of several nodes, whichever comes first.
    async fn forget(&mut self, today: Day, store: &Store) -> store::Result<()> {
        if self.today.replace(today) != Some(today) {
            self.minutes = 0;
        }
        self.minutes = self.minutes.saturating_add(1);
        if self.minutes != STEADY_MINUTES {
            return Ok(());
        }
        // Nodes have a clock each: what is forgotten is too old by that of the database, too.
        let shown = Day::of(store.clock().await?);
        let (first, last) = (today.min(shown), today.max(shown));
        let kept = first.before(KEPT_DAYS - 1).0..=last.before(-1).0;
        store.forget_tunnel_days_beyond(kept).await
    }
}

/// How long it is until the clock shows the next whole minute.
fn to_the_minute(now: jiff::Timestamp) -> Duration {
    let left = EVERY_MS - now.as_millisecond().rem_euclid(EVERY_MS);
    Duration::from_millis(left.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::server::cluster::tunnels::Tunnels;
    use crate::server::store::TestStore;

    /// A store whose tunnels 1, 2, … have all been up before.
    async fn store_with(tunnels: i64) -> TestStore {
        let kept = TestStore::with_tunnels(tunnels).await;
        kept.execute("UPDATE tunnels SET last_seen_at = 1").await;
        kept
    }

    async fn started(kept: &TestStore) -> State {
        let mut state = State::default();
        state.begin(&kept.store).await.unwrap();
        state
    }

    const DOWN: &str = "SELECT sum(known_ms - up_ms) FROM tunnel_days";

    /// There is one server.
    fn alone() -> Others {
        Tunnels::new(None, None, None).others()
    }

    #[tokio::test]
    async fn what_cannot_be_written_on_a_full_disk_is_written_as_soon_as_there_is_room() {
        let kept = store_with(1).await;
        let began = Instant::now();
        let (mut state, activity) = (started(&kept).await, Activity::default());
        kept.fill_up("tunnel_days").await;
        std::thread::sleep(Duration::from_millis(20));
        assert!(
            state
                .write(&kept.store, &activity, Some(""), alone)
                .await
                .is_err()
        );
        std::thread::sleep(Duration::from_millis(20));
        assert!(
            state
                .write(&kept.store, &activity, Some(""), alone)
                .await
                .is_err()
        );
        kept.make_room("tunnel_days").await;
        state
            .write(&kept.store, &activity, Some(""), alone)
            .await
            .unwrap();
        let down = kept.number(DOWN).await;
        let elapsed = i64::try_from(began.elapsed().as_millis()).unwrap();
        assert!((38..=elapsed).contains(&down), "{down} of {elapsed} ms");
    }

    #[tokio::test]
    async fn a_server_that_is_started_again_goes_on_with_the_day() {
        let kept = store_with(2).await;
        for run in 1..=3 {
            let (mut state, activity) = (started(&kept).await, Activity::default());
            std::thread::sleep(Duration::from_millis(10));
            state
                .write(&kept.store, &activity, Some(""), alone)
                .await
                .unwrap();
            assert!(kept.number(DOWN).await >= 2 * run * 9, "run {run}");
        }
        kept.execute("UPDATE tunnels SET removed_at = 2 WHERE id = 2")
            .await;
        let (mut state, activity) = (started(&kept).await, Activity::default());
        let removed = "SELECT sum(known_ms) FROM tunnel_days WHERE tunnel_id = 2";
        let before = kept.number(removed).await;
        std::thread::sleep(Duration::from_millis(10));
        state
            .write(&kept.store, &activity, Some(""), alone)
            .await
            .unwrap();
        assert_eq!(kept.number(removed).await, before, "it is removed");
    }

    #[tokio::test]
    async fn days_that_are_too_old_are_forgotten_and_not_for_a_moment_s_wrong_clock() {
        let kept = store_with(1).await;
        let today = Day::of(jiff::Timestamp::now());
        for ago in [34, 35, 36, 400, -1, -2] {
            let zeroes = match kept.store.engine() {
                Engine::Sqlite => "zeroblob(36)",
                Engine::Postgres => "decode(repeat('00', 36), 'hex')",
            };
            kept.execute(&format!(
                "INSERT INTO tunnel_days VALUES ({}, 1, 0, 0, 0, 0, 0, {zeroes}, {zeroes})",
                today.before(ago).0
            ))
            .await;
        }
        let mut state = State::default();
        let rows = "SELECT count(*) FROM tunnel_days";
        let wrong = today.before(-30_000);
        for _ in 0..STEADY_MINUTES - 1 {
            state.forget(wrong, &kept.store).await.unwrap();
        }
        assert_eq!(kept.number(rows).await, 6);
        for _ in 0..STEADY_MINUTES - 1 {
            state.forget(today, &kept.store).await.unwrap();
        }
        assert_eq!(kept.number(rows).await, 6);
        state.forget(today, &kept.store).await.unwrap();
        assert_eq!(kept.number(rows).await, 2);
        let oldest = kept.number("SELECT min(day) FROM tunnel_days").await;
        assert_eq!(oldest, i64::from(today.0) - 34);
    }

    #[tokio::test]
    async fn every_minute_of_twenty_thousand_tunnels_is_written() {
        const TUNNELS: i64 = 20_000;
        let kept = store_with(TUNNELS).await;
        let (mut state, activity) = (started(&kept).await, Activity::default());
        for minute in 1..=3 {
            let began = Instant::now();
            state
                .write(&kept.store, &activity, Some(""), alone)
                .await
                .unwrap();
            println!("flush {minute} of {TUNNELS} rows: {:?}", began.elapsed());
        }
        let rows = "SELECT count(*) FROM tunnel_days";
        assert_eq!(kept.number(rows).await, TUNNELS);
        let size = match kept.store.engine() {
            Engine::Sqlite => "SELECT sum(pgsize) FROM dbstat WHERE name = 'tunnel_days'",
            Engine::Postgres => "SELECT pg_table_size('tunnel_days')",
        };
        println!("bytes a row: {}", kept.number(size).await / TUNNELS);
    }

    #[test]
    fn the_next_minute_is_the_clock_s() {
        let at = |text: &str| text.parse().unwrap();
        let left = to_the_minute(at("2026-11-29T10:00:59.990Z"));
        assert_eq!(left, Duration::from_millis(10));
        let left = to_the_minute(at("2026-11-29T10:00:00Z"));
        assert_eq!(left, Duration::from_secs(60));
    }
}
