//! API tokens: made, shown once, revoked.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::error::{PageError, sentence};
use super::layout::{Layout, Timestamp, page};
use crate::server::domain::api_tokens::{self, NewToken, TokenState, USUAL_LIFETIME};
use crate::server::domain::{AccessError, inputs};
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::store::{ListedApiToken, Scope};

const DAY: u64 = 24 * 3600;

/// What the form offers.
const LIFETIMES: [(&str, &str, Option<Duration>); 5] = [
    ("7d", "7 days", Some(Duration::from_secs(7 * DAY))),
    ("30d", "30 days", Some(Duration::from_secs(30 * DAY))),
    ("90d", "90 days", Some(USUAL_LIFETIME)),
    ("365d", "365 days", Some(Duration::from_secs(365 * DAY))),
    ("never", "Never: until it is revoked", None),
];

/// The form, as it was typed.
#[derive(Deserialize)]
pub struct Typed {
    #[serde(default)]
    name: String,
    #[serde(default = "usual_scope")]
    scope: String,
    #[serde(default = "usual_lifetime")]
    expires: String,
}

fn usual_scope() -> String {
    Scope::Operate.into_str().to_owned()
}

fn usual_lifetime() -> String {
    "90d".to_owned()
}

impl Default for Typed {
    fn default() -> Self {
        Typed {
            name: String::new(),
            scope: usual_scope(),
            expires: usual_lifetime(),
        }
    }
}

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
    typed: Typed,
    lifetimes: Vec<(&'static str, &'static str)>,
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
    scope: &'static str,
    made_by: String,
    created: Timestamp,
    expires: Option<Timestamp>,
    last_used: Option<Timestamp>,
    revoked: Option<Timestamp>,
    /// Why it does not work, though it is not revoked.
    trouble: Option<&'static str>,
}

/// `GET /api-tokens`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    answer(&app, &signed_in, Typed::default(), Ok(None)).await
}

/// `POST /api-tokens`
pub async fn create(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(typed): Form<Typed>,
) -> Result<Response, PageError> {
    let name = typed.name.trim().to_owned();
    let made = match read(&typed, &name) {
        Ok(new) => api_tokens::create(&app.store, &new, Some(&signed_in.account)).await,
        Err(error) => return answer(&app, &signed_in, typed, Err(error)).await,
    };
    match made {
        Ok(token) => {
            let token = token.as_str().to_owned();
            let made = Made { name, token };
            answer(&app, &signed_in, Typed::default(), Ok(Some(made))).await
        }
        Err(error @ (AccessError::NameTaken(_) | AccessError::TooLong)) => {
            let error = sentence(&error.to_string());
            answer(&app, &signed_in, typed, Err(error)).await
        }
        Err(error) => Err(error.into()),
    }
}

fn read<'a>(typed: &Typed, name: &'a str) -> Result<NewToken<'a>, String> {
    inputs::identifier("the name", name).map_err(|error| sentence(&error.to_string()))?;
    let scope = typed
        .scope
        .parse()
        .map_err(|_| "Choose what the token may do.")?;
    let lifetime = LIFETIMES
        .into_iter()
        .find(|(value, _, _)| *value == typed.expires);
    let (_, _, lifetime) = lifetime.ok_or("Choose when the token expires.")?;
    Ok(NewToken {
        name,
        scope,
        lifetime,
    })
}

/// `POST /api-tokens/revoke`
pub async fn revoke(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Form(sent): Form<Named>,
) -> Result<Response, PageError> {
    match app.revoke_api_token(&sent.name, &signed_in.account).await {
        // It was revoked already, from another page: the list says so.
        Ok(()) | Err(AccessError::NoSuchToken(_)) => {
            Ok(Redirect::to(&app.web.path("/api-tokens")).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn answer(
    app: &App,
    signed_in: &SignedIn,
    typed: Typed,
    outcome: Result<Option<Made>, String>,
) -> Result<Response, PageError> {
    let tokens = app.store.api_tokens().await?;
    let (status, made, error) = match outcome {
        Ok(made) => (StatusCode::OK, made, None),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, None, Some(error)),
    };
    let template = TokensPage {
        layout: Layout::of(app, signed_in),
        tokens: tokens.into_iter().map(row).collect(),
        typed,
        lifetimes: LIFETIMES.map(|(value, words, _)| (value, words)).into(),
        made,
        error,
    };
    page(status, &template)
}

fn row(token: ListedApiToken) -> TokenRow {
    TokenRow {
        scope: token.scope.into_str(),
        trouble: match api_tokens::state(&token) {
            TokenState::Works | TokenState::Revoked(_) => None,
            TokenState::Expired => Some("expired"),
            TokenState::OperatorDisabled => Some("operator disabled"),
        },
        revoked: token.revoked_at.map(Timestamp),
        made_by: token
            .made_by
            .unwrap_or_else(|| "somebody, before that was kept".to_owned()),
        created: Timestamp(token.created_at),
        expires: token.expires_at.map(Timestamp),
        last_used: token.last_used_at.map(Timestamp),
        name: token.name,
    }
}
