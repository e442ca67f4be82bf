//! A new data source, and another setup command for one that has lost its own.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use strum::VariantArray as _;

use super::error::{PageError, words};
use super::labels;
use super::layout::{Layout, page};
use crate::protocol::{ConnectionKind, DataSourceId, DatabaseType, NewDataSource};
use crate::server::domain::Error;
use crate::server::http::api::extract::Id;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::store::DEFAULT_REGION;

/// The form, as it was typed.
#[derive(Default, Deserialize)]
pub struct Typed {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    database_type: String,
    #[serde(default)]
    connection: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    port: String,
    #[serde(default)]
    region: String,
}

#[derive(Template)]
#[template(path = "web/new.html")]
struct NewPage {
    layout: Layout,
    typed: Typed,
    types: Vec<TypeChoice>,
    /// To choose from, where there are several.
    regions: Vec<String>,
    error: Option<String>,
}

struct TypeChoice {
    value: &'static str,
    label: &'static str,
    port: Option<u16>,
}

/// `GET /data-sources/new`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    let typed = Typed {
        database_type: DatabaseType::Postgresql.into_str().to_owned(),
        connection: ConnectionKind::default().into_str().to_owned(),
        region: DEFAULT_REGION.to_owned(),
        ..Typed::default()
    };
    form(&app, &signed_in, typed, None)
}

/// `POST /data-sources`
pub async fn create(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(typed): Form<Typed>,
) -> Result<Response, PageError> {
    let new = match read(&typed) {
        Ok(new) => new,
        Err(error) => return form(&app, &signed_in, typed, Some(error)),
    };
    match app.create(new, &signed_in.actor()).await {
        Ok((record, _)) => Ok(to_data_source(&app, record.id)),
        Err(error @ Error::Invalid(_)) => form(&app, &signed_in, typed, Some(words(&error))),
        Err(error) => Err(error.into()),
    }
}

fn read(typed: &Typed) -> Result<NewDataSource, String> {
    let database_type = typed
        .database_type
        .parse()
        .map_err(|_| "Choose a database type.")?;
    let connection = typed.connection.parse().unwrap_or_default();
    Ok(NewDataSource {
        display_name: typed.display_name.clone(),
        database_type,
        connection,
        host: typed.host.trim().to_owned(),
        port: port(&typed.port, database_type)?,
        region: Some(typed.region.clone()).filter(|region| !region.is_empty()),
    })
}

/// The port that was typed, or the usual one where nothing was.
fn port(typed: &str, database_type: DatabaseType) -> Result<u16, String> {
    match (typed.trim(), labels::usual_port(database_type)) {
        ("", Some(usual)) => Ok(usual),
        (typed, _) => typed
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| "The port must be a number between 1 and 65535.".to_owned()),
    }
}

fn form(
    app: &App,
    signed_in: &SignedIn,
    typed: Typed,
    error: Option<String>,
) -> Result<Response, PageError> {
    let status = match error {
        Some(_) => StatusCode::UNPROCESSABLE_ENTITY,
        None => StatusCode::OK,
    };
    let types = DatabaseType::VARIANTS.iter().map(|&known| TypeChoice {
        value: known.into_str(),
        label: labels::database(known),
        port: labels::usual_port(known),
    });
    let template = NewPage {
        layout: Layout::of(app, signed_in),
        typed,
        types: types.collect(),
        regions: region_choices(app),
        error,
    };
    page(status, &template)
}

/// The names of the regions, where there are several to choose from.
pub fn region_choices(app: &App) -> Vec<String> {
    let all = app.regions.all();
    match all.len() {
        0 | 1 => Vec::new(),
        _ => all.into_iter().map(|region| region.name).collect(),
    }
}

/// `POST /data-sources/{id}/command`
pub async fn new_command(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
) -> Result<Response, PageError> {
    app.renew_command(id, &signed_in.actor()).await?;
    Ok(to_data_source(&app, id))
}

/// Back to a data source's page.
pub fn to_data_source(app: &App, id: DataSourceId) -> Response {
    Redirect::to(&app.web.path(&format!("/data-sources/{id}"))).into_response()
}
