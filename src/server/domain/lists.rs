//! Lists of data sources and of what was done, page by page.

use super::control_plane::ControlPlane;
use super::cursor::{self, List};
use super::error::{Error, Result};
use super::inputs::{self, Invalid};
use crate::protocol::{DataSourceId, DataSourceState, DatabaseType, LONGEST_PAGE};
use crate::server::store::{self, ActorKind, AuditEntry, Event, Filter, Part, Record, Stage, Up};

/// The longest text that is searched for, in characters: no name that is found by it is longer.
pub const LONGEST_SEARCH: usize = 200;

/// Up to how many data sources are counted that match a search. What is beyond would be counted for nothing:
/// nobody reads so many.
const COUNTED: u32 = 1_000;

/// Which data sources are asked for. What is absent is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Has this in its name or host, in upper or lower case.
    pub search: Option<String>,
    /// Is in this state now.
    pub state: Option<DataSourceState>,
    pub database_type: Option<DatabaseType>,
}

/// A page of a list that begins with the newest.
#[derive(Debug)]
pub struct Page<T> {
    /// What is on it, newest first.
    pub items: Vec<T>,
    /// The cursor of the page before, if there is one.
    pub newer: Option<String>,
    /// The cursor of the page after it, if there is one.
    pub older: Option<String>,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// As many.
    Exactly(u32),
    MoreThan(u32),
}

impl ControlPlane {
    /// At most `limit` of the data sources that are not removed, oldest first, and the cursor of the next ones.
    pub async fn list(
        &self,
        wanted: &Wanted,
        cursor: Option<&str>,
        limit: u16,
    ) -> Result<(Vec<Record>, Option<String>)> {
        if !(1..=LONGEST_PAGE).contains(&limit) {
            let rule = format!("must be from 1 to {LONGEST_PAGE}");
            return Err(Invalid::new("limit", rule).into());
        }
        let part = match cursor {
            None => Part::Oldest,
            Some(cursor) => match self.place(List::DataSources, cursor)? {
                part @ Part::After(_) => part,
                _ => return Err(Error::InvalidCursor),
            },
        };
        let filter = self.filter(wanted)?;
        let limit = usize::from(limit);
        let mut records = self.store.listed(&filter, part, one_more(limit)).await?;
        let has_more = records.len() > limit;
        records.truncate(limit);
        let last = records.last().filter(|_| has_more);
        let next = last.map(|last| cursor::after(&self.secret, List::DataSources, last.id.0));
        self.know_regions_of(&records).await?;
        Ok((records, next))
    }

    /// A page of the data sources that are not removed; the newest ones without a cursor.
    pub async fn data_sources(
        &self,
        wanted: &Wanted,
        cursor: Option<&str>,
        length: usize,
    ) -> Result<Page<Record>> {
        let filter = self.filter(wanted)?;
        let read = |part, limit| self.store.listed(&filter, part, limit);
        let number = |record: &Record| record.id.0;
        self.page(List::DataSources, cursor, length, read, number)
            .await
    }

    /// How many data sources there are that are not removed; of those that match, not all are counted.
    pub async fn count(&self, wanted: &Wanted) -> Result<Count> {
        let filter = self.filter(wanted)?;
        let most = if filter.is_empty() {
            u32::MAX
        } else {
            COUNTED + 1
        };
        let number = self.store.count_listed(&filter, most).await?;
        Ok(if number == most {
            Count::MoreThan(COUNTED)
        } else {
            Count::Exactly(number)
        })
    }

    /// A page of the audit log; the newest entries without a cursor.
    pub async fn audit_log(
        &self,
        kind: Option<ActorKind>,
        cursor: Option<&str>,
        length: usize,
    ) -> Result<Page<AuditEntry>> {
        let read = |part, limit| self.store.audit_log(kind, part, limit);
        let number = |entry: &AuditEntry| entry.id;
        self.page(List::Audit, cursor, length, read, number).await
    }

    /// A page of what happened to a data source; the newest events without a cursor.
    pub async fn past_events(
        &self,
        id: DataSourceId,
        cursor: Option<&str>,
        length: usize,
    ) -> Result<Page<Event>> {
        let read = |part, limit| self.store.events(Some(id), part, limit);
        let number = |event: &Event| event.id;
        self.page(List::Events, cursor, length, read, number).await
    }

    async fn page<T, Reading: Future<Output = store::Result<Vec<T>>>>(
        &self,
        list: List,
        cursor: Option<&str>,
        length: usize,
        read: impl Fn(Part, u32) -> Reading,
        number: impl Fn(&T) -> i64,
    ) -> Result<Page<T>> {
        let mut part = match cursor {
            None => Part::Newest,
            Some(cursor) => self.place(list, cursor)?,
        };
        let mut items = read(part, one_more(length)).await?;
        let mut has_more = items.len() > length;
        let is_cut = match part {
            Part::After(_) => !has_more,
            Part::Before(_) => items.is_empty(),
            Part::Newest | Part::Oldest => false,
        };
        if is_cut {
            // Those are the newest, or nothing is left there: the newest page, whole.
            part = Part::Newest;
            items = read(part, one_more(length)).await?;
            has_more = items.len() > length;
        }
        items.truncate(length);
        if matches!(part, Part::After(_)) {
            items.reverse();
        }
        let (has_newer, has_older) = match part {
            Part::After(_) | Part::Oldest => (has_more, true),
            Part::Before(_) => (true, has_more),
            Part::Newest => (false, has_more),
        };
        let newest = items.first().filter(|_| has_newer).map(&number);
        let oldest = items.last().filter(|_| has_older).map(&number);
        Ok(Page {
            newer: newest.map(|number| cursor::after(&self.secret, list, number)),
            older: oldest.map(|number| cursor::before(&self.secret, list, number)),
            items,
        })
    }

    fn place(&self, list: List, cursor: &str) -> Result<Part> {
        cursor::place(&self.secret, list, cursor)
    }

    fn filter(&self, wanted: &Wanted) -> Result<Filter, Invalid> {
        if let Some(search) = &wanted.search {
            inputs::searched("search", search, LONGEST_SEARCH)?;
        }
        let search = wanted.search.as_deref().map(str::trim);
        let search = search.filter(|search| !search.is_empty());
        let (stage, up) = match wanted.state.map(stored_state).transpose()? {
            None => (None, None),
            Some((stage, up)) => (Some(stage), up),
        };
        Ok(Filter {
            search: search.map(str::to_owned),
            database_type: wanted.database_type,
            stage,
            up: up.map(|wanted| Up {
                tunnels: self.tunnels.up(),
                wanted,
            }),
        })
    }
}

/// One more than are shown tells whether there are more.
fn one_more(length: usize) -> u32 {
    u32::try_from(length).map_or(u32::MAX, |length| length.saturating_add(1))
}

/// What [`Record::state`] finds, the other way round: how far such a data source has come, and whether its
/// tunnel is up, if that matters.
fn stored_state(state: DataSourceState) -> Result<(Stage, Option<bool>), Invalid> {
    Ok(match state {
        DataSourceState::Draft => (Stage::Draft, None),
        DataSourceState::Enrolled => (Stage::Enrolled, Some(false)),
        DataSourceState::Connected => (Stage::Enrolled, Some(true)),
        DataSourceState::Saved => (Stage::Saved, None),
        DataSourceState::Active => (Stage::Serving, Some(true)),
        DataSourceState::Down => (Stage::Serving, Some(false)),
        DataSourceState::Removing => (Stage::Removing, None),
        DataSourceState::Removed => {
            let rule = "must be another one: those that are removed are in no list";
            return Err(Invalid::new("state", rule));
        }
    })
}
