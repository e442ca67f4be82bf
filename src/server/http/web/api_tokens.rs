//! API tokens: made, shown once, revoked.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::error::{PageError, sentence};
use super::layout::{Layout, Timestamp, page};
use crate::server::domain::{inputs, operators};
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::store::OperatorToken;

/// A token's name.
#[derive(Deserialize)]
pub struct Named {
    name: String,
}

#[derive(Template)]
#[template(path = "web/api_tokens.html")]
struct TokensPage {
    layout: Layout,
    tokens: Vec<TokenRow>,
    typed: String,
    /// The token that was just made: shown now and never again.
    made: Option<Made>,
    error: Option<String>,
}

struct Made {
    name: String,
    token: String,
}

struct TokenRow {
    name: String,
    created: Timestamp,
    revoked: Option<Timestamp>,
}

/// `GET /api-tokens`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    answer(&app, &signed_in, String::new(), Ok(None)).await
}

/// `POST /api-tokens`
pub async fn create(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(sent): Form<Named>,
) -> Result<Response, PageError> {
    let name = sent.name.trim().to_owned();
    if let Err(error) = inputs::identifier("the name", &name) {
        return answer(&app, &signed_in, name, Err(sentence(&error.to_string()))).await;
    }
    let Some(token) = operators::create_api_token(&app.store, &name).await? else {
        let error = "There is an API token of this name already; choose another name.";
        return answer(&app, &signed_in, name, Err(error.to_owned())).await;
    };
    note(&app, &signed_in, "API token made", &name).await;
    let made = Made {
        token: token.as_str().to_owned(),
        name,
    };
    answer(&app, &signed_in, String::new(), Ok(Some(made))).await
}

/// `POST /api-tokens/revoke`
pub async fn revoke(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(sent): Form<Named>,
) -> Result<Response, PageError> {
    // Otherwise it was revoked already, from another page: the list says so.
    if app.store.revoke_operator_token(&sent.name).await? {
        note(&app, &signed_in, "API token revoked", &sent.name).await;
    }
    Ok(Redirect::to(&app.web.path("/api-tokens")).into_response())
}

async fn note(app: &App, who: &SignedIn, action: &str, name: &str) {
    app.note_done(&who.account.name, action, name).await;
}

async fn answer(
    app: &App,
    signed_in: &SignedIn,
    typed: String,
    outcome: Result<Option<Made>, String>,
) -> Result<Response, PageError> {
    let tokens = app.store.operator_tokens().await?;
    let row = |token: OperatorToken| TokenRow {
        name: token.name,
        created: Timestamp(token.created_at),
        revoked: token.revoked_at.map(Timestamp),
    };
    let (status, made, error) = match outcome {
        Ok(made) => (StatusCode::OK, made, None),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, None, Some(error)),
    };
    let template = TokensPage {
        layout: Layout::of(app, signed_in),
        tokens: tokens.into_iter().map(row).collect(),
        typed,
        made,
        error,
    };
    page(status, &template)
}
