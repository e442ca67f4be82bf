//! Operators: who can sign in, and who may not any more.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::error::{PageError, sentence};
use super::layout::{Layout, Timestamp, page};
use crate::server::domain::AccessError;
use crate::server::domain::operators::OperatorChange;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::store::ListedOperator;

/// Whom.
#[derive(Deserialize)]
pub struct Named {
    name: String,
}

#[derive(Template)]
#[template(path = "web/operators.html")]
struct OperatorsPage {
    layout: Layout,
    operators: Vec<Row>,
    error: Option<String>,
}

struct Row {
    name: String,
    is_self: bool,
    made: Timestamp,
    signed_in: Option<Timestamp>,
    disabled: Option<Timestamp>,
    has_password: bool,
    api_tokens: i64,
}

/// `GET /operators`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    answer(&app, &signed_in, StatusCode::OK, None).await
}

/// `POST /operators/disable`
pub async fn disable(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(sent): Form<Named>,
) -> Result<Response, PageError> {
    change(&app, &signed_in, &sent.name, OperatorChange::Disable).await
}

/// `POST /operators/enable`
pub async fn enable(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(sent): Form<Named>,
) -> Result<Response, PageError> {
    change(&app, &signed_in, &sent.name, OperatorChange::Enable).await
}

/// `POST /operators/remove`
pub async fn remove(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(sent): Form<Named>,
) -> Result<Response, PageError> {
    change(&app, &signed_in, &sent.name, OperatorChange::Remove).await
}

async fn change(
    app: &App,
    signed_in: &SignedIn,
    name: &str,
    what: OperatorChange,
) -> Result<Response, PageError> {
    match app.change_operator(name, what, &signed_in.account).await {
        Ok(()) => Ok(Redirect::to(&app.web.path("/operators")).into_response()),
        Err(error @ (AccessError::Yourself | AccessError::LastWithPassword(_))) => {
            let error = sentence(&error.to_string());
            answer(app, signed_in, StatusCode::CONFLICT, Some(error)).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn answer(
    app: &App,
    signed_in: &SignedIn,
    status: StatusCode,
    error: Option<String>,
) -> Result<Response, PageError> {
    let operators = app.store.operators().await?;
    let row = |operator: ListedOperator| Row {
        is_self: operator.name == signed_in.account.name,
        made: Timestamp(operator.created_at),
        signed_in: operator.signed_in_at.map(Timestamp),
        disabled: operator.disabled_at.map(Timestamp),
        has_password: operator.has_password,
        api_tokens: operator.api_tokens,
        name: operator.name,
    };
    let template = OperatorsPage {
        layout: Layout::of(app, signed_in),
        operators: operators.into_iter().map(row).collect(),
        error,
    };
    page(status, &template)
}
