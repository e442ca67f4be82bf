//! "Test connection", "Save data source", and the saved login.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::create::to_data_source;
use super::detail::{self, Extra, TypedLogin};
use super::error::{PageError, words};
use crate::protocol::{ConnectionTest, DataSourceId};
use crate::server::domain::Error;
use crate::server::http::api::extract::Id;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::problem::ApiError;

/// The login's form.
#[derive(Deserialize)]
pub struct Login {
    #[serde(default)]
    database: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    tls: String,
}

impl Login {
    fn typed(&self) -> TypedLogin {
        TypedLogin {
            database: self.database.clone(),
            username: self.username.clone(),
            tls: self.tls.clone(),
        }
    }

    fn read(self) -> ConnectionTest {
        ConnectionTest {
            database: self.database.trim().to_owned(),
            username: self.username.trim().to_owned(),
            password: self.password,
            tls: self.tls.parse().ok(),
        }
    }

    fn is_blank(&self) -> bool {
        [&self.database, &self.username, &self.password]
            .iter()
            .all(|field| field.trim().is_empty())
    }
}

/// `POST /data-sources/{id}/test`
pub async fn test(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
    Form(login): Form<Login>,
) -> Result<Response, PageError> {
    let typed = login.typed();
    let actor = signed_in.actor();
    match app.test_connection(id, login.read(), &actor).await {
        Ok(result) => {
            let extra = Extra {
                typed: Some(typed),
                result: Some(result),
                error: None,
            };
            detail::answer(&app, &signed_in, id, StatusCode::OK, extra).await
        }
        Err(error) => refused(&app, &signed_in, id, typed, error).await,
    }
}

/// `POST /data-sources/{id}/save`: an empty form saves the data source without a login.
pub async fn save(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
    Form(login): Form<Login>,
) -> Result<Response, PageError> {
    let typed = login.typed();
    let login = (!login.is_blank()).then(|| login.read());
    if login.is_none() && app.data_source(id).await?.saved {
        let error = "Enter the database's name and the user to save them.".to_owned();
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return again(&app, &signed_in, id, status, typed, error).await;
    }
    match app.save(id, login, &signed_in.actor()).await {
        Ok(_) => Ok(to_data_source(&app, id)),
        Err(error) => refused(&app, &signed_in, id, typed, error).await,
    }
}

/// `POST /data-sources/{id}/forget-login`
pub async fn forget(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id<DataSourceId>,
) -> Result<Response, PageError> {
    app.forget_login(id, &signed_in.actor()).await?;
    Ok(to_data_source(&app, id))
}

/// The page again, for what the operator can mend.
async fn refused(
    app: &App,
    signed_in: &SignedIn,
    id: DataSourceId,
    typed: TypedLogin,
    error: Error,
) -> Result<Response, PageError> {
    use Error::{Invalid, NotYetSaved, NothingToTest, PasswordNeeded, WrongState};
    match error {
        Invalid(_) | NotYetSaved { .. } | NothingToTest | PasswordNeeded(_) | WrongState(_) => {
            let status = ApiError::from(error.clone()).status();
            again(app, signed_in, id, status, typed, words(&error)).await
        }
        error => Err(error.into()),
    }
}

/// The page again with what was typed.
async fn again(
    app: &App,
    signed_in: &SignedIn,
    id: DataSourceId,
    status: StatusCode,
    typed: TypedLogin,
    error: String,
) -> Result<Response, PageError> {
    let extra = Extra {
        typed: Some(typed),
        result: None,
        error: Some(error),
    };
    detail::answer(app, signed_in, id, status, extra).await
}
