//! All that is kept of what happened to a data source.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::detail::{EventRow, event_row};
use super::error::PageError;
use super::layout::{Layout, page};
use super::pages::{self, AskedPage, Pages};
use crate::protocol::DataSourceId;
use crate::server::http::address;
use crate::server::http::api::extract::Id;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;

/// Events on a page.
const LENGTH: usize = 100;

#[derive(Template)]
#[template(path = "web/events.html")]
struct EventsPage {
    layout: Layout,
    id: DataSourceId,
    name: String,
    events: Vec<EventRow>,
    pages: Pages,
}

/// `GET /data-sources/{id}/events`
pub async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
    Query(asked): Query<AskedPage>,
) -> Result<Response, PageError> {
    let record = app.data_source(id).await?;
    let found = app
        .past_events(id, pages::cursor(&asked.cursor), LENGTH)
        .await?;
    let path = format!("/data-sources/{id}/events");
    let template = EventsPage {
        layout: Layout::of(&app, &signed_in),
        id,
        name: record.display_name,
        pages: Pages::of(&found, |cursor| {
            address::with_query(&app, &path, &[("cursor", cursor)])
        }),
        events: found.items.into_iter().map(event_row).collect(),
    };
    page(StatusCode::OK, &template)
}
