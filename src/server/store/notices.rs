//! What the database tells all nodes at the moment of its commit.

use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::PgListener;
use tokio::time::timeout;

use super::{DatabaseUrl, Result, postgres};
use crate::protocol::DataSourceId;

/// Data sources to which something happened: their numbers, with commas between them, or `*`.
const CHANGES: &str = "holistics_tunnel_changes";

/// Somebody may not do any more what he might.
const ACCESS: &str = "holistics_tunnel_access";

/// A node has begun a new life.
const NODES: &str = "holistics_tunnel_nodes";

/// After how long without a word the connection is asked for a sign of life, and how long that may take.
const SILENCE: Duration = Duration::from_secs(5);
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// These data sources may have changed.
    Changed(Vec<DataSourceId>),
    /// Any of them may have.
    AnyChanged,
    /// Somebody's access has.
    Access,
    /// The nodes have.
    Nodes,
}

/// Listens, on a connection of its own.
#[derive(Debug)]
pub struct Notices(PgListener);

impl Notices {
    /// Begins to listen: what is told from now on is heard.
    pub async fn listen(url: &DatabaseUrl) -> Result<Self> {
        let listening = async {
            let mut listener = postgres::listener(url).await?;
            listener.listen_all([CHANGES, ACCESS, NODES]).await?;
            Ok(Notices(listener))
        };
        match timeout(SIGN_OF_LIFE * 2, listening).await {
            Ok(listening) => listening,
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    /// The next one. Some may have been lost once this has failed.
    pub async fn next(&mut self) -> Result<Notice> {
        loop {
            let Ok(told) = timeout(SILENCE, self.0.try_recv()).await else {
                match timeout(SIGN_OF_LIFE, self.0.execute("SELECT 1")).await {
                    Ok(answered) => answered?,
                    Err(_) => return Err(sqlx::Error::PoolTimedOut.into()),
                };
                continue;
            };
            // It would connect again by itself, but what was told meanwhile is lost.
            let told = told?.ok_or(sqlx::Error::WorkerCrashed)?;
            return Ok(match told.channel() {
                ACCESS => Notice::Access,
                NODES => Notice::Nodes,
                _ => changed(told.payload()),
            });
        }
    }
}

fn changed(payload: &str) -> Notice {
    let numbers = payload
        .split(',')
        .map(|number| number.parse().map(DataSourceId));
    match numbers.collect() {
        Ok(data_sources) => Notice::Changed(data_sources),
        Err(_) => Notice::AnyChanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_names_data_sources_or_all_of_them() {
        assert_eq!(changed("7"), Notice::Changed(vec![DataSourceId(7)]));
        let two = vec![DataSourceId(7), DataSourceId(12)];
        assert_eq!(changed("7,12"), Notice::Changed(two));
        assert_eq!(changed("*"), Notice::AnyChanged);
        assert_eq!(changed(""), Notice::AnyChanged);
    }
}
