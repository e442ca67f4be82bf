//! Another name, host, port or region.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::create::{region_choices, to_data_source};
use super::error::{PageError, words};
use super::layout::{Layout, page};
use crate::protocol::{DataSourceChange, DataSourceId};
use crate::server::domain::Error;
use crate::server::http::api::extract::Id;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::store::Record;

/// The form, as it was typed.
#[derive(Deserialize)]
pub struct Typed {
    display_name: String,
    host: String,
    port: String,
    #[serde(default)]
    region: String,
}

#[derive(Template)]
#[template(path = "web/edit.html")]
struct EditPage {
    layout: Layout,
    id: DataSourceId,
    name: String,
    typed: Typed,
    /// To choose from, where there are several.
    regions: Vec<String>,
    is_direct: bool,
    is_enrolled: bool,
    is_by_hand: bool,
    has_password: bool,
    error: Option<String>,
}

/// `GET /data-sources/{id}/edit`
pub async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
) -> Result<Response, PageError> {
    let record = app.data_source(id).await?;
    let typed = Typed {
        region: wanted_region(&record),
        display_name: record.display_name,
        host: record.host,
        port: record.port.to_string(),
    };
    form(&app, &signed_in, id, typed, None).await
}

/// `POST /data-sources/{id}/edit`
pub async fn change(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
    Form(typed): Form<Typed>,
) -> Result<Response, PageError> {
    let Some(port) = typed.port.trim().parse().ok().filter(|port| *port != 0) else {
        let error = "The port must be a number between 1 and 65535.".to_owned();
        return form(&app, &signed_in, id, typed, Some(error)).await;
    };
    let change = DataSourceChange {
        display_name: Some(typed.display_name.clone()),
        host: Some(typed.host.trim().to_owned()),
        port: Some(port),
        region: Some(typed.region.clone()).filter(|region| !region.is_empty()),
    };
    match app.change(id, change, &signed_in.actor()).await {
        Ok(_) => Ok(to_data_source(&app, id)),
        Err(
            error @ (Error::Invalid(_)
            | Error::NoTunnelServer(_)
            | Error::PortsExhausted
            | Error::PortsRest(_)),
        ) => form(&app, &signed_in, id, typed, Some(words(&error))).await,
        Err(error) => Err(error.into()),
    }
}

/// Where its tunnel is to be.
fn wanted_region(record: &Record) -> String {
    let next = record.next_place().map(|next| next.region.as_str());
    next.or(record.region()).unwrap_or_default().to_owned()
}

async fn form(
    app: &App,
    signed_in: &SignedIn,
    id: DataSourceId,
    typed: Typed,
    error: Option<String>,
) -> Result<Response, PageError> {
    let record = app.data_source(id).await?;
    if record.is_leaving() {
        return Err(Error::NotFound.into());
    }
    let status = match error {
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
        None => StatusCode::OK,
    };
    let template = EditPage {
        layout: Layout::of(app, signed_in),
        id,
        regions: match &record.tunnel {
            Some(_) => region_choices(app),
            None => Vec::new(),
        },
        is_direct: record.tunnel.is_none(),
        is_enrolled: record.is_enrolled(),
        is_by_hand: record.is_by_hand(),
        has_password: record.login.is_some_and(|login| login.password.is_some()),
        name: record.display_name,
        typed,
        error,
    };
    page(status, &template)
}
