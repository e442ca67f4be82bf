//! Who is signed in: the session cookie, and the gate before every page.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::error::PageError;
use crate::protocol::ProblemKind;
use crate::server::domain::token::Token;
use crate::server::http::app::App;
use crate::server::http::browser::{self, SignedIn};
use crate::server::http::problem::ApiError;
use crate::server::store::OperatorAccount;

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
    match browser::signed_in(&app, request.headers()).await {
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

/// Begins a session and returns the `Set-Cookie` for it.
pub(super) async fn begin(
    app: &App,
    account: &OperatorAccount,
    how: &str,
) -> Result<HeaderValue, ApiError> {
    let token = Token::session();
    let begun = app.store.begin_session(&token.hash(), account, how).await?;
    if !begun {
        let detail = "This account was disabled or removed a moment ago, so you are not signed in.";
        return Err(ApiError::new(ProblemKind::Forbidden, detail));
    }
    tracing::info!(operator = account.name, how, "signed in");
    let lifetime = app.web.limits.lifetime.as_secs();
    browser::set_cookie(app, browser::SESSION, token.as_str(), lifetime)
}

/// Ends the session and returns the `Set-Cookie` that takes it from the browser.
pub(super) async fn end(app: &App, signed_in: &SignedIn) -> Result<HeaderValue, ApiError> {
    app.end_session(&signed_in.session, &signed_in.account)
        .await?;
    browser::set_cookie(app, browser::SESSION, "", 0)
}
