//! The task that forgets what has stood in the audit log for long enough. Where there are several nodes, each runs
//! it: what one has forgotten, the others do not find.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::domain::ControlPlane;

/// How often is looked. Nobody minds an entry that stays for an hour too long.
const LOOK: Duration = Duration::from_secs(3600);

/// Runs until it is aborted.
pub async fn keep(control: Arc<ControlPlane>, age: Duration) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Ok(then) = jiff::Timestamp::now().checked_sub(age) else {
            // Further back than anything can stand there.
            continue;
        };
        match control.store.forget_audit_before(then).await {
            Ok(0) => {}
            Ok(entries) => tracing::info!(entries, "the audit log has forgotten what was too old"),
            Err(error) => tracing::error!(?error, "cannot forget old entries of the audit log"),
        }
    }
}
