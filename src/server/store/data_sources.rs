//! Data sources, each with its tunnel and its login.

use super::folded::folded;
use super::sql::{Port, Statement};
use super::{Record, Result, Store, Writing, now};
use crate::protocol::{DataSourceChange, DataSourceId, NewDataSource};

impl Store {
    /// One data source, also if it is removed.
    pub async fn data_source(&self, id: DataSourceId) -> Result<Option<Record>> {
        by_id(self.readers.sql(Record::SELECT), id).await
    }
}

impl Writing {
    /// One data source, also if it is removed.
    pub async fn data_source(&mut self, id: DataSourceId) -> Result<Option<Record>> {
        by_id(self.sql(Record::SELECT), id).await
    }

    /// Adds a data source without a tunnel.
    pub async fn add_data_source(&mut self, new: &NewDataSource) -> Result<DataSourceId> {
        let id = self
            .sql(
                "INSERT INTO data_sources
                 (display_name, folded_name, database_type, host, port, created_at)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            )
            .bind(&new.display_name)
            .bind(folded(&new.display_name))
            .bind(new.database_type.into_str())
            .bind(&new.host)
            .bind(Port(new.port))
            .bind(now())
            .value()
            .await?;
        Ok(id)
    }

    /// Changes name or target; what is absent stays as it is.
    pub async fn change_data_source(
        &mut self,
        id: DataSourceId,
        change: &DataSourceChange,
    ) -> Result<()> {
        self.sql(
            "UPDATE data_sources SET display_name = coalesce($1, display_name),
                 folded_name = coalesce($2, folded_name),
                 host = coalesce($3, host), port = coalesce($4, port) WHERE id = $5",
        )
        .bind(&change.display_name)
        .bind(change.display_name.as_deref().map(folded))
        .bind(&change.host)
        .bind(change.port.map(Port))
        .bind(id)
        .execute()
        .await?;
        Ok(())
    }

    /// Notes that it is saved now.
    pub async fn mark_saved(&mut self, id: DataSourceId) -> Result<()> {
        self.mark("UPDATE data_sources SET saved_at = $1 WHERE id = $2", id)
            .await
    }

    /// Notes that its removal was asked for, now or before.
    pub async fn mark_removing(&mut self, id: DataSourceId) -> Result<()> {
        let sql = "UPDATE data_sources SET removing_at = coalesce(removing_at, $1) WHERE id = $2";
        self.mark(sql, id).await
    }

    /// Notes that it is removed now.
    pub async fn mark_removed(&mut self, id: DataSourceId) -> Result<()> {
        self.mark("UPDATE data_sources SET removed_at = $1 WHERE id = $2", id)
            .await
    }

    async fn mark(&mut self, sql: &'static str, id: DataSourceId) -> Result<()> {
        self.sql(sql).bind(now()).bind(id).execute().await?;
        Ok(())
    }
}

async fn by_id(mut select: Statement<'_>, id: DataSourceId) -> Result<Option<Record>> {
    select.push(" WHERE d.id = ").push_bind(id);
    select.optional().await
}
