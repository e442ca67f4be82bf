//! The task that ends what has its successor beside it: old keys whose successors have been in use for long enough, and
//! the ports of tunnels that have moved to another region. Where there are several nodes, each runs it: what one has
//! ended, the others do not find.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::domain::ControlPlane;

/// How often is looked, at least.
const LOOK: Duration = Duration::from_secs(30);

/// Runs until it is aborted.
pub async fn keep(control: Arc<ControlPlane>) {
    let mut look = interval(LOOK.min(control.key_overlap));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(error) = control.end_key_overlaps().await {
            tracing::error!(?error, "cannot end the time of old keys");
        }
        if let Err(error) = control.end_moves().await {
            tracing::error!(?error, "cannot end the moves of tunnels");
        }
    }
}
