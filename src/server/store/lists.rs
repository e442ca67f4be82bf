//! Parts of lists that grow: a page of them is found by the numbers of what is in it, so that a page costs the
//! same wherever it is, and what is added or removed meanwhile moves nothing from one page to another.

use super::folded::pattern;
use super::sql::Statement;
use super::{Record, Result, Store, json};
use crate::protocol::{DatabaseType, TunnelId};

/// Where a part of a list begins, and in which order it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// At the oldest, oldest first.
    Oldest,
    /// At the newest, newest first.
    Newest,
    /// At the next newer one than this, oldest first.
    After(i64),
    /// At the next older one than this, newest first.
    Before(i64),
}

/// What is asked of data sources. What is absent is not asked.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Has this in its name or host, in upper or lower case.
    pub search: Option<String>,
    pub database_type: Option<DatabaseType>,
    /// Has come so far.
    pub stage: Option<Stage>,
    /// Its tunnel is, or is not, one of those that are up.
    pub up: Option<Up>,
}

impl Filter {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.search.is_none()
            && self.database_type.is_none()
            && self.stage.is_none()
            && self.up.is_none()
    }
}

/// How far a data source has come, as far as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Neither saved nor enrolled.
    Draft,
    /// Enrolled, not saved.
    Enrolled,
    /// Saved; no service runs its tunnel, or it has none.
    Saved,
    /// Saved, and a service runs its tunnel.
    Serving,
    /// Its removal was asked for.
    Removing,
}

impl Stage {
    fn condition(self) -> &'static str {
        match self {
            Stage::Draft => {
                " AND d.removing_at IS NULL AND d.saved_at IS NULL AND t.remote_port IS NULL"
            }
            Stage::Enrolled => {
                " AND d.removing_at IS NULL AND d.saved_at IS NULL AND t.remote_port IS NOT NULL"
            }
            Stage::Saved => {
                " AND d.removing_at IS NULL AND d.saved_at IS NOT NULL AND t.service_installed_at IS NULL"
            }
            Stage::Serving => {
                " AND d.removing_at IS NULL AND d.saved_at IS NOT NULL AND t.service_installed_at IS NOT NULL"
            }
            Stage::Removing => " AND d.removing_at IS NOT NULL",
        }
    }
}

/// The tunnels that are up, which only the tunnel server knows.
#[derive(Debug, Clone)]
pub struct Up {
    pub tunnels: Vec<TunnelId>,
    /// Whether those are asked for, or the others.
    pub wanted: bool,
}

impl Store {
    /// At most `limit` data sources that are not removed.
    pub async fn listed(&self, filter: &Filter, part: Part, limit: u32) -> Result<Vec<Record>> {
        let mut query = self.readers.sql(Record::SELECT);
        push_filter(&mut query, filter)?;
        push_part(&mut query, "d.id", part, limit);
        query.all().await
    }

    /// How many data sources that are not removed there are, counted up to `most`.
    pub async fn count_listed(&self, filter: &Filter, most: u32) -> Result<u32> {
        let mut query = self.readers.sql(
            "SELECT count(*) FROM (SELECT 1 FROM data_sources AS d \
             LEFT JOIN tunnels AS t ON t.data_source_id = d.id",
        );
        push_filter(&mut query, filter)?;
        query
            .push(" LIMIT ")
            .push_bind(i64::from(most))
            .push(") AS found");
        let number: i64 = query.value().await?;
        // No more than `most` were counted.
        Ok(u32::try_from(number).unwrap_or(most))
    }
}

fn push_filter(query: &mut Statement<'_>, filter: &Filter) -> Result<()> {
    query.push(" WHERE d.removed_at IS NULL");
    if let Some(search) = &filter.search {
        let pattern = pattern(search);
        query.push(" AND (d.folded_name LIKE ");
        query.push_bind(&pattern);
        query.push(r" ESCAPE '\' OR lower(d.host) LIKE ");
        query.push_bind(pattern).push(r" ESCAPE '\')");
    }
    if let Some(database_type) = filter.database_type {
        query.push(" AND d.database_type = ");
        query.push_bind(database_type.into_str());
    }
    if let Some(stage) = filter.stage {
        query.push(stage.condition());
    }
    if let Some(up) = &filter.up {
        query.push(if up.wanted {
            " AND t.id IN (SELECT CAST(value AS BIGINT) FROM json_each("
        } else {
            " AND t.id NOT IN (SELECT CAST(value AS BIGINT) FROM json_each("
        });
        query.push_bind(json(&up.tunnels)?).push("))");
    }
    Ok(())
}

/// Ends a query that has a WHERE.
pub(super) fn push_part(query: &mut Statement<'_>, id: &str, part: Part, limit: u32) {
    match part {
        Part::After(number) => query.push(&format!(" AND {id} > ")).push_bind(number),
        Part::Before(number) => query.push(&format!(" AND {id} < ")).push_bind(number),
        Part::Oldest | Part::Newest => query,
    };
    query.push(&format!(" ORDER BY {id}"));
    if matches!(part, Part::Newest | Part::Before(_)) {
        query.push(" DESC");
    }
    query.push(" LIMIT ").push_bind(i64::from(limit));
}
