//! Browsers that an account has signed in from: strangers who guess at its password do not slow them down.
//!
//! Such a browser keeps a number of its own and a mark that only this server can have made of the number
//! and the account's name. The cookie lets nobody in: it gives its holder attempts of their own.

use axum::http::{HeaderMap, HeaderValue};

use crate::server::domain::token::Token;
use crate::server::http::app::App;
use crate::server::http::browser;
use crate::server::http::problem::ApiError;

/// How long a browser stays known, in seconds: a year.
const SECONDS: u64 = 365 * 24 * 3600;

const PURPOSE: &str = "-known";

/// The `Set-Cookie` for a browser that has just signed in to this account.
pub fn cookie(app: &App, account: &str) -> Result<HeaderValue, ApiError> {
    let number = Token::session();
    let mark = app.secret.browser_mark(&number, account);
    let value = format!("{}.{mark}", number.as_str());
    browser::set_cookie(app, PURPOSE, &value, SECONDS)
}

/// The number of a browser that has signed in to this account before.
pub fn number<'h>(app: &App, headers: &'h HeaderMap, account: &str) -> Option<&'h str> {
    let (number, mark) = browser::cookie(app, headers, PURPOSE)?.split_once('.')?;
    let is_known = app.secret.is_browser_mark(number, account, mark);
    is_known.then_some(number)
}
