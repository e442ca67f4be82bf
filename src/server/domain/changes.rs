//! The news inside the process that a data source changed, or who may read it, for requests that wait for it.
//!
//! Only the number travels; whoever waits reads the store again. So a missed message costs a query
//! and never a wrong answer.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::protocol::DataSourceId;

/// Messages kept for a slow reader. One that falls behind reads the store again.
const BACKLOG: usize = 64;

#[derive(Debug, Clone, Copy)]
enum News {
    Changed(DataSourceId),
    AccessChanged,
    ShuttingDown,
}

/// Where changes are announced and waited for.
#[derive(Debug)]
pub struct Changes(broadcast::Sender<News>);

impl Changes {
    /// Nobody waits yet.
    pub fn new() -> Self {
        Changes(broadcast::Sender::new(BACKLOG))
    }

    /// Wakes whoever waits for this data source.
    pub fn announce(&self, data_source: DataSourceId) {
        // An error only means that nobody waits.
        let _ = self.0.send(News::Changed(data_source));
    }

    /// Wakes whoever reads a live stream, to look whether he still may.
    pub fn announce_access_change(&self) {
        let _ = self.0.send(News::AccessChanged);
    }

    /// Wakes everybody, so that waiting requests end before the server does.
    pub fn announce_shutdown(&self) {
        let _ = self.0.send(News::ShuttingDown);
    }

    /// Begins to listen. Listen first and read the store then, so that no change falls between.
    pub fn watch(&self, data_source: DataSourceId) -> Watch {
        Watch {
            news: self.0.subscribe(),
            data_source: Some(data_source),
        }
    }

    /// The same for all data sources.
    pub fn watch_all(&self) -> Watch {
        Watch {
            news: self.0.subscribe(),
            data_source: None,
        }
    }
}

impl Default for Changes {
    fn default() -> Self {
        Changes::new()
    }
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The data source may have changed.
    Changed,
    /// Somebody may not do any more what he might.
    AccessChanged,
    /// The server ends.
    ShuttingDown,
}

/// Listens for one data source, or for all.
#[derive(Debug)]
pub struct Watch {
    news: broadcast::Receiver<News>,
    data_source: Option<DataSourceId>,
}

impl Watch {
    /// Waits for the next change ; unbounded, so use it under a time-out.
    pub async fn next(&mut self) -> Wake {
        loop {
            match self.news.recv().await {
                Ok(News::Changed(id)) if self.data_source.is_none_or(|own| own == id) => {
                    return Wake::Changed;
                }
                Ok(News::Changed(_)) => {}
                Ok(News::AccessChanged) => return Wake::AccessChanged,
                Err(RecvError::Lagged(_)) => return Wake::Changed,
                Ok(News::ShuttingDown) | Err(RecvError::Closed) => return Wake::ShuttingDown,
            }
        }
    }
}
