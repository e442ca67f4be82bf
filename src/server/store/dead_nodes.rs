//! What a dead node leaves: the tunnels that it held are down, and nobody has noted that yet. And what it leaves for
//! ever, until somebody has it forgotten.

use super::{Actor, EventKind, NodeLife, NodeRow, Result, SessionRow, Store, Writing};
use crate::protocol::TunnelId;

/// Of how many tunnels that is noted in one transaction, so that requests that write wait a few milliseconds for it and
/// not longer.
const TUNNELS_AT_ONCE: u16 = 250;

/// A node whose beat was seen to stand still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadNode {
    /// The node, in the life that is over.
    pub life: NodeLife,
    /// Its last beat.
    pub beat: i64,
}

impl From<&NodeRow> for DeadNode {
    fn from(row: &NodeRow) -> Self {
        DeadNode {
            life: row.life(),
            beat: row.beat,
        }
    }
}

impl Store {
    /// Takes some of its sessions from a dead node, and notes in the same transaction which of their tunnels are down:
    /// those that no other node holds, nor this one (`is_up`). So what is not noted stays where it is. Nothing is done
    /// to a node that has beaten again. Returns whether more may be left.
    pub async fn note_dead(
        &self,
        dead: &DeadNode,
        is_up: impl Fn(TunnelId) -> bool + Send,
    ) -> Result<bool> {
        let mut tx = self.write().await?;
        if !tx.mark_as_dead(dead).await? {
            return Ok(false);
        }
        let (sessions, down) = tx.take_sessions(&dead.life, is_up).await?;
        tx.note_sessions(&down, &Actor::TunnelServer).await?;
        tx.commit().await?;
        Ok(sessions == usize::from(TUNNELS_AT_ONCE))
    }

    /// Forgets a node that is dead or has ended, as somebody at the command line wants it: nobody waits for it any more.
    /// Returns whether that is done; it is not where the node has beaten again.
    pub async fn forget_node(&self, dead: &DeadNode) -> Result<bool> {
        while self.note_dead(dead, |_| false).await? {}
        let mut tx = self.write().await?;
        let forgotten = tx
            .sql("DELETE FROM nodes WHERE name = $1 AND epoch = $2 AND beat = $3")
            .bind(&dead.life.name)
            .bind(dead.life.epoch)
            .bind(dead.beat)
            .execute()
            .await?;
        if forgotten == 0 {
            return Ok(false);
        }
        let subject = format!("node {}", dead.life.name);
        tx.add_audit(&Actor::CommandLine, "node forgotten", &subject)
            .await?;
        tx.commit().await?;
        Ok(true)
    }
}

impl Writing {
    /// Leaves word that a node was declared dead, if it still is and has sessions. Its row is locked before they are, as it is
    /// by the node itself.
    async fn mark_as_dead(&mut self, dead: &DeadNode) -> Result<bool> {
        let marked = self
            .sql(
                "UPDATE nodes SET found_dead = TRUE
                 WHERE name = $1 AND epoch = $2 AND beat = $3 AND state <> 'stopped'
                     AND EXISTS (SELECT 1 FROM sessions WHERE node = $1 AND epoch = $2)",
            )
            .bind(&dead.life.name)
            .bind(dead.life.epoch)
            .bind(dead.beat)
            .execute()
            .await?;
        Ok(marked > 0)
    }

