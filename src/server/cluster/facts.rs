//! Says which tunnels this node holds: in batches, and as a level.
//!
//! What is written is the difference between what is and what was written. After a failure nobody knows what was
//! written, nor in a database that has taken another's place: then what stands there is looked at. In a new life
//! nothing does, and it is all of them. So nothing can be lost or stay behind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::node::{Life, Node};
use crate::protocol::TunnelId;
use crate::server::domain::ControlPlane;
use crate::server::store::{self, DatabaseUrl, Line, NodeSession, NodeSessionRow};
use crate::server::tunnel_server::TunnelServer;

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
        replaced_in: None,
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
                // It may be written yet, after whatever is read now.
                facts.replaced_in = None;
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
    /// In which life all of them were written last.
    replaced_in: Option<Life>,
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
            None => self.write_all(life, &now, server).await?,
        };
        if goes_on {
            self.known.clone_from(&now);
            self.written = Some((life.clone(), now));
        }
        Ok(goes_on)
    }

    /// Writes all of them, where what stands there is anything else.
    async fn write_all(
        &mut self,
        life: &Life,
        now: &Sessions,
        server: &TunnelServer,
    ) -> store::Result<bool> {
        let there = self.line.sessions_of(&life.life, -1).await?;
        self.tell_of_those_found_void(&there, now, server);
        let are_void = self
            .replaced_in
            .as_ref()
            .is_none_or(|last| life.voids(last));
        if !are_void && are_the_same(&there, now) {
            return Ok(true);
        }
        let all: Vec<_> = now.values().collect();
        let goes_on = self.line.replace_sessions(&life.life, &all).await?;
        if goes_on {
            self.replaced_in = Some(life.clone());
        }
        Ok(goes_on)
    }

    /// While this node was not heard, others may have found it dead and noted that its tunnels are down.
    fn tell_of_those_found_void(
        &mut self,
        there: &[NodeSessionRow],
        now: &Sessions,
        server: &TunnelServer,
    ) {
        let there: HashSet<_> = there.iter().map(|row| row.tunnel).collect();
        for tunnel in now.keys() {
            if self.known.contains_key(tunnel) && !there.contains(tunnel) {
                server.announce_again(*tunnel);
            }
        }
        self.known.clear();
    }
}

/// Whether these rows are these sessions.
fn are_the_same(rows: &[NodeSessionRow], sessions: &Sessions) -> bool {
    let is_there = |row: &NodeSessionRow| {
        let session = sessions.get(&row.tunnel);
        session.is_some_and(|session| {
            row.since == Some(session.since.as_millisecond())
                && row.bastion.as_ref() == Some(&session.bastion)
                && row.public_key.as_ref() == Some(&session.public_key)
        })
    };
    rows.len() == sessions.len() && rows.iter().all(is_there)
}
