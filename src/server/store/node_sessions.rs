//! Who holds which tunnel, as the nodes say.
//!
//! A node's rows are a level: with each writing its version of them rises, and others read what is newer than
//! what they know.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use sqlx::FromRow;

use super::{Line, NodeLife, Result, json};
use crate::protocol::{DataSourceId, TunnelId};
use crate::server::deaths;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSession {
    /// Whose port it holds.
    pub tunnel: TunnelId,
    /// When it logged in.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub since: jiff::Timestamp,
    /// The address that the bastion came from.
    pub bastion: String,
    /// The key that it has proved.
    pub public_key: String,
}

/// A session of another node. What does not change is read once.
#[derive(Debug, Clone, FromRow)]
pub struct NodeSessionRow {
    /// Whose port it holds.
    #[sqlx(rename = "tunnel_id")]
    pub tunnel: TunnelId,
    /// Whose tunnel that is.
    #[sqlx(rename = "data_source_id")]
    pub data_source: DataSourceId,
    /// Its port in the node's region.
    pub port: Option<i32>,
    /// When it logged in, in milliseconds; absent where that is known already, as are the others.
    pub since: Option<i64>,
    /// The address that the bastion came from.
    pub bastion: Option<String>,
    /// The key that it has proved.
    pub public_key: Option<String>,
}

impl Line {
    /// Writes what has changed of a node's sessions: those that are new or others than before, and those that
    /// are gone. Returns whether this life of the node goes on; if not, nothing is written.
    pub async fn change_sessions(
        &mut self,
        life: &NodeLife,
        put: &[&NodeSession],
        gone: &HashSet<TunnelId>,
    ) -> Result<bool> {
        self.write_sessions(
            life,
            put,
            gone,
            "found_dead",
            "tunnel_id IN (SELECT CAST(value AS BIGINT) FROM json_each($4))",
        )
        .await
    }

    /// The same with all of the sessions that there are.
    pub async fn replace_sessions(
        &mut self,
        life: &NodeLife,
        all: &[&NodeSession],
    ) -> Result<bool> {
        let present = all.iter().map(|session| session.tunnel).collect();
        self.write_sessions(
            life,
            all,
            &present,
            "FALSE",
            "tunnel_id NOT IN (SELECT CAST(value AS BIGINT) FROM json_each($4))",
        )
        .await
    }

    async fn write_sessions(
        &mut self,
        life: &NodeLife,
        put: &[&NodeSession],
        named: &HashSet<TunnelId>,
        found_dead: &str,
        gone: &str,
    ) -> Result<bool> {
        let mut connection = self.take().await?;
        let statement = Line::sql(
            &mut connection,
            format!(
                "WITH own AS (
                     UPDATE nodes SET facts = facts + 1, found_dead = {found_dead}
                     WHERE name = $1 AND epoch = $2 RETURNING facts
                 ), gone AS (
                     DELETE FROM sessions USING own WHERE node = $1 AND {gone}
                 ), put AS (
                     INSERT INTO sessions (node, epoch, tunnel_id, since, bastion, public_key, version)
                     SELECT $1, $2, CAST(n.value ->> 'tunnel' AS BIGINT), CAST(n.value ->> 'since' AS BIGINT),
                         n.value ->> 'bastion', n.value ->> 'public_key', own.facts
                     FROM json_each($3) AS n, own
                     ON CONFLICT (node, tunnel_id) DO UPDATE SET epoch = excluded.epoch, since = excluded.since,
                         bastion = excluded.bastion, public_key = excluded.public_key, version = excluded.version
                 )
                 SELECT facts FROM own"
            ),
        )
        .bind(&life.name)
        .bind(life.epoch)
        .bind(json(put)?)
        .bind(json(named)?);
        let facts: Option<i64> = self
            .bounded(deaths::around(statement.optional_value()))
            .await?;
        self.put_back(connection);
        Ok(facts.is_some())
    }

    /// The sessions of a node. Of those that are no newer than this version of them, only that they are there.
    pub async fn sessions_of(
        &mut self,
        life: &NodeLife,
        known: i64,
    ) -> Result<Vec<NodeSessionRow>> {
        let mut connection = self.take().await?;
        let select = Line::sql(
            &mut connection,
            "SELECT s.tunnel_id, t.data_source_id,
                 CASE WHEN t.region = n.region THEN t.remote_port WHEN t.next_region = n.region THEN t.next_port END
                     AS port,
                 CASE WHEN s.version > $3 THEN s.since END AS since,
                 CASE WHEN s.version > $3 THEN s.bastion END AS bastion,
                 CASE WHEN s.version > $3 THEN s.public_key END AS public_key
             FROM sessions AS s JOIN tunnels AS t ON t.id = s.tunnel_id JOIN nodes AS n ON n.name = s.node
             WHERE s.node = $1 AND s.epoch = $2",
        )
        .bind(&life.name)
        .bind(life.epoch)
        .bind(known);
        let rows = self.bounded(select.all()).await?;
        self.put_back(connection);
        Ok(rows)
    }

    /// How many tunnels each node says it holds.
    pub async fn tunnels_of_nodes(&mut self) -> Result<HashMap<String, i64>> {
        let mut connection = self.take().await?;
        let select = Line::sql(
            &mut connection,
            "SELECT n.name, count(*) FROM sessions AS s JOIN nodes AS n ON n.name = s.node AND n.epoch = s.epoch
             GROUP BY n.name",
        );
        let rows: Vec<(String, i64)> = self.bounded(select.all()).await?;
        self.put_back(connection);
        Ok(rows.into_iter().collect())
    }

    /// Ends a node's life, and its sessions with it. Its row is locked before they are, as it is by whoever finds it dead.
    pub async fn end_life(&mut self, life: &NodeLife) -> Result<()> {
        let mut connection = self.take().await?;
        let end = Line::sql(
            &mut connection,
            "WITH own AS (
                 UPDATE nodes SET beat = beat + 1, state = 'stopped' WHERE name = $1 AND epoch = $2 RETURNING name, epoch
             )
             DELETE FROM sessions USING own WHERE sessions.node = own.name AND sessions.epoch = own.epoch",
        )
        .bind(&life.name)
        .bind(life.epoch);
        self.bounded(deaths::around(end.execute())).await?;
        self.put_back(connection);
        Ok(())
    }
}