    /// Deletes some of a node's sessions. Returns how many, and whose tunnels nobody else holds.
    async fn take_sessions(
        &mut self,
        life: &NodeLife,
        is_up: impl Fn(TunnelId) -> bool,
    ) -> Result<(usize, Vec<SessionRow<'static>>)> {
        let gone: Vec<(TunnelId, bool)> = self
            .sql(
                "DELETE FROM sessions WHERE node = $1 AND epoch = $2 AND tunnel_id IN (
                     SELECT tunnel_id FROM sessions WHERE node = $1 AND epoch = $2 ORDER BY tunnel_id LIMIT $3
                 )
                 RETURNING tunnel_id, EXISTS (
                     SELECT 1 FROM sessions AS other JOIN nodes AS n ON n.name = other.node AND n.epoch = other.epoch
                     WHERE other.tunnel_id = sessions.tunnel_id AND other.node <> $1 AND n.state <> 'stopped'
                 )",
            )
            .bind(&life.name)
            .bind(life.epoch)
            .bind(i64::from(TUNNELS_AT_ONCE))
            .all()
            .await?;
        let at = jiff::Timestamp::now();
        let down = gone
            .iter()
            .filter(|(tunnel, is_held)| !is_held && !is_up(*tunnel))
            .map(|(tunnel, _)| SessionRow {
                tunnel: *tunnel,
                kind: EventKind::Down,
                at,
                holder_key: None,
            });
        Ok((gone.len(), down.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::store::TestStore;

    const DOWN: &str = "SELECT count(*) FROM events WHERE kind = 'down'";
    const SESSIONS: &str = "SELECT count(*) FROM sessions WHERE node = 'dead'";

    /// A store with a node that is dead and one that lives, of which the first holds so many tunnels.
    async fn with_a_dead_node(tunnels: i64) -> Option<(TestStore, DeadNode)> {
        let kept = TestStore::on_postgres().await?;
        kept.execute(&format!(
            "INSERT INTO data_sources (display_name, database_type, host, port, created_at)
                 SELECT 'Sales', 'postgresql', 'db', 5432, 0 FROM generate_series(1, {tunnels});
             INSERT INTO tunnels (data_source_id) SELECT id FROM data_sources;
             INSERT INTO nodes (name, region, role, epoch, version, state, beat, started_at)
                 VALUES ('dead', 'default', 'all', 1, 'test', 'up', 7, 0),
                     ('alive', 'default', 'all', 2, 'test', 'up', 7, 0);
             INSERT INTO sessions (node, epoch, tunnel_id, since, bastion, public_key, version)
                 SELECT 'dead', 1, id, 0, '192.0.2.1', 'ssh-ed25519 AAAA', 1 FROM tunnels"
        ))
        .await;
        let life = NodeLife {
            name: "dead".to_owned(),
            epoch: 1,
        };
        Some((kept, DeadNode { life, beat: 7 }))
    }

    #[tokio::test]
    async fn what_a_dead_node_held_is_noted_part_by_part_and_nothing_is_lost_that_cannot_be() {
        let Some((kept, dead)) = with_a_dead_node(600).await else {
            return;
        };
        kept.fill_up("events").await;
        assert!(kept.store.note_dead(&dead, |_| false).await.is_err());
        assert_eq!(kept.number(SESSIONS).await, 600);
        kept.make_room("events").await;
        let mut parts = 1;
        while kept.store.note_dead(&dead, |_| false).await.unwrap() {
            parts += 1;
        }
        assert_eq!(parts, 3);
        assert_eq!(kept.number(DOWN).await, 600);
        assert_eq!(kept.number(SESSIONS).await, 0);
        let found = "SELECT count(*) FROM nodes WHERE found_dead AND name = 'dead'";
        assert_eq!(kept.number(found).await, 1);
    }

    #[tokio::test]
    async fn a_tunnel_that_another_node_holds_is_not_down() {
        let Some((kept, dead)) = with_a_dead_node(3).await else {
            return;
        };
        kept.execute(
            "INSERT INTO sessions (node, epoch, tunnel_id, since, bastion, public_key, version)
                 VALUES ('alive', 2, 1, 0, '192.0.2.1', 'ssh-ed25519 AAAA', 1)",
        )
        .await;
        let here = |tunnel| tunnel == TunnelId(2);
        assert!(!kept.store.note_dead(&dead, here).await.unwrap());
        let down = "SELECT sum(data_source_id) FROM events WHERE kind = 'down'";
        assert_eq!(kept.number(down).await, 3);
        assert_eq!(kept.number(SESSIONS).await, 0);
    }

    #[tokio::test]
    async fn a_node_that_has_beaten_again_or_held_nothing_is_left_alone() {
        let Some((kept, dead)) = with_a_dead_node(1).await else {
            return;
        };
        let before = DeadNode {
            beat: 6,
            ..dead.clone()
        };
        assert!(!kept.store.note_dead(&before, |_| false).await.unwrap());
        assert_eq!(kept.number(SESSIONS).await, 1);
        kept.execute("DELETE FROM sessions").await;
        assert!(!kept.store.note_dead(&dead, |_| false).await.unwrap());
        let found = "SELECT count(*) FROM nodes WHERE found_dead";
        assert_eq!(kept.number(found).await, 0);
        assert_eq!(kept.number(DOWN).await, 0);
    }
}
