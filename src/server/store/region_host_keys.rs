//! The host keys of the regions, sealed. Only PostgreSQL keeps them: where there is one server, they are its files.

use std::collections::HashMap;

use super::{Result, Store, Writing, timestamp};

/// A host key of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedHostKey {
    /// `current`, `next` or `former`.
    pub generation: String,
    /// Of which type.
    pub kind: String,
    /// The public key, `ssh-ed25519 AAAA…`.
    pub public_key: String,
    /// The private key, which only the holder of secret.key can open.
    pub sealed: Vec<u8>,
    /// Since when it has its place.
    pub since: jiff::Timestamp,
}

type Row = (String, String, String, Vec<u8>, i64);

const SELECT: &str = "SELECT generation, kind, public_key, sealed, since FROM region_host_keys
     WHERE region = $1 ORDER BY generation, kind";

impl Store {
    pub async fn region_host_keys(&self, region: &str) -> Result<Vec<SealedHostKey>> {
        let rows: Vec<Row> = self.readers.sql(SELECT).bind(region).all().await?;
        Ok(rows.into_iter().map(key).collect())
    }

    /// The public keys that bastions are told of, by their regions: the current ones, and the next ones after them.
    pub async fn announced_host_keys(&self) -> Result<HashMap<String, Vec<String>>> {
        let rows: Vec<(String, String)> = self
            .readers
            .sql(
                "SELECT region, public_key FROM region_host_keys WHERE generation <> 'former'
                 ORDER BY region, generation, kind DESC",
            )
            .all()
            .await?;
        let mut announced: HashMap<_, Vec<_>> = HashMap::new();
        for (region, key) in rows {
            announced.entry(region).or_default().push(key);
        }
        Ok(announced)
    }
}

impl Writing {
    pub async fn region_host_keys(&mut self, region: &str) -> Result<Vec<SealedHostKey>> {
        let rows: Vec<Row> = self.sql(SELECT).bind(region).all().await?;
        Ok(rows.into_iter().map(key).collect())
    }

    /// Puts these in the place of a region's host keys.
    pub async fn replace_region_host_keys(
        &mut self,
        region: &str,
        keys: &[SealedHostKey],
    ) -> Result<()> {
        self.sql("DELETE FROM region_host_keys WHERE region = $1")
            .bind(region)
            .execute()
            .await?;
        for key in keys {
            self.sql(
                "INSERT INTO region_host_keys (region, generation, kind, public_key, sealed, since)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(region)
            .bind(&key.generation)
            .bind(&key.kind)
            .bind(&key.public_key)
            .bind(&key.sealed)
            .bind(key.since.as_millisecond())
            .execute()
            .await?;
        }
        Ok(())
    }
}

fn key((generation, kind, public_key, sealed, since): Row) -> SealedHostKey {
    SealedHostKey {
        generation,
        kind,
        public_key,
        sealed,
        since: timestamp(since),
    }
}
