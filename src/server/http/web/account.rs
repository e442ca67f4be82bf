//! One's own account: the password.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::error::PageError;
use super::layout::{Layout, page};
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::problem::ApiError;
use crate::server::http::rate_limit::Asker;
use crate::server::passwords::{self, BUSY};

#[derive(Template)]
#[template(path = "web/account.html")]
struct AccountPage {
    layout: Layout,
    name: String,
    has_password: bool,
    shortest: usize,
    longest: usize,
    error: Option<String>,
    done: bool,
}

/// The form.
#[derive(Deserialize)]
pub struct NewPassword {
    #[serde(default)]
    present: String,
    password: String,
    again: String,
}

/// `GET /account`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    answer(&app, &signed_in, StatusCode::OK, None, false)
}

/// `POST /account`
pub async fn set_password(
    State(app): State<Arc<App>>,
    mut signed_in: SignedIn,
    Form(sent): Form<NewPassword>,
) -> Result<Response, PageError> {
    let refused = |status, error: String| answer(&app, &signed_in, status, Some(error), false);
    if let Some(error) = complaint(&sent) {
        return refused(StatusCode::UNPROCESSABLE_ENTITY, error);
    }
    if signed_in.account.password_hash.is_some() {
        let asker = Asker::Known(&signed_in.form_token);
        let Some(place) = app.web.passwords.place() else {
            return refused(StatusCode::SERVICE_UNAVAILABLE, BUSY.to_owned());
        };
        if app.web.sign_ins.attempt(asker).is_err() {
            let error = "Too many attempts. Try again in a quarter of an hour.";
            return refused(StatusCode::TOO_MANY_REQUESTS, error.to_owned());
        }
        let hash = signed_in.account.password_hash.clone();
        if !place
            .verify(sent.present, hash)
            .await
            .map_err(|error| ApiError::internal(&error))?
        {
            let error = "The current password is wrong.";
            return refused(StatusCode::UNPROCESSABLE_ENTITY, error.to_owned());
        }
        app.web.sign_ins.succeeded(asker);
    }
    let Some(place) = app.web.passwords.place() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, BUSY.to_owned());
    };
    let hash = place
        .hash(sent.password)
        .await
        .map_err(|error| ApiError::internal(&error))?;
    app.set_password(&signed_in.account, &hash, &signed_in.session)
        .await?;
    signed_in.account.password_hash = Some(hash);
    answer(&app, &signed_in, StatusCode::OK, None, true)
}

fn complaint(sent: &NewPassword) -> Option<String> {
    let length = sent.password.chars().count();
    if length < passwords::SHORTEST {
        return Some(format!(
            "The password must have at least {} characters.",
            passwords::SHORTEST
        ));
    }
    if length > passwords::LONGEST || sent.present.chars().count() > passwords::LONGEST {
        return Some(format!(
            "A password has at most {} characters.",
            passwords::LONGEST
        ));
    }
    (sent.password != sent.again).then(|| "The two new passwords differ.".to_owned())
}

fn answer(
    app: &App,
    signed_in: &SignedIn,
    status: StatusCode,
    error: Option<String>,
    done: bool,
) -> Result<Response, PageError> {
    let template = AccountPage {
        layout: Layout::of(app, signed_in),
        name: signed_in.account.name.clone(),
        has_password: signed_in.account.password_hash.is_some(),
        shortest: passwords::SHORTEST,
        longest: passwords::LONGEST,
        error,
        done,
    };
    page(status, &template)
}
