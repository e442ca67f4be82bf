//! Signing in by a one-time link or a password, and signing out.

use std::net::SocketAddr;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::error::PageError;
use super::forms;
use super::known_browser;
use super::layout::{Layout, page};
use super::session;
use crate::server::domain::Actor;
use crate::server::domain::token::TokenHash;
use crate::server::http::app::App;
use crate::server::http::browser::{self, SignedIn};
use crate::server::http::problem::ApiError;
use crate::server::http::rate_limit::Asker;
use crate::server::passwords::{BUSY, LONGEST, Place};
use crate::server::store::OperatorAccount;

/// When whoever found too many before him is asked to come again, in seconds.
const BUSY_SECONDS: u64 = 2;

/// Where to go after signing in.
#[derive(Deserialize)]
pub struct Next {
    next: Option<String>,
}

/// The form of the sign-in page.
#[derive(Deserialize)]
pub struct Credentials {
    name: String,
    password: String,
    next: String,
}

#[derive(Template)]
#[template(path = "web/sign_in.html")]
struct SignInPage {
    layout: Layout,
    name: String,
    next: String,
    error: Option<String>,
}

#[derive(Template)]
#[template(path = "web/login_link.html")]
struct LinkPage {
    layout: Layout,
    works: bool,
    action: String,
}

/// `GET /sign-in`
pub async fn show(
    State(app): State<Arc<App>>,
    Query(next): Query<Next>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let next = next.next.unwrap_or_default();
    if browser::signed_in(&app, &headers).await?.is_some() {
        return Ok(Redirect::to(&app.web.path(own_path(&next))).into_response());
    }
    sign_in_page(&app, &headers, StatusCode::OK, String::new(), next, None)
}

/// `POST /sign-in`
pub async fn by_password(
    State(app): State<Arc<App>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(sent): Form<Credentials>,
) -> Result<Response, PageError> {
    let name = sent.name.trim().to_owned();
    let Some(place) = app.web.passwords.place() else {
        let error = BUSY.to_owned();
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return try_later(&app, &headers, status, name, sent.next, error, BUSY_SECONDS);
    };
    let asker = match known_browser::number(&app, &headers, &name) {
        Some(browser) => Asker::Known(browser),
        None => Asker::Stranger(address.ip(), &name),
    };
    if let Err(wait) = app.web.sign_ins.attempt(asker) {
        let (seconds, minutes) = (wait.as_secs().max(1), wait.as_secs().div_ceil(60));
        let error = format!(
            "Too many attempts. Try again in {minutes} min or in a browser that has signed in before, \
             or sign in by a link: holistics-tunnel-server login-link"
        );
        let status = StatusCode::TOO_MANY_REQUESTS;
        return try_later(
            &app,
            &headers,
            status,
            name.clone(),
            sent.next,
            error,
            seconds,
        );
    }
    let account = app.store.operator(&name).await?;
    let right = is_right(place, account.as_ref(), sent.password).await?;
    let (status, error) = match &account {
        Some(account) if right && !account.disabled => {
            app.web.sign_ins.succeeded(asker);
            let session = session::begin(&app, account, "by password").await?;
            return go_signed_in(&app, own_path(&sent.next), account, session);
        }
        // Nobody else learns that there is such an account.
        Some(_) if right => (
            StatusCode::FORBIDDEN,
            "This account is disabled. Another operator can enable it.",
        ),
        _ => (
            StatusCode::UNAUTHORIZED,
            "Name or password is wrong. Without a password, sign in by a link.",
        ),
    };
    note_refused(&app, address, account.as_ref()).await;
    let error = Some(error.to_owned());
    sign_in_page(&app, &headers, status, name, sent.next, error)
}

/// An unknown name stays out of the audit log: it may be a password that was typed into the wrong field.
async fn note_refused(app: &App, address: SocketAddr, account: Option<&OperatorAccount>) {
    tracing::warn!(address = %address.ip(), "a sign-in was refused");
    let name = account.map_or("an unknown name", |account| &account.name);
    let actor = Actor::Stranger(address.ip());
    app.note_done(&actor, "sign-in refused", name).await;
}

async fn is_right(
    place: Place<'_>,
    account: Option<&OperatorAccount>,
    password: String,
) -> Result<bool, PageError> {
    let hash = account.and_then(|account| account.password_hash.clone());
    Ok(password.len() <= 4 * LONGEST
        && place
            .verify(password, hash)
            .await
            .map_err(|error| ApiError::internal(&error))?)
}

fn try_later(
    app: &App,
    headers: &HeaderMap,
    status: StatusCode,
    name: String,
    next: String,
    error: String,
    seconds: u64,
) -> Result<Response, PageError> {
    let mut response = sign_in_page(app, headers, status, name, next, Some(error))?;
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    Ok(response)
}

fn sign_in_page(
    app: &App,
    headers: &HeaderMap,
    status: StatusCode,
    name: String,
    next: String,
    error: Option<String>,
) -> Result<Response, PageError> {
    let (form_token, cookie) = forms::token_for_anybody(app, headers)?;
    let template = SignInPage {
        layout: Layout::for_anybody(app, form_token),
        name,
        next,
        error,
    };
    with_cookie(page(status, &template)?, cookie)
}

/// `GET /login/{token}`: asks for a press of a button, since programs that look at links in mails
/// and chats would use it up.
pub async fn show_link(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let works = app.store.login_link_works(&TokenHash::of(&token)).await?;
    let (form_token, cookie) = forms::token_for_anybody(&app, &headers)?;
    let template = LinkPage {
        layout: Layout::for_anybody(&app, form_token),
        works,
        action: app.web.path(&format!("/login/{token}")),
    };
    let status = if works {
        StatusCode::OK
    } else {
        StatusCode::GONE
    };
    with_cookie(page(status, &template)?, cookie)
}

/// `POST /login/{token}`
pub async fn by_link(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    match app.store.use_login_link(&TokenHash::of(&token)).await? {
        Some(account) => {
            app.sign_in_link.delete_if_over(&app.store).await;
            let session = session::begin(&app, &account, "by link").await?;
            let next = match account.password_hash {
                Some(_) => "/data-sources",
                None => "/account",
            };
            go_signed_in(&app, next, &account, session)
        }
        None => show_link(State(app), Path(token), headers).await,
    }
}

/// `POST /sign-out`
pub async fn sign_out(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
) -> Result<Response, PageError> {
    let cookie = session::end(&app, &signed_in).await?;
    let to = Redirect::to(&app.web.path("/sign-in"));
    Ok(([(header::SET_COOKIE, cookie)], to).into_response())
}

fn go_signed_in(
    app: &App,
    path: &str,
    account: &OperatorAccount,
    session: HeaderValue,
) -> Result<Response, PageError> {
    let known = known_browser::cookie(app, &account.name)?;
    let cookies = AppendHeaders([session, known].map(|cookie| (header::SET_COOKIE, cookie)));
    Ok((cookies, Redirect::to(&app.web.path(path))).into_response())
}

fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Result<Response, PageError> {
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A path of this server, or the list: `next` comes from the address bar, and must lead nowhere else.
fn own_path(next: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/');
    if next.starts_with('/') && !next.starts_with("//") && next.bytes().all(is_plain) {
        next
    } else {
        "/data-sources"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_no_other_site() {
        assert_eq!(own_path("/data-sources/7"), "/data-sources/7");
        for elsewhere in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a?b=c",
        ] {
            assert_eq!(own_path(elsewhere), "/data-sources", "{elsewhere}");
        }
    }
}
