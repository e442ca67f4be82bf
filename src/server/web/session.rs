//! Who is signed in: the session cookie, and the gate before every page.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::error::PageError;
use super::forms;
use crate::protocol::ProblemKind;
use crate::server::api::App;
use crate::server::api::auth::Operator;
use crate::server::api::problem::ApiError;
use crate::server::store::{OperatorAccount, StoreError};
use crate::server::token::{Token, TokenHash, TokenKind};

/// A signed-in operator; the gate has let them in.
#[derive(Clone)]
pub struct SignedIn {
    /// Who.
    pub account: OperatorAccount,
    /// The hash of the session's cookie.
    pub session: TokenHash,
    /// What this session's forms carry.
    pub form_token: String,
}

impl SignedIn {
    /// The same person for the API's handlers.
    pub fn operator(&self) -> Operator {
        Operator {
            name: self.account.name.clone(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for SignedIn {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, PageError> {
        let signed_in = parts.extensions.get::<SignedIn>().cloned();
        signed_in
            .ok_or_else(|| PageError::from(ApiError::internal(&"a page stands before the gate")))
    }
}

/// The gate: passes who is signed in, and sends everybody else to the sign-in page.
pub async fn require(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, PageError> {
    match signed_in(&app, request.headers()).await {
        Ok(Some(signed_in)) => {
            request.extensions_mut().insert(signed_in);
            Ok(next.run(request).await)
        }
        Ok(None) => Ok(to_sign_in(&app, &request)),
        Err(error) => Err(ApiError::from(error).into()),
    }
}

fn to_sign_in(app: &App, request: &Request) -> Response {
    let target = match *request.method() {
        Method::GET if request.uri().path() != "/" => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("next", request.uri().path());
            format!("/sign-in?{}", query.finish())
        }
        _ => "/sign-in".to_owned(),
    };
    Redirect::to(&app.web.path(&target)).into_response()
}

/// Who sent this request, by its cookie.
///
/// # Errors
/// The database failed.
pub async fn signed_in(app: &App, headers: &HeaderMap) -> Result<Option<SignedIn>, StoreError> {
    let Some(cookie) = cookie(app, headers) else {
        return Ok(None);
    };
    let session = TokenHash::of(cookie);
    let account = app.store.session_operator(&session, app.web.limits).await?;
    Ok(account.map(|account| SignedIn {
        account,
        session,
        form_token: app.secret.form_token(cookie),
    }))
}

/// The operator behind an API call without a token. A call that changes something must carry the
/// form token in `X-CSRF-Token` too, and come from this very site.
///
/// # Errors
/// It does not carry it, or the database failed.
pub async fn api_operator(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<String>, ApiError> {
    let Some(signed_in) = signed_in(app, headers).await? else {
        return Ok(None);
    };
    if !method.is_safe() {
        let sent = headers.get("x-csrf-token").and_then(|v| v.to_str().ok());
        let is_ours = forms::is_from_here(app, headers)
            && sent
                .zip(cookie(app, headers))
                .is_some_and(|(sent, cookie)| app.secret.is_form_token(cookie, sent));
        if !is_ours {
            return Err(ApiError::new(
                ProblemKind::Forbidden,
                "a change with a browser's cookie needs the page's form token in X-CSRF-Token; programs use an API token",
            ));
        }
    }
    Ok(Some(signed_in.account.name))
}

/// Whether who began a live stream may still read it: the session is not over, or the API token
/// not revoked.
pub async fn still_allowed(app: &App, headers: &HeaderMap) -> bool {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|v| v.split_once(' '));
        let Some((_, token)) = token else {
            return false;
        };
        let found = app.store.token(&TokenHash::of(token.trim())).await;
        return matches!(found, Ok(Some(_)));
    }
    matches!(signed_in(app, headers).await, Ok(Some(_)))
}

/// The value of the session's cookie, signed in or not any more.
pub(super) fn cookie<'h>(app: &App, headers: &'h HeaderMap) -> Option<&'h str> {
    forms::cookie(headers, cookie_name(app))
}

/// Begins a session and returns the `Set-Cookie` for it.
///
/// # Errors
/// The database failed.
pub(super) async fn begin(
    app: &App,
    account: &OperatorAccount,
    how: &str,
) -> Result<HeaderValue, ApiError> {
    let token = Token::generate(TokenKind::Session);
    app.store
        .begin_session(&token.hash(), account, app.web.limits, how)
        .await?;
    tracing::info!(operator = account.name, how, "signed in");
    let lifetime = app.web.limits.lifetime.as_secs();
    forms::set_cookie(app, cookie_name(app), token.as_str(), lifetime)
}

/// Ends the session and returns the `Set-Cookie` that takes it from the browser.
///
/// # Errors
/// The database failed.
pub(super) async fn end(app: &App, signed_in: &SignedIn) -> Result<HeaderValue, ApiError> {
    app.store
        .end_session(&signed_in.session, &signed_in.account.name)
        .await?;
    forms::set_cookie(app, cookie_name(app), "", 0)
}

/// Browsers take a `__Host-` cookie only by https, and from no other host of the domain.
pub fn cookie_name(app: &App) -> &'static str {
    match app.web.https {
        true => "__Host-holistics-tunnel",
        false => "holistics-tunnel",
    }
}
