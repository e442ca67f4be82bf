//! What a browser sends along with every request: the session's cookie, and from where it comes.

use axum::http::{HeaderMap, HeaderValue, Method, header};

use super::problem::ApiError;
use crate::protocol::ProblemKind;
use crate::server::domain::Actor;
use crate::server::domain::token::TokenHash;
use crate::server::http::app::App;
use crate::server::store::{OperatorAccount, StoreError};

/// A signed-in operator; the gate has let them in.
#[derive(Clone)]
pub struct SignedIn {
    pub account: OperatorAccount,
    /// The hash of the session's cookie.
    pub session: TokenHash,
    /// What this session's forms carry.
    pub form_token: String,
}

impl SignedIn {
    /// As whom this operator does what he does.
    pub fn actor(&self) -> Actor {
        Actor::Operator(self.account.name.clone())
    }
}

/// Who sent this request, by its cookie.
pub async fn signed_in(app: &App, headers: &HeaderMap) -> Result<Option<SignedIn>, StoreError> {
    let Some(cookie) = session_cookie(app, headers) else {
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
pub async fn api_operator(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Actor>, ApiError> {
    let Some(signed_in) = signed_in(app, headers).await? else {
        return Ok(None);
    };
    if !method.is_safe() {
        let sent = headers.get("x-csrf-token").and_then(|v| v.to_str().ok());
        let is_ours = is_from_here(app, headers)
            && sent
                .zip(session_cookie(app, headers))
                .is_some_and(|(sent, cookie)| app.secret.is_form_token(cookie, sent));
        if !is_ours {
            return Err(ApiError::new(
                ProblemKind::Forbidden,
                "a change with a browser's cookie needs the page's form token in X-CSRF-Token; programs use an API token",
            ));
        }
    }
    Ok(Some(signed_in.actor()))
}

/// Whether a request was sent by a page of this server, as far as the browser says.
pub fn is_from_here(app: &App, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(HeaderValue::to_str);
    match text(header::ORIGIN) {
        None => true,
        Some(Err(_)) => false,
        // The name the browser used for us may differ from the public one: 127.0.0.1, say.
        Some(Ok(origin)) => {
            let host = text(header::HOST).and_then(Result::ok);
            let authority = origin.split_once("://").map(|(_, rest)| rest);
            origin == app.web.origin || (host.is_some() && authority == host)
        }
    }
}

/// The cookie of whoever is signed in; what follows the name is what other cookies are for.
pub const SESSION: &str = "";

/// The value of the session's cookie, signed in or not any more.
pub fn session_cookie<'h>(app: &App, headers: &'h HeaderMap) -> Option<&'h str> {
    cookie(app, headers, SESSION)
}

/// The value of our cookie for this purpose, if it could be one of ours.
pub fn cookie<'h>(app: &App, headers: &'h HeaderMap, purpose: &str) -> Option<&'h str> {
    let name = app.web.cookie_name(purpose);
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(found, value)| *found == name && value.starts_with("hts_"))
        .map(|(_, value)| value)
}

/// A `Set-Cookie` for this many seconds; none takes it away.
pub fn set_cookie(
    app: &App,
    purpose: &str,
    value: &str,
    seconds: u64,
) -> Result<HeaderValue, ApiError> {
    let secure = if app.web.https { "; Secure" } else { "" };
    // What else is served at other paths of this host must not get it.
    let path = match app.web.path("") {
        base if base.is_empty() => "/".to_owned(),
        base => base,
    };
    let name = app.web.cookie_name(purpose);
    let text =
        format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).map_err(|error| ApiError::internal(&error))
}
