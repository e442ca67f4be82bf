//! Wakes whoever waits here for what happens at another node.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::view::View;
use crate::server::domain::ControlPlane;
use crate::server::store::{self, DatabaseUrl, Notice, Notices};

/// How long to wait before it is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is aborted.
pub async fn hear(control: Arc<ControlPlane>, view: Arc<View>, url: DatabaseUrl) {
    let mut is_told = false;
    loop {
        let Err(error) = hear_on_one_connection(&control, &view, &url, &mut is_told).await;
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(
                ?error,
                "cannot listen for news of other nodes on the database; trying again"
            );
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn hear_on_one_connection(
    control: &ControlPlane,
    view: &View,
    url: &DatabaseUrl,
    is_told: &mut bool,
) -> store::Result<std::convert::Infallible> {
    let mut notices = Notices::listen(url).await?;
    *is_told = false;
    // What was told before, nobody has heard.
    control.changes.announce_missed();
    loop {
        match notices.next().await? {
            Notice::Changed(data_sources) => {
                for data_source in data_sources {
                    control.changes.announce(data_source);
                }
            }
            Notice::AnyChanged => control.changes.announce_missed(),
            Notice::Access => control.changes.announce_access_change(),
            // Until it is known here, what it asks of this node is refused.
            Notice::Nodes => view.look(),
        }
    }
}
