//! The task that forgets what is over: entries of the audit log that are old enough, and sessions of browsers. Where there
//! are several nodes, each runs it: what one has forgotten, the others do not find.
//!
//! The database's clock says what is over. One that jumps, or is wrong after a start, would have everything forgotten at
//! once: so nothing is before it has gone on for an hour as this machine's steady clock does.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::domain::ControlPlane;
use super::store::{self, SessionLimits, Store};

/// How often is looked. Nobody minds what stays for some hours too long.
const LOOK: Duration = Duration::from_secs(3600);

/// By how much the two clocks may go on differently from one look to the next.
const APART: Duration = Duration::from_secs(300);

/// Runs until it is aborted.
pub async fn keep(control: Arc<ControlPlane>, audit_age: Duration, sessions: SessionLimits) {
    let mut next = interval(LOOK);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        next.tick().await;
        if let Err(error) = look(&control.store, &mut last, audit_age, sessions).await {
            tracing::error!(?error, "cannot delete expired entries");
        }
    }
}

async fn look(
    store: &Store,
    last: &mut Option<Moment>,
    audit_age: Duration,
    sessions: SessionLimits,
) -> store::Result<()> {
    let now = Moment {
        shown: store.clock().await?,
        steady: Instant::now(),
    };
    if !last.replace(now).is_some_and(|last| now.follows(&last)) {
        return Ok(());
    }
    let entries = store.forget_audit_older_than(audit_age).await?;
    if entries > 0 {
        tracing::info!(entries, "deleted audit entries past their time");
    }
    store.forget_sessions_that_are_over(sessions).await?;
    Ok(())
}

/// Two clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// What the database's shows.
    shown: Timestamp,
    /// That of this machine, which nobody sets.
    steady: Instant,
}

impl Moment {
    /// Whether both have gone on alike since another one.
    fn follows(&self, last: &Moment) -> bool {
        let shown = Duration::try_from(self.shown.duration_since(last.shown));
        let steady = self.steady.saturating_duration_since(last.steady);
        // One that was set back shows less than nothing.
        shown.is_ok_and(|shown| shown.abs_diff(steady) <= APART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::domain::Actor;
    use crate::server::store::TestStore;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_jumps_in_either_direction_is_not_followed_and_one_that_is_corrected_a_little_is()
     {
        let last = Moment {
            shown: Timestamp::UNIX_EPOCH + 1000 * HOUR,
            steady: Instant::now(),
        };
        let hour_later = |shown: Timestamp| Moment {
            shown,
            steady: last.steady + HOUR,
        };
        assert!(hour_later(last.shown + HOUR).follows(&last));
        assert!(hour_later(last.shown + HOUR + Duration::from_secs(60)).follows(&last));
        assert!(!hour_later(last.shown + 10 * HOUR).follows(&last));
        assert!(!hour_later(last.shown).follows(&last));
        assert!(!hour_later(last.shown - HOUR).follows(&last));
    }

    #[tokio::test]
    async fn nothing_is_forgotten_before_the_clock_has_gone_steadily_for_a_while() {
        let kept = TestStore::new().await;
        let store = &kept.store;
        let entries = "SELECT count(*) FROM audit_log";
        let written = store.audit(&Actor::CommandLine, "done", "it").await;
        written.unwrap();
        kept.execute("UPDATE audit_log SET at = 0").await;
        let limits = SessionLimits {
            idle: HOUR,
            lifetime: HOUR,
        };
        let mut last = None;
        look(store, &mut last, HOUR, limits).await.unwrap();
        assert_eq!(kept.number(entries).await, 1, "just started");
        let before = last.unwrap();
        last = Some(Moment {
            shown: before.shown - 1000 * HOUR,
            ..before
        });
        look(store, &mut last, HOUR, limits).await.unwrap();
        assert_eq!(kept.number(entries).await, 1, "it has jumped");
        look(store, &mut last, HOUR, limits).await.unwrap();
        assert_eq!(kept.number(entries).await, 0);
    }
}
