//! Says which tunnels this node holds: in batches, and as a level.
//!
//! What is written is the difference between what is and what was written. After a failure nobody knows what was
//! written, and in a new life nothing is: then it is all of them. So nothing can be lost or stay behind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::node::{Life, Node};
use crate::protocol::TunnelId;
use crate::server::domain::ControlPlane;
use crate::server::store::{self, DatabaseUrl, Line, NodeLife, NodeSession};
use crate::server::tunnel_server::{SessionEvent, TunnelServer};

/// For how long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);

/// How long to wait after they could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long a writing may take, with several thousand sessions.
const LIMIT: Duration = Duration::from_secs(5);

type Sessions = HashMap<TunnelId, NodeSession>;

/// Tells until it is aborted.
pub async fn tell(node: Arc<Node>, control: Arc<ControlPlane>, url: DatabaseUrl) {
    let Some(server) = control.tunnels.local() else {
        // It holds none.
        return std::future::pending().await;
    };
    let mut facts = Facts {
        line: Line::new(&url, LIMIT),
        written: None,
        known: Sessions::new(),
    };
    let (mut changes, mut lives) = (server.events().changes(), node.lives());
    loop {
        // Marked as seen before they are looked at: what changes meanwhile is written the next time.
        changes.mark_unchanged();
        let life = lives.borrow_and_update().clone();
        match facts.write(&life, server).await {
            Ok(true) => {
                tokio::select! {
                    _ = changes.changed() => {}
                    _ = lives.changed() => {}
                }
                sleep(GATHER).await;
            }
            // The beat finds out what has become of this life.
            Ok(false) => {
                facts.written = None;
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => {
                if facts.written.take().is_some() {
                    tracing::warn!(
                        ?error,
                        "cannot write which tunnels this node holds; they go on, and are written later"
                    );
                }
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

struct Facts {
    line: Line,
    /// What stands in the database, if that is known, and in which life it was written.
    written: Option<(Life, Sessions)>,
    /// What stood there when it was known last.
    known: Sessions,
}

impl Facts {
    async fn write(&mut self, life: &Life, server: &TunnelServer) -> store::Result<bool> {
        let now: Sessions = server
            .sessions()
            .into_iter()
            .map(|session| (session.tunnel, session))
            .collect();
        let written = self
            .written
            .as_ref()
            .filter(|(written_in, _)| written_in == life)
            .map(|(_, sessions)| sessions);
        let goes_on = match written {
            Some(written) => {
                let is_new = |session: &&NodeSession| written.get(&session.tunnel) != Some(session);
                let put: Vec<_> = now.values().filter(is_new).collect();
                let gone: HashSet<_> = written
                    .keys()
                    .copied()
                    .filter(|one| !now.contains_key(one))
                    .collect();
                if put.is_empty() && gone.is_empty() {
                    return Ok(true);
                }
                self.line.change_sessions(&life.life, &put, &gone).await?
            }
            None => {
                self.tell_of_those_found_void(&life.life, &now, server)
                    .await?;
                let all: Vec<_> = now.values().collect();
                self.line.replace_sessions(&life.life, &all).await?
            }
        };
        if goes_on {
            self.known.clone_from(&now);
            self.written = Some((life.clone(), now));
        }
        Ok(goes_on)
    }

    /// While this node was not heard, others may have found it dead and noted that its tunnels are down.
    async fn tell_of_those_found_void(
        &mut self,
        life: &NodeLife,
        now: &Sessions,
        server: &TunnelServer,
    ) -> store::Result<()> {
        if self.known.is_empty() {
            return Ok(());
        }
        let rows = self.line.sessions_of(life, i64::MAX).await?;
        let there: HashSet<_> = rows.iter().map(|row| row.tunnel).collect();
        for (tunnel, session) in now {
            if self.known.contains_key(tunnel) && !there.contains(tunnel) {
                let up = SessionEvent::Up(*tunnel);
                server.events().announce(up, Some(&session.public_key));
            }
        }
        self.known.clear();
        Ok(())
    }
}
