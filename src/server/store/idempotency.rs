//! What callers called their requests.

use std::time::Duration;

use super::{Result, TokenHash, Writing, milliseconds};
use crate::protocol::DataSourceId;

/// A request that its caller has named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestName {
    /// Who: a credential or an account.
    pub caller: String,
    /// What it was called.
    pub key: String,
}

/// What a name stands for.
#[derive(Debug)]
pub struct NamedRequest {
    /// The hash of what was asked for.
    pub request: Vec<u8>,
    /// What was made for it.
    pub data_source: DataSourceId,
}

impl Writing {
    /// What this name stands for; nothing if it is new, or older than this.
    pub async fn named_request(
        &mut self,
        name: &RequestName,
        age: Duration,
    ) -> Result<Option<NamedRequest>> {
        let row: Option<(Vec<u8>, DataSourceId)> = self
            .sql(
                "SELECT request, data_source_id FROM idempotency_keys
             WHERE caller = $1 AND key = $2 AND created_at >= now_ms() - $3",
            )
            .bind(&name.caller)
            .bind(&name.key)
            .bind(milliseconds(age))
            .optional()
            .await?;
        Ok(row.map(|(request, data_source)| NamedRequest {
            request,
            data_source,
        }))
    }

    /// Keeps a name, and of this caller's names none beyond so many: the oldest go. Those older than this go, whoever's
    /// they are.
    pub async fn name_request(
        &mut self,
        name: &RequestName,
        request: &TokenHash,
        data_source: DataSourceId,
        age: Duration,
        most: u32,
    ) -> Result<()> {
        self.sql("DELETE FROM idempotency_keys WHERE created_at < now_ms() - $1")
            .bind(milliseconds(age))
            .execute()
            .await?;
        self.sql(
            "INSERT INTO idempotency_keys (caller, key, request, data_source_id, created_at)
             VALUES ($1, $2, $3, $4, now_ms())",
        )
        .bind(&name.caller)
        .bind(&name.key)
        .bind(request.as_bytes())
        .bind(data_source)
        .execute()
        .await?;
        self.sql(
            "DELETE FROM idempotency_keys WHERE caller = $1 AND data_source_id <= (
                 SELECT data_source_id FROM idempotency_keys WHERE caller = $1
                 ORDER BY data_source_id DESC LIMIT 1 OFFSET $2)",
        )
        .bind(&name.caller)
        .bind(i64::from(most))
        .execute()
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ConnectionKind, DatabaseType, NewDataSource};
    use crate::server::store::TestStore;

    fn name(caller: &str, number: usize) -> RequestName {
        RequestName {
            caller: caller.to_owned(),
            key: format!("key {number}"),
        }
    }

    #[tokio::test]
    async fn of_each_callers_names_the_newest_are_kept() {
        let kept = TestStore::new().await;
        let store = &kept.store;
        let new = NewDataSource {
            display_name: "Sales".to_owned(),
            database_type: DatabaseType::Mysql,
            connection: ConnectionKind::Direct,
            host: "db".to_owned(),
            port: 3306,
            region: None,
        };
        let (request, ever) = (TokenHash::of("request"), Duration::from_secs(3600));
        let mut tx = store.write().await.unwrap();
        let of_another = tx.add_data_source(&new).await.unwrap();
        tx.name_request(&name("another", 0), &request, of_another, ever, 2)
            .await
            .unwrap();
        for number in 0..5 {
            let id = tx.add_data_source(&new).await.unwrap();
            tx.name_request(&name("one", number), &request, id, ever, 2)
                .await
                .unwrap();
        }
        for (name, is_kept) in [
            (name("one", 2), false),
            (name("one", 3), true),
            (name("one", 4), true),
            (name("another", 0), true),
        ] {
            let found = tx.named_request(&name, ever).await.unwrap();
            assert_eq!(found.is_some(), is_kept, "{name:?}");
        }
    }
}
