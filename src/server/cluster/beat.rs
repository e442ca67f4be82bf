//! The beat: a number that counts up while this node lives. Others look only whether it moves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::node::Node;
use crate::server::store::{DatabaseUrl, Line, StoreError};

/// How far two beats are apart.
pub const EVERY: Duration = Duration::from_secs(2);

/// How long one may take. A connection on which it takes longer is given up.
pub(in crate::server) const LIMIT: Duration = Duration::from_millis(1_500);

/// Beats until it is aborted.
pub async fn keep(node: Arc<Node>, url: DatabaseUrl) -> anyhow::Result<()> {
    let mut line = Line::new(&url, LIMIT);
    let mut states = node.states();
    let mut next = interval(EVERY);
    next.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_heard, mut was_found_dead) = (true, false);
    loop {
        tokio::select! {
            _ = next.tick() => {}
            _ = states.changed() => {}
        }
        let state = node.state();
        match line.beat(&node.life(), state).await {
            Ok(Some(word)) => {
                node.has_written(state);
                if !std::mem::replace(&mut is_heard, true) {
                    tracing::info!("the other nodes hear this one again");
                    node.compare_sessions();
                }
                if word.found_dead {
                    if !was_found_dead {
                        tracing::warn!(
                            "other nodes have declared this one dead; it registers its tunnels again"
                        );
                    }
                    node.write_all_again();
                }
                was_found_dead = word.found_dead;
                node.follow(word.drain_asked);
            }
            Ok(None) => match node.live_again(&mut line).await {
                Ok(()) => {}
                Err(error) if error.is::<StoreError>() => was_not_heard(&mut is_heard, &error),
                Err(error) => return Err(error),
            },
            Err(error) => was_not_heard(&mut is_heard, &error.into()),
        }
    }
}

fn was_not_heard(is_heard: &mut bool, error: &anyhow::Error) {
    if std::mem::replace(is_heard, false) {
        tracing::warn!(
            "cannot write this node's heartbeat to the database; its tunnels go on: {error:#}"
        );
    }
}
