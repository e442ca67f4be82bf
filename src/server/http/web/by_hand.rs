//! The page on which an operator registers the key of a machine that is set up by hand, and the button that
//! says that a tunnel leads to its new target.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::create::to_data_source;
use super::detail::manual::{self, Guide, Shown};
use super::error::{PageError, words};
use super::layout::{Layout, page};
use crate::protocol::{DataSourceId, KeyByHand};
use crate::server::domain::{Error, host_keys, public_key};
use crate::server::http::api::extract::Id;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::problem::ApiError;
use crate::server::store::Record;

/// The form, as it was typed.
#[derive(Default, Deserialize)]
pub struct Typed {
    #[serde(default)]
    public_key: String,
    /// Present where it is ticked.
    shared: Option<String>,
}

#[derive(Template)]
#[template(path = "web/by_hand.html")]
struct ByHandPage {
    layout: Layout,
    id: DataSourceId,
    name: String,
    /// The fingerprint of the key that another one is to replace.
    present: Option<String>,
    public_key: String,
    /// Whether to ask if one machine is to hold several tunnels.
    asks_if_shared: bool,
    error: Option<String>,
    guides: Vec<Guide>,
}

/// `GET /data-sources/{id}/by-hand`
pub async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
) -> Result<Response, PageError> {
    form(&app, &signed_in, id, Typed::default(), None).await
}

/// `POST /data-sources/{id}/by-hand`
pub async fn register(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
    Form(typed): Form<Typed>,
) -> Result<Response, PageError> {
    let key = KeyByHand {
        public_key: typed.public_key.clone(),
        shared: typed.shared.is_some(),
    };
    match app.register_by_hand(id, key, &signed_in.actor()).await {
        Ok(_) => Ok(to_data_source(&app, id)),
        Err(error @ (Error::InvalidKey(_) | Error::KeyElsewhere(_))) => {
            form(&app, &signed_in, id, typed, Some(error)).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /data-sources/{id}/target-applied`
pub async fn confirm_target(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
) -> Result<Response, PageError> {
    app.confirm_target(id, &signed_in.actor()).await?;
    Ok(to_data_source(&app, id))
}

async fn form(
    app: &App,
    signed_in: &SignedIn,
    id: DataSourceId,
    typed: Typed,
    error: Option<Error>,
) -> Result<Response, PageError> {
    let record = app.data_source(id).await?;
    ensure_by_hand_is_a_way(&record)?;
    let manual = manual::manual(app, &record)?.ok_or(Error::NoTunnel)?;
    let status = error
        .clone()
        .map_or(StatusCode::OK, |error| ApiError::from(error).status());
    let template = ByHandPage {
        layout: Layout::of(app, signed_in),
        id,
        present: present_key(&record),
        // A private key that was pasted by mistake goes nowhere else.
        public_key: Some(typed.public_key)
            .filter(|text| !public_key::is_private(text))
            .unwrap_or_default(),
        asks_if_shared: matches!(error, Some(Error::KeyElsewhere(_))),
        error: error.map(|error| reason(&error)),
        guides: manual.guides,
        name: record.display_name,
    };
    page(status, &template)
}

/// A page has a box to tick where a program sends a field.
fn reason(error: &Error) -> String {
    let page = words(error);
    page.replace(" (`\"shared\": true`)", " below")
}

fn ensure_by_hand_is_a_way(record: &Record) -> Result<(), Error> {
    if record.is_leaving() {
        return Err(Error::NotFound);
    }
    if record.is_enrolled() && !record.is_by_hand() {
        return Err(Error::EnrolledByCommand);
    }
    Ok(())
}

fn present_key(record: &Record) -> Option<String> {
    let registrant = record.tunnel.as_ref()?.registrant.as_ref()?;
    host_keys::fingerprint(registrant.public_key.as_deref()?).ok()
}
