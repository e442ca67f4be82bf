//! The nodes: servers that run, or ran, on one database of PostgreSQL.
//!
//! What a node says of itself is written without the write lock, each row by its own node alone.

use sqlx::FromRow;
use strum::{Display, EnumString, IntoStaticStr};

use super::{Actor, Line, Result, Store, timestamp};
use crate::server::deaths;

/// What a node does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Display, EnumString, IntoStaticStr,
)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Role {
    /// Pages and API; no tunnels
    Web,
    /// Tunnels; no pages and API
    Tunnel,
    /// Both
    #[default]
    All,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum NodeState {
    /// It does its work.
    Up,
    /// It is about to end; others are preferred.
    Draining,
    /// It has ended in an orderly way.
    Stopped,
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is no role of a node"))
    }
}

impl TryFrom<String> for NodeState {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is no state of a node"))
    }
}

/// What a node says of itself at its start.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub region: String,
    /// What it does.
    pub role: Role,
    /// Where other nodes reach it, if they do.
    pub peer_address: Option<String>,
    /// The SHA-256 of the certificate that it shows to them.
    pub certificate: [u8; 32],
}

/// A node in one of its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLife {
    /// Which node.
    pub name: String,
    /// Which life.
    pub epoch: i64,
}

/// A node as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub region: String,
    /// What it does.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Its present life.
    pub epoch: i64,
    /// Its program's version.
    pub version: String,
    /// Where other nodes reach it.
    pub peer_address: Option<String>,
    /// The SHA-256 of the certificate that it shows there.
    pub certificate: Option<Vec<u8>>,
    /// How it is.
    #[sqlx(try_from = "String")]
    pub state: NodeState,
    /// Counts up while it lives.
    pub beat: i64,
    /// The version of its sessions.
    pub facts: i64,
    /// Whether somebody asked it to drain.
    pub drain_asked: bool,
    started_at: i64,
}

impl NodeRow {
    /// When its present life began, by the database's clock.
    pub fn started_at(&self) -> jiff::Timestamp {
        timestamp(self.started_at)
    }

    /// The node in this life.
    pub fn life(&self) -> NodeLife {
        NodeLife {
            name: self.name.clone(),
            epoch: self.epoch,
        }
    }
}

/// What others have left word of for a node.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Word {
    /// It is to drain.
    pub drain_asked: bool,
    /// It was declared dead, and its sessions were deleted.
    pub found_dead: bool,
}

macro_rules! columns {
    () => {
        "SELECT name, region, role, epoch, version, peer_address, certificate, state, beat, facts, drain_asked, \
         started_at FROM nodes"
    };
}

impl Line {
    /// All nodes that were ever there, by name.
    pub async fn nodes(&mut self) -> Result<Vec<NodeRow>> {
        let mut connection = self.take().await?;
        let select = Line::sql(&mut connection, concat!(columns!(), " ORDER BY name"));
        let nodes = self.bounded(select.all()).await?;
        self.put_back(connection);
        Ok(nodes)
    }

    /// One of them.
    pub async fn node(&mut self, name: &str) -> Result<Option<NodeRow>> {
        let mut connection = self.take().await?;
        let select = Line::sql(&mut connection, concat!(columns!(), " WHERE name = $1"));
        let node = self.bounded(select.bind(name).optional()).await?;
        self.put_back(connection);
        Ok(node)
    }

    /// Begins a new life of a node, and tells the others: what was written in an older one is void. `former` is what was
    /// seen of the name before; nothing is done if that has changed meanwhile, since another server has it then.
    pub async fn register(
        &mut self,
        new: &NewNode,
        former: Option<&NodeRow>,
    ) -> Result<Option<NodeLife>> {
        let (epoch, beat) = former.map_or((-1, -1), |former| (former.epoch, former.beat));
        let mut connection = self.take().await?;
        let insert = Line::sql(
            &mut connection,
            "WITH own AS (
                 INSERT INTO nodes
                     (name, region, role, epoch, version, peer_address, certificate, state, beat, started_at)
                 VALUES ($1, $2, $3, nextval('node_epochs'), $4, $5, $6, 'up', 0, now_ms())
                 ON CONFLICT (name) DO UPDATE SET region = excluded.region, role = excluded.role,
                     epoch = excluded.epoch, version = excluded.version, peer_address = excluded.peer_address,
                     certificate = excluded.certificate, state = 'up', beat = nodes.beat + 1,
                     facts = nodes.facts + 1, found_dead = FALSE, drain_asked = FALSE, started_at = excluded.started_at
                 WHERE nodes.epoch = $7 AND nodes.beat = $8
                 RETURNING name, epoch
             ), void AS (
                 DELETE FROM sessions USING own WHERE sessions.node = own.name AND sessions.epoch < own.epoch
             )
             SELECT epoch, pg_notify('holistics_tunnel_nodes', '')::text FROM own",
        )
        .bind(&new.name)
        .bind(&new.region)
        .bind(new.role.into_str())
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(new.peer_address.as_deref())
        .bind(&new.certificate[..])
        .bind(epoch)
        .bind(beat);
        let begun: Option<(i64, String)> = self.bounded(deaths::around(insert.optional())).await?;
        self.put_back(connection);
        let name = new.name.clone();
        Ok(begun.map(|(epoch, _)| NodeLife { name, epoch }))
    }

    /// Says that a node lives, and how it is. Returns what others have left word of; nothing if this life of it is
    /// over.
    pub async fn beat(&mut self, life: &NodeLife, state: NodeState) -> Result<Option<Word>> {
        let mut connection = self.take().await?;
        let update = Line::sql(
            &mut connection,
            "UPDATE nodes SET beat = beat + 1, state = $3 WHERE name = $1 AND epoch = $2 RETURNING drain_asked, found_dead",
        )
        .bind(&life.name)
        .bind(life.epoch)
        .bind(state.into_str());
        let word = self.bounded(deaths::around(update.optional())).await?;
        self.put_back(connection);
        Ok(word)
    }
}

impl Store {
    /// Asks a node to drain, or not to any more. Returns whether there is one of this name that has not ended.
    pub async fn ask_to_drain(&self, name: &str, drain: bool, by: &Actor) -> Result<bool> {
        let mut tx = self.write().await?;
        let changed = tx
            .sql("UPDATE nodes SET drain_asked = $2 WHERE name = $1 AND state <> 'stopped'")
            .bind(name)
            .bind(drain)
            .execute()
            .await?;
        if changed == 0 {
            return Ok(false);
        }
        let asked = if drain {
            "node asked to drain"
        } else {
            "node asked not to drain any more"
        };
        tx.add_audit(by, asked, &format!("node {name}")).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// What only the holder of this installation's secret.key can make. The first node writes its own.
    pub async fn secret_mark(&self, own: &[u8]) -> Result<Vec<u8>> {
        let mut tx = self.write().await?;
        tx.sql("INSERT INTO secret_mark (id, mark) VALUES (1, $1) ON CONFLICT (id) DO NOTHING")
            .bind(own)
            .execute()
            .await?;
        let mark = tx.sql("SELECT mark FROM secret_mark").value().await?;
        tx.commit().await?;
        Ok(mark)
    }
}
