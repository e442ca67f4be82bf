//! Data sources, each with its tunnel and its login.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::folded::folded;
use super::{Record, Result, Store, Writing, now};
use crate::protocol::{DataSourceChange, DataSourceId, NewDataSource};

impl Store {
    /// One data source, also if it is removed.
    pub async fn data_source(&self, id: DataSourceId) -> Result<Option<Record>> {
        by_id(&mut *self.readers.acquire().await?, id).await
    }
}

impl Writing {
    /// One data source, also if it is removed.
    pub async fn data_source(&mut self, id: DataSourceId) -> Result<Option<Record>> {
        by_id(&mut self.0, id).await
    }

    /// Adds a data source without a tunnel.
    pub async fn add_data_source(&mut self, new: &NewDataSource) -> Result<DataSourceId> {
        let id = sqlx::query_scalar(
            "INSERT INTO data_sources
                 (display_name, folded_name, database_type, host, port, region, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .bind(&new.display_name)
        .bind(folded(&new.display_name))
        .bind(new.database_type.as_str())
        .bind(&new.host)
        .bind(new.port)
        .bind(&new.region)
        .bind(now())
        .fetch_one(&mut *self.0)
        .await?;
        Ok(id)
    }

    /// Changes name or target; what is absent stays as it is.
    pub async fn change_data_source(
        &mut self,
        id: DataSourceId,
        change: &DataSourceChange,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE data_sources SET display_name = coalesce(?, display_name),
                 folded_name = coalesce(?, folded_name),
                 host = coalesce(?, host), port = coalesce(?, port) WHERE id = ?",
        )
        .bind(&change.display_name)
        .bind(change.display_name.as_deref().map(folded))
        .bind(&change.host)
        .bind(change.port)
        .bind(id)
        .execute(&mut *self.0)
        .await?;
        Ok(())
    }

    /// Notes that it is saved now.
    pub async fn mark_saved(&mut self, id: DataSourceId) -> Result<()> {
        self.mark("UPDATE data_sources SET saved_at = ? WHERE id = ?", id)
            .await
    }

    /// Notes that its removal was asked for, now or before.
    pub async fn mark_removing(&mut self, id: DataSourceId) -> Result<()> {
        let sql = "UPDATE data_sources SET removing_at = coalesce(removing_at, ?) WHERE id = ?";
        self.mark(sql, id).await
    }

    /// Notes that it is removed now.
    pub async fn mark_removed(&mut self, id: DataSourceId) -> Result<()> {
        self.mark("UPDATE data_sources SET removed_at = ? WHERE id = ?", id)
            .await
    }

    async fn mark(&mut self, sql: &'static str, id: DataSourceId) -> Result<()> {
        sqlx::query(sql)
            .bind(now())
            .bind(id)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }
}

async fn by_id(connection: &mut SqliteConnection, id: DataSourceId) -> Result<Option<Record>> {
    let record = QueryBuilder::<Sqlite>::new(Record::SELECT)
        .push(" WHERE d.id = ")
        .push_bind(id)
        .build_query_as()
        .fetch_optional(connection)
        .await?;
    Ok(record)
}
