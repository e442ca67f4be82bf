//! Forms: no other site can send one in somebody's name.
//!
//! Every form carries a token that belongs to the browser's cookie: the session's, or before sign-in
//! a random one of its own. Where the browser says from which site the form was sent, that must be
//! this one.

use std::sync::Arc;

use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::error::PageError;
use crate::protocol::ProblemKind;
use crate::server::domain::token::Token;
use crate::server::http::api::extract::BODY_LIMIT;
use crate::server::http::app::App;
use crate::server::http::browser;
use crate::server::http::problem::ApiError;

/// The cookie of a browser that is not signed in.
const ANYBODY: &str = "-form";

/// How long a browser may take from opening a sign-in page to sending it, in seconds.
const SIGN_IN_PAGE_SECONDS: u64 = 24 * 3600;

/// Refuses what changes something and carries no token of this browser.
pub async fn protect(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, PageError> {
    if request.method().is_safe() {
        return Ok(next.run(request).await);
    }
    if request.method() != Method::POST || !browser::is_from_here(&app, request.headers()) {
        return Err(refused().into());
    }
    let (parts, form) = request.into_parts();
    // It is there and within its bound already.
    let form = body::to_bytes(form, BODY_LIMIT)
        .await
        .map_err(|error| ApiError::internal(&error))?;
    let sent = url::form_urlencoded::parse(&form).find(|(name, _)| name == "csrf");
    let is_ours = sent
        .zip(browser_cookie(&app, &parts.headers))
        .is_some_and(|((_, sent), cookie)| app.secret.is_form_token(cookie, &sent));
    if is_ours {
        Ok(next.run(Request::from_parts(parts, Body::from(form))).await)
    } else {
        Err(refused().into())
    }
}

fn refused() -> ApiError {
    ApiError::new(
        ProblemKind::Forbidden,
        "This form is too old or was not sent from this site, so nothing was changed. Go back, reload the page and send it again.",
    )
}

/// The cookie that a browser's forms belong to.
fn browser_cookie<'h>(app: &App, headers: &'h HeaderMap) -> Option<&'h str> {
    browser::session_cookie(app, headers).or_else(|| browser::cookie(app, headers, ANYBODY))
}

/// The form token for a browser that may not be signed in, and the `Set-Cookie` if it needs one.
pub(super) fn token_for_anybody(
    app: &App,
    headers: &HeaderMap,
) -> Result<(String, Option<HeaderValue>), ApiError> {
    if let Some(cookie) = browser_cookie(app, headers) {
        return Ok((app.secret.form_token(cookie), None));
    }
    let token = Token::session();
    let cookie = browser::set_cookie(app, ANYBODY, token.as_str(), SIGN_IN_PAGE_SECONDS)?;
    Ok((app.secret.form_token(token.as_str()), Some(cookie)))
}
