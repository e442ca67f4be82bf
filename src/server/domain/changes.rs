//! The news inside the process that a data source changed, or who may read it, for requests that wait for it.
//!
//! Only the number travels; whoever waits reads the store again. So a missed message costs a query
//! and never a wrong answer.

use std::collections::BTreeSet;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::protocol::DataSourceId;

/// Messages kept for a slow reader: what is written in one go when thousands of sessions end at once, several
/// times over. One that falls behind reads the store again.
const BACKLOG: usize = 1_024;

#[derive(Debug, Clone, Copy)]
enum News {
    Changed(DataSourceId),
    AccessChanged,
    Missed,
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

    /// Wakes whoever reads a live stream, to check whether he still may.
    pub fn announce_access_change(&self) {
        let _ = self.0.send(News::AccessChanged);
    }

    /// Wakes everybody to read again: nobody knows what has changed.
    pub fn announce_missed(&self) {
        let _ = self.0.send(News::Missed);
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// These data sources may have changed.
    Changed(BTreeSet<DataSourceId>),
    /// Messages were missed: any data source that is listened for may have changed, and somebody's access.
    Missed,
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
    /// Waits for the next change, and takes what has changed with it; unbounded, so use it under a time-out.
    pub async fn next(&mut self) -> Wake {
        let mut changed = BTreeSet::new();
        loop {
            // Nothing is lost where this is dropped: it waits only while it has taken nothing.
            let news = if changed.is_empty() {
                self.news.recv().await
            } else {
                match self.news.try_recv() {
                    Err(TryRecvError::Empty) => return Wake::Changed(changed),
                    Err(TryRecvError::Lagged(number)) => Err(RecvError::Lagged(number)),
                    Err(TryRecvError::Closed) => Err(RecvError::Closed),
                    Ok(news) => Ok(news),
                }
            };
            match news {
                Ok(News::Changed(id)) if self.data_source.is_none_or(|own| own == id) => {
                    changed.insert(id);
                }
                Ok(News::Changed(_)) => {}
                Ok(News::AccessChanged) => return Wake::AccessChanged,
                Ok(News::Missed) | Err(RecvError::Lagged(_)) => return Wake::Missed,
                Ok(News::ShuttingDown) | Err(RecvError::Closed) => return Wake::ShuttingDown,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_changes_at_once_wakes_a_reader_once_with_each_data_source() {
        let changes = Changes::new();
        let mut all = changes.watch_all();
        let mut one = changes.watch(DataSourceId(7));
        for round in 0..2 {
            for id in 0..500 {
                changes.announce(DataSourceId(id));
            }
            let expected = (0..500).map(DataSourceId).collect();
            assert_eq!(
                all.next().now_or_never(),
                Some(Wake::Changed(expected)),
                "{round}"
            );
            assert_eq!(all.next().now_or_never(), None);
            let expected = BTreeSet::from([DataSourceId(7)]);
            assert_eq!(one.next().now_or_never(), Some(Wake::Changed(expected)));
            assert_eq!(one.next().now_or_never(), None);
        }
    }

    #[test]
    fn a_reader_who_missed_some_is_told_so() {
        let changes = Changes::new();
        let mut all = changes.watch_all();
        for id in 0..100_000 {
            changes.announce(DataSourceId(id));
        }
        assert_eq!(all.next().now_or_never(), Some(Wake::Missed));
    }

    #[test]
    fn whoever_waits_for_one_data_source_reads_again_when_nobody_knows_what_has_changed() {
        let changes = Changes::new();
        let mut one = changes.watch(DataSourceId(7));
        changes.announce_missed();
        assert_eq!(one.next().now_or_never(), Some(Wake::Missed));
    }
}
