//! Server-sent events: what happens to a data source, or to all of them, as it happens.
//!
//! A stream sends `event` for each entry of the data source's history, with its number as the id,
//! and after each change `state`, the data source as `GET /data-sources/{id}` shows it. The stream
//! of one data source begins with its state; a client that was cut off sends `Last-Event-ID` and gets what it missed.
//! Streams are bounded in number, and end with the server or the sign-in.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError, mpsc};

use super::auth::{self, Operator};
use super::extract::Id;
use crate::protocol::{DataSourceId, ProblemKind};
use crate::server::domain::Error;
use crate::server::domain::changes::{Wake, Watch};
use crate::server::http::app::App;
use crate::server::http::problem::ApiError;
use crate::server::http::view;
use crate::server::store::{Event, Part};

/// How often a silent stream says that it lives; proxies close what is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How often is looked whether the operator is still signed in, and the API token still works. What a page ends,
/// ends its streams at once; a command beside the server, and time, are seen by looking.
const SIGN_IN_CHECK: Duration = Duration::from_secs(5);

/// Messages that wait for a slow reader; past that, the stream waits for it.
const BACKLOG: usize = 16;

/// Events that are read at a time.
const PAGE: u32 = 500;

/// An entry of a data source's history.
#[derive(Serialize)]
struct HistoryEntry {
    data_source_id: DataSourceId,
    at: jiff::Timestamp,
    kind: String,
    actor: String,
}

/// Streams what happens to a data source
///
/// Server-sent events: `event` for each entry of its history, with its number as the id, and `state` after
/// each change, the data source as it is read. The stream begins with the state.
#[utoipa::path(get, path = "/api/v1/data-sources/{id}/events", operation_id = "watch_data_source",
    params(("id" = i64, Path, minimum = 1, description = "The data source"),
        ("Last-Event-ID" = Option<i64>, Header, description = "The last event that was read; what came after it is sent first")),
    responses((status = 200, description = "The stream; it ends with the server or the sign-in", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many streams are open")))]
pub async fn one(
    _: Operator,
    Id(id): Id<DataSourceId>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    app.data_source(id).await?;
    let watch = app.changes.watch(id);
    start(app, watch, Some(id), headers).await
}

/// Streams what happens to all data sources
///
/// Server-sent events: `event` and `state`; and `changed` where so much has changed that it is not known what.
#[utoipa::path(get, path = "/api/v1/data-sources/events", operation_id = "watch_data_sources",
    params(("Last-Event-ID" = Option<i64>, Header, description = "The last event that was read; what came after it is sent first")),
    responses((status = 200, description = "The stream; it ends with the server or the sign-in", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many streams are open")))]
pub async fn all(
    _: Operator,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let watch = app.changes.watch_all();
    start(app, watch, None, headers).await
}

async fn start(
    app: Arc<App>,
    watch: Watch,
    data_source: Option<DataSourceId>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let permit = permit(&app)?;
    let newest = app.store.newest_event().await?;
    let seen = last_event_id(&headers).map_or(newest, |id| id.min(newest));
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let stream = LiveStream {
        app,
        data_source,
        seen,
        headers,
        sender,
    };
    tokio::spawn(stream.run(watch, permit));
    let messages = stream::unfold(receiver, |mut receiver| async {
        let message = receiver.recv().await?;
        Some((Ok::<_, Infallible>(message), receiver))
    });
    // Without this, some proxies hold a stream back until it ends.
    let unbuffered = [(header::HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((
        unbuffered,
        Sse::new(messages).keep_alive(KeepAlive::new().interval(HEARTBEAT)),
    ))
}

fn permit(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    match Arc::clone(&app.web.streams).try_acquire_owned() {
        Ok(permit) => Ok(permit),
        Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err(ApiError::new(
            ProblemKind::Busy,
            "too many live streams are open; close some pages, or ask again in a while",
        )),
    }
}

fn last_event_id(headers: &HeaderMap) -> Option<i64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

struct LiveStream {
    app: Arc<App>,
    data_source: Option<DataSourceId>,
    /// The newest event that was sent.
    seen: i64,
    headers: HeaderMap,
    sender: mpsc::Sender<sse::Event>,
}

/// The reader is gone, or the database failed.
struct Ended;

impl LiveStream {
    async fn run(mut self, mut watch: Watch, _permit: OwnedSemaphorePermit) {
        if self.begin().await.is_err() {
            return;
        }
        let mut sign_in = tokio::time::interval(SIGN_IN_CHECK);
        let closed = self.sender.clone();
        loop {
            tokio::select! {
                wake = watch.next() => match wake {
                    Wake::Changed(changed) => if self.send_news(changed).await.is_err() { return },
                    Wake::Missed => {
                        if !auth::still_allowed(&self.app, &self.headers).await { return }
                        if self.send_missed().await.is_err() { return }
                    }
                    Wake::AccessChanged => {
                        if !auth::still_allowed(&self.app, &self.headers).await { return }
                    }
                    Wake::ShuttingDown => return,
                },
                _ = sign_in.tick() => {
                    if !auth::still_allowed(&self.app, &self.headers).await { return }
                }
                () = closed.closed() => return,
            }
        }
    }

    async fn begin(&mut self) -> Result<(), Ended> {
        self.send_history().await?;
        match self.data_source {
            Some(id) => self.send_state(id).await,
            None => Ok(()),
        }
    }

    /// Some have no entry of their own in the history, such as a target that was applied.
    async fn send_news(&mut self, mut changed: BTreeSet<DataSourceId>) -> Result<(), Ended> {
        changed.extend(self.send_history().await?);
        for id in changed {
            self.send_state(id).await?;
        }
        Ok(())
    }

    /// Which ones have changed without an entry in the history is not known any more.
    async fn send_missed(&mut self) -> Result<(), Ended> {
        self.send_news(self.data_source.into_iter().collect())
            .await?;
        match self.data_source {
            Some(_) => Ok(()),
            None => {
                let changed = sse::Event::default().event("changed").data("{}");
                self.send(changed).await
            }
        }
    }

    async fn send_history(&mut self) -> Result<BTreeSet<DataSourceId>, Ended> {
        let mut changed = BTreeSet::new();
        loop {
            let store = &self.app.store;
            let events = store
                .events(self.data_source, Part::After(self.seen), PAGE)
                .await
                .map_err(|error| ended(error.into()))?;
            let is_last = events.len() < PAGE as usize;
            for event in events {
                changed.insert(event.data_source);
                self.seen = event.id;
                self.send_event(event).await?;
            }
            if is_last {
                return Ok(changed);
            }
        }
    }

    async fn send_event(&self, event: Event) -> Result<(), Ended> {
        let id = event.id.to_string();
        let entry = HistoryEntry {
            data_source_id: event.data_source,
            at: event.at,
            kind: event.kind,
            actor: event.actor,
        };
        let message = sse::Event::default().event("event").id(id);
        self.send(message.json_data(entry).map_err(|_| Ended)?)
            .await
    }

    async fn send_state(&self, id: DataSourceId) -> Result<(), Ended> {
        let record = self.app.data_source(id).await.map_err(ended)?;
        let message = sse::Event::default()
            .event("state")
            .json_data(view::data_source(&self.app, &record))
            .map_err(|_| Ended)?;
        self.send(message).await
    }

    async fn send(&self, message: sse::Event) -> Result<(), Ended> {
        self.sender.send(message).await.map_err(|_| Ended)
    }
}

fn ended(error: Error) -> Ended {
    tracing::error!(?error, "a live stream cannot read the store");
    Ended
}
