//! Deleting a data source: with its bastion, or without.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::create::to_data_source;
use super::detail::manual::{self, Guide, Shown};
use super::error::PageError;
use super::layout::{Layout, page};
use crate::protocol::DataSourceId;
use crate::server::domain::Error;
use crate::server::http::api::extract::Id;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;

/// Which of the two.
#[derive(Deserialize)]
pub struct Choice {
    how: How,
}

/// How to delete.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    /// The bastion is cleaned by a command.
    Command,
    /// At once, whatever is on the bastion.
    Now,
}

#[derive(Template)]
#[template(path = "web/delete.html")]
struct DeletePage {
    layout: Layout,
    id: DataSourceId,
    name: String,
    is_direct: bool,
    is_enrolled: bool,
    is_by_hand: bool,
    /// What is to be removed from a machine that was set up by hand.
    guides: Vec<Guide>,
}

/// `GET /data-sources/{id}/delete`
pub async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
) -> Result<Response, PageError> {
    let record = app.data_source(id).await?;
    if record.removed {
        return Err(Error::NotFound.into());
    }
    let template = DeletePage {
        layout: Layout::of(&app, &signed_in),
        id,
        is_direct: record.tunnel.is_none(),
        is_enrolled: record.is_enrolled(),
        is_by_hand: record.is_by_hand(),
        guides: manual::removal(&app, &record)?,
        name: record.display_name,
    };
    page(StatusCode::OK, &template)
}

/// `POST /data-sources/{id}/delete`
pub async fn remove(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
    Form(choice): Form<Choice>,
) -> Result<Response, PageError> {
    let now = matches!(choice.how, How::Now);
    let is_by_hand = app.data_source(id).await?.is_by_hand();
    match app.remove(id, now, &signed_in.actor()).await? {
        Some(_) => Ok(to_data_source(&app, id)),
        // Its page says what is left on the machine.
        None if is_by_hand => Ok(to_data_source(&app, id)),
        None => Ok(Redirect::to(&app.web.path("/data-sources")).into_response()),
    }
}
