//! Regions: where tunnels end, and by which names and ports.

use super::sql::Port;
use super::{PortRange, Result, Store, Writing, json, now};

/// The region of an installation that has never had another one.
pub const DEFAULT_REGION: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub name: String,
    /// The one or two names under which bastions reach its tunnel servers; IPv6 without brackets.
    pub ssh_hosts: Vec<String>,
    /// The port of its tunnel servers, as bastions see it.
    pub ssh_port: u16,
    /// The ports that are given to tunnels.
    pub ports: PortRange,
    /// Whether an operator has said so. If not, it is what a server of it was last started with.
    pub is_settled: bool,
}

/// What still uses a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionUse {
    /// Tunnels that are there or are to move there.
    pub tunnels: i64,
    /// Nodes that have not ended.
    pub nodes: i64,
}

type Row = (String, String, Port, Port, Port, bool);

const SELECT: &str = "SELECT name, ssh_hosts, ssh_port, first_port, last_port, is_settled FROM regions ORDER BY name";

impl Store {
    /// All regions, by name.
    pub async fn regions(&self) -> Result<Vec<Region>> {
        let rows: Vec<Row> = self.readers.sql(SELECT).all().await?;
        rows.into_iter().map(region).collect()
    }

    /// Whether the region `default` is to be there: nobody has added another one, or it has tunnels.
    pub async fn needs_default_region(&self) -> Result<bool> {
        self.readers
            .sql(
                "SELECT NOT EXISTS (SELECT 1 FROM regions)
                     OR EXISTS (SELECT 1 FROM tunnels WHERE region = $1 AND removed_at IS NULL)",
            )
            .bind(DEFAULT_REGION)
            .value()
            .await
    }
}

impl Writing {
    /// All regions, by name.
    pub async fn regions(&mut self) -> Result<Vec<Region>> {
        let rows: Vec<Row> = self.sql(SELECT).all().await?;
        rows.into_iter().map(region).collect()
    }

    /// Adds a region, or puts this in the place of the one of its name.
    pub async fn put_region(&mut self, region: &Region) -> Result<()> {
        let (first, last) = region.ports.ends();
        self.sql(
            "INSERT INTO regions (name, ssh_hosts, ssh_port, first_port, last_port, is_settled, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (name) DO UPDATE SET ssh_hosts = $2, ssh_port = $3, first_port = $4, last_port = $5,
                 is_settled = $6",
        )
        .bind(&region.name)
        .bind(json(&region.ssh_hosts)?)
        .bind(Port(region.ssh_port))
        .bind(Port(first))
        .bind(Port(last))
        .bind(region.is_settled)
        .bind(now())
        .execute()
        .await?;
        Ok(())
    }

    /// Forgets a region, with its host keys, on PostgreSQL.
    pub async fn remove_region(&mut self, name: &str) -> Result<()> {
        for table in ["region_host_keys WHERE region", "regions WHERE name"] {
            self.sql(format!("DELETE FROM {table} = $1"))
                .bind(name)
                .execute()
                .await?;
        }
        Ok(())
    }

    /// What still uses a region, on PostgreSQL.
    pub async fn region_use(&mut self, name: &str) -> Result<RegionUse> {
        let (tunnels, nodes) = self
            .sql(
                "SELECT (SELECT count(*) FROM tunnels
                         WHERE removed_at IS NULL AND (region = $1 OR next_region = $1)),
                        (SELECT count(*) FROM nodes WHERE region = $1 AND state <> 'stopped')",
            )
            .bind(name)
            .one()
            .await?;
        Ok(RegionUse { tunnels, nodes })
    }
}

fn region(
    (name, hosts, Port(ssh_port), Port(first), Port(last), is_settled): Row,
) -> Result<Region> {
    let ssh_hosts =
        serde_json::from_str(&hosts).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let ports = PortRange::new(first, last)
        .ok_or_else(|| sqlx::Error::Decode(format!("no range: {first}-{last}").into()))?;
    Ok(Region {
        name,
        ssh_hosts,
        ssh_port,
        ports,
        is_settled,
    })
}
