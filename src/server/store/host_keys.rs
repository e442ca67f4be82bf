//! What each tunnel's bastion knows of the host keys.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr};

use super::{Result, Store, Writing, json, now, timestamp};
use crate::protocol::{DataSourceId, TunnelId};

/// How it is known which keys a bastion has pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Source {
    /// It was enrolled before that was kept, when there was but one generation of keys.
    Assumed,
    /// They were in the answer to its enrollment.
    Told,
    /// It has said so.
    Pinned,
}

impl Source {
    /// For people.
    pub fn explained(self) -> &'static str {
        match self {
            Source::Assumed => "assumed: set up before this was kept",
            Source::Told => "told when it was set up",
            Source::Pinned => "its bastion said so",
        }
    }
}

/// What a tunnel's bastion knows.
#[derive(Debug, Clone, Serialize)]
pub struct Knowledge {
    pub tunnel_id: TunnelId,
    pub data_source_id: DataSourceId,
    pub display_name: String,
    /// The bastion's name, for people.
    pub bastion: String,
    pub last_seen: Option<jiff::Timestamp>,
    /// The fingerprints of the keys.
    pub knows: Vec<String>,
    pub source: Source,
    /// Since when.
    pub at: jiff::Timestamp,
}

type Row = (
    TunnelId,
    DataSourceId,
    String,
    Option<String>,
    Option<i64>,
    String,
    String,
    i64,
);

impl Store {
    /// What is known of the enrolled tunnels of a region.
    pub async fn host_key_knowledge(&self, region: &str) -> Result<Vec<Knowledge>> {
        let rows: Vec<Row> = self.readers.sql(
            "SELECT t.id, d.id, d.display_name, t.bastion_hostname, t.last_seen_at, k.fingerprints, k.source, k.at
             FROM known_host_keys AS k JOIN tunnels AS t ON t.id = k.tunnel_id
             JOIN data_sources AS d ON d.id = t.data_source_id
             WHERE t.key_id IS NOT NULL AND t.region = $1 ORDER BY t.id",
        )
        .bind(region)
        .all()
        .await?;
        rows.into_iter().map(knowledge).collect()
    }

    /// Notes of tunnels of a region of which nothing is known that they know these keys: they were enrolled when it was
    /// not kept yet, and there were no others.
    pub async fn assume_host_keys(&self, region: &str, fingerprints: &[String]) -> Result<()> {
        self.writer
            .sql(
                "INSERT INTO known_host_keys (tunnel_id, fingerprints, source, at)
             SELECT id, $1, $2, enrolled_at FROM tunnels WHERE key_id IS NOT NULL AND region = $3
                 AND id NOT IN (SELECT tunnel_id FROM known_host_keys)
             ON CONFLICT (tunnel_id) DO NOTHING",
            )
            .bind(json(fingerprints)?)
            .bind(Source::Assumed.into_str())
            .bind(region)
            .execute()
            .await?;
        Ok(())
    }
}

impl Writing {
    /// Notes which keys a tunnel's bastion knows. What it said itself is worth more than that it was told the
    /// same.
    pub async fn note_host_keys(
        &mut self,
        tunnel: TunnelId,
        fingerprints: &[String],
        source: Source,
    ) -> Result<()> {
        self.sql(
            "INSERT INTO known_host_keys (tunnel_id, fingerprints, source, at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tunnel_id) DO UPDATE SET fingerprints = $2, source = $3, at = $4
             WHERE known_host_keys.fingerprints <> $2 OR known_host_keys.source <> 'pinned'",
        )
        .bind(tunnel)
        .bind(json(fingerprints)?)
        .bind(source.into_str())
        .bind(now())
        .execute()
        .await?;
        Ok(())
    }
}

fn knowledge(row: Row) -> Result<Knowledge> {
    let (tunnel_id, data_source_id, display_name, bastion, last_seen, knows, source, at) = row;
    let source = source
        .parse()
        .map_err(|_| sqlx::Error::Decode(format!("unknown source {source:?}").into()))?;
    Ok(Knowledge {
        tunnel_id,
        data_source_id,
        display_name,
        bastion: bastion.unwrap_or_default(),
        last_seen: last_seen.map(timestamp),
        knows: serde_json::from_str(&knows).map_err(|error| sqlx::Error::Decode(error.into()))?,
        source,
        at: timestamp(at),
    })
}
