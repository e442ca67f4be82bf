//! Notes that the tunnels of dead nodes are down.
//!
//! It has to wait until it may write, and the others' lives are looked at meanwhile. What a dead node held stays in the
//! database until that is noted: neither an outage nor this node's own end loses it, and of several nodes that find
//! one dead, each notes what the others have not.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;

use crate::server::domain::ControlPlane;
use crate::server::store::DeadNode;

/// How long to wait after something could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Notes it of each that is found, until nobody is left who finds any.
pub(super) async fn note(mut found: UnboundedReceiver<DeadNode>, control: &ControlPlane) {
    while let Some(dead) = found.recv().await {
        note_one(&dead, control).await;
    }
}

async fn note_one(dead: &DeadNode, control: &ControlPlane) {
    let mut is_told = false;
    loop {
        let is_up = |tunnel| control.tunnels.is_up(tunnel);
        match control.store.note_dead(dead, is_up).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::error!(
                        ?error,
                        node = dead.life.name,
                        "cannot note yet that a dead node's tunnels are down; it is tried again"
                    );
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}
