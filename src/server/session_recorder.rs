//! Writes down what the tunnel server sees: tunnels that come up and go down, and when each was
//! last seen.
//!
//! One task for all tunnels. Nothing here decides whether a tunnel is up: that is asked of the
//! tunnel server at the moment it matters.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::domain::changes::Changes;
use super::domain::{Actor, ControlPlane};
use super::store::{EventKind, SessionRow, Store};
use super::tunnel_server::{SessionEvent, SessionEvents, SessionNote};
use crate::protocol::TunnelId;

/// How often "last seen" of the tunnels that are up is written, so that after a crash it is no
/// older than this.
const SEEN_INTERVAL: Duration = Duration::from_secs(300);

/// Of how many tunnels the events are written in one transaction, so that requests that write wait
/// a few milliseconds for it and not longer.
const TUNNELS_AT_ONCE: usize = 250;

/// How long to wait after events could not be written. Until then they wait, too.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Runs until it is aborted. Whatever it has not written then is still pending, or about to be written: [`finish`] waits.
pub async fn record(control: Arc<ControlPlane>) {
    let local = control.tunnels.local();
    let mut seen = interval(SEEN_INTERVAL);
    seen.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut not_before = Instant::now();
    loop {
        let due = async {
            sleep_until(not_before).await;
            // What another node holds would be written down as down.
            control.tunnels.others_known().await;
            match local {
                Some(local) => {
                    local.events().wait().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => if !apart(write_some(Arc::clone(&control))).await {
                not_before = Instant::now() + RETRY_PAUSE;
            },
            _ = seen.tick() => note_seen(&control).await,
        }
    }
}

/// Has something done to its end, whatever becomes of whoever waits for it. A write that is left between its commit and
/// the answer would be pending still, and be written once more.
async fn apart<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(task).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

async fn write_some(control: Arc<ControlPlane>) -> bool {
    let Some(local) = control.tunnels.local() else {
        return true;
    };
    write(
        local.events(),
        &control.store,
        &control.changes,
        &elsewhere(&control),
    )
    .await
}

/// Writes what is left when the server ends: the events that are pending, and "last seen" of every
/// tunnel that is up.
pub async fn finish(control: &ControlPlane) {
    let Some(local) = control.tunnels.local() else {
        return;
    };
    let events = local.events();
    // Thousands of sessions may not have come to their end by now.
    events.end(local.up());
    // What happens from now on does not hold up the end.
    for _ in 0..events.tunnels().div_ceil(TUNNELS_AT_ONCE) {
        if !write(
            events,
            &control.store,
            &control.changes,
            &elsewhere(control),
        )
        .await
        {
            break;
        }
    }
    note_seen(control).await;
}

/// Whether another node holds a tunnel.
fn elsewhere(control: &ControlPlane) -> impl Fn(TunnelId) -> bool {
    move |tunnel| control.tunnels.is_up_elsewhere(tunnel)
}

/// Writes some of what is pending. Returns whether it could; if not, it is pending as before. A tunnel that
/// another node holds is not down when the session here is gone.
async fn write(
    events: &SessionEvents,
    store: &Store,
    changes: &Changes,
    is_up_elsewhere: &impl Fn(TunnelId) -> bool,
) -> bool {
    // Whoever comes second finds what the first could not write, and nothing that it has.
    let _turn = events.turn().await;
    let batch = events.take(TUNNELS_AT_ONCE);
    let counts = |note: &&SessionNote| match note.event {
        SessionEvent::Down(tunnel) => !is_up_elsewhere(tunnel),
        _ => true,
    };
    let rows: Vec<_> = batch.notes().iter().filter(counts).map(row).collect();
    match store.note_sessions(&rows, &Actor::TunnelServer).await {
        Ok(data_sources) => {
            batch.noted();
            for data_source in data_sources {
                changes.announce(data_source);
            }
            true
        }
        Err(error) => {
            tracing::error!(?error, "cannot write session events; they are kept");
            false
        }
    }
}

fn row(note: &SessionNote) -> SessionRow<'_> {
    SessionRow {
        tunnel: note.event.tunnel(),
        kind: match note.event {
            SessionEvent::Up(_) => EventKind::Up,
            SessionEvent::Down(_) => EventKind::Down,
            SessionEvent::TakenOver(_) => EventKind::TakenOver,
            SessionEvent::RefusedHeld(_) => EventKind::RefusedHeld,
        },
        at: note.at,
        holder_key: note.holder_key.as_deref(),
    }
}

async fn note_seen(control: &ControlPlane) {
    let Some(local) = control.tunnels.local() else {
        return;
    };
    if let Err(error) = control.store.note_seen(&local.up()).await {
        tracing::error!(?error, "cannot write when the tunnels were last seen");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{DataSourceId, TunnelId};
    use crate::server::store::{Part, TestStore};
    use crate::server::tunnel_server::SessionEvent::{Down, TakenOver, Up};

    /// What is written of a data source, oldest first.
    async fn history(kept: &TestStore, data_source: DataSourceId) -> Vec<String> {
        let events = kept.store.events(Some(data_source), Part::Newest, 1_000);
        let events = events.await.unwrap().into_iter().rev();
        events.map(|event| event.kind).collect()
    }

    async fn record(events: &SessionEvents, kept: &TestStore) -> bool {
        write(events, &kept.store, &Changes::new(), &|_| false).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_recorder_that_is_ended_at_any_moment_leaves_nothing_to_be_written_twice() {
        let kept = Arc::new(TestStore::with_tunnels(1).await);
        let mut looks = 1;
        for times in 1.. {
            let events = Arc::new(SessionEvents::default());
            events.announce(Down(TunnelId(1)), None);
            let (store, pending) = (Arc::clone(&kept), Arc::clone(&events));
            let mut recorder = Box::pin(apart(async move { record(&pending, &store).await }));
            let mut has_ended = false;
            for _ in 0..looks {
                has_ended = has_ended || futures_util::poll!(recorder.as_mut()).is_ready();
            }
            // What it waits for comes, and it is not there to see it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(recorder);
            assert!(record(&events, &kept).await);
            assert_eq!(history(&kept, DataSourceId(1)).await, vec!["down"; times]);
            if has_ended {
                return;
            }
            looks += 1 + looks / 4;
        }
    }

    #[tokio::test]
    async fn a_session_that_ends_after_the_server_has_said_so_is_down_once() {
        let kept = TestStore::with_tunnels(2).await;
        let events = SessionEvents::default();
        for tunnel in [TunnelId(1), TunnelId(2)] {
            events.announce(Up(tunnel), None);
        }
        assert!(record(&events, &kept).await);
        events.announce(Down(TunnelId(2)), None);
        events.end(vec![TunnelId(1), TunnelId(2)]);
        assert!(record(&events, &kept).await);
        events.announce(Down(TunnelId(1)), None);
        assert!(events.is_empty());
        for source in [DataSourceId(1), DataSourceId(2)] {
            assert_eq!(history(&kept, source).await, ["up", "down"]);
        }
    }

    #[tokio::test]
    async fn five_thousand_tunnels_that_come_up_at_once_are_all_recorded() {
        let kept = TestStore::with_tunnels(5_000).await;
        let events = SessionEvents::default();
        for tunnel in 1..=5_000 {
            events.announce(Up(TunnelId(tunnel)), Some("ssh-ed25519 AAAA"));
        }
        while !events.is_empty() {
            assert!(record(&events, &kept).await);
        }
        let recorded = "SELECT count(DISTINCT data_source_id) FROM events WHERE kind = 'up'";
        assert_eq!(kept.number(recorded).await, 5_000);
        let seen = "SELECT count(*) FROM tunnels WHERE last_seen_at IS NOT NULL";
        assert_eq!(kept.number(seen).await, 5_000);
    }

    #[tokio::test]
    async fn what_happens_while_the_disk_is_full_is_recorded_afterwards_with_its_own_time() {
        let kept = TestStore::with_tunnels(2).await;
        let events = SessionEvents::default();
        kept.fill_up("events").await;
        events.announce(Up(TunnelId(1)), None);
        events.announce(Up(TunnelId(2)), None);
        let up = events.take(1).notes()[0].at;
        assert!(!record(&events, &kept).await);
        events.announce(TakenOver(TunnelId(1)), None);
        events.announce(Down(TunnelId(1)), None);
        assert!(!record(&events, &kept).await);

        kept.make_room("events").await;
        assert!(record(&events, &kept).await);
        assert!(events.is_empty());
        assert_eq!(
            history(&kept, DataSourceId(1)).await,
            ["up", "taken_over", "down"]
        );
        assert_eq!(history(&kept, DataSourceId(2)).await, ["up"]);
        let first = kept.number("SELECT min(at) FROM events").await;
        assert_eq!(first, up.as_millisecond());
    }

    #[tokio::test]
    async fn an_event_of_an_unknown_tunnel_holds_up_no_other() {
        let kept = TestStore::with_tunnels(1).await;
        let events = SessionEvents::default();
        events.announce(Up(TunnelId(99)), None);
        events.announce(Up(TunnelId(1)), None);
        assert!(record(&events, &kept).await);
        assert_eq!(history(&kept, DataSourceId(1)).await, ["up"]);
    }

    #[tokio::test]
    async fn the_oldest_events_of_a_data_source_make_room_for_its_own_alone() {
        let kept = TestStore::with_tunnels(2).await;
        kept.execute(
            "INSERT INTO events (data_source_id, at, kind, actor)
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             SELECT 1 + i % 2, i, 'changed', 'test' FROM n",
        )
        .await;
        let events = SessionEvents::default();
        events.announce(Up(TunnelId(1)), None);
        events.announce(Down(TunnelId(1)), None);
        assert!(record(&events, &kept).await);
        let of_first = history(&kept, DataSourceId(1)).await;
        assert_eq!(of_first.len(), 500);
        assert_eq!(of_first[497..], ["changed", "up", "down"]);
        assert_eq!(history(&kept, DataSourceId(2)).await.len(), 500);
    }

    #[tokio::test]
    async fn a_new_key_is_known_to_be_in_use_since_its_session_got_the_port() {
        let kept = TestStore::with_tunnels(3).await;
        kept.execute(
            "INSERT INTO keys (public_key, created_at) VALUES ('old', 0), ('new', 0);
             UPDATE tunnels SET next_key_id = 2 WHERE id < 3",
        )
        .await;
        let events = SessionEvents::default();
        events.announce(TakenOver(TunnelId(1)), Some("new"));
        events.announce(Down(TunnelId(1)), None);
        events.announce(Up(TunnelId(2)), Some("old"));
        events.announce(Up(TunnelId(3)), Some("new"));
        assert!(record(&events, &kept).await);
        let seen = "SELECT next_key_seen_at FROM tunnels WHERE id = 1";
        let now = kept.store.clock().await.unwrap().as_millisecond();
        let first = kept.number(seen).await;
        assert!((now - 60_000..=now).contains(&first), "{first} at {now}");
        let others = "SELECT count(next_key_seen_at) FROM tunnels WHERE id > 1";
        assert_eq!(kept.number(others).await, 0);
    }

    #[tokio::test]
    async fn what_is_written_late_makes_no_tunnel_seen_longer_ago_than_it_was() {
        let kept = TestStore::with_tunnels(1).await;
        let events = SessionEvents::default();
        events.announce(Up(TunnelId(1)), None);
        kept.execute("UPDATE tunnels SET last_seen_at = 9000000000000")
            .await;
        assert!(record(&events, &kept).await);
        let seen = "SELECT last_seen_at FROM tunnels";
        assert_eq!(kept.number(seen).await, 9_000_000_000_000);
    }

    #[tokio::test]
    async fn the_tunnels_that_are_up_are_marked_as_seen_and_no_others() {
        let kept = TestStore::with_tunnels(2_500).await;
        let up: Vec<_> = (1..=2_400).map(TunnelId).collect();
        kept.store.note_seen(&up).await.unwrap();
        let seen = "SELECT count(*) FROM tunnels WHERE last_seen_at > 0 AND id <= 2400";
        assert_eq!(kept.number(seen).await, 2_400);
        let unseen = "SELECT count(*) FROM tunnels WHERE last_seen_at IS NULL";
        assert_eq!(kept.number(unseen).await, 100);
    }
}
