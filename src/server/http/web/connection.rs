//! "Test connection", "Save data source", and the saved login.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::create::to_data_source;
use super::detail::{self, Extra, TypedLogin};
use super::error::{PageError, sentence};
use crate::protocol::{ConnectionTest, DataSourceId, ProblemKind, TlsMode};
use crate::server::app::App;
use crate::server::http::api::connection;
use crate::server::http::api::extract::{Body, Id, OptionalBody};
use crate::server::http::api::problem::ApiError;
use crate::server::http::browser::SignedIn;

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
            tls: TlsMode::from_name(&self.tls),
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
    let body = Body(login.read());
    let state = State(Arc::clone(&app));
    match connection::test(signed_in.operator(), Id(id), state, body).await {
        Ok(result) => {
            let extra = Extra {
                typed: Some(typed),
                result: Some(result.0),
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
    if login.is_none() && app.store.data_source(id).await?.is_saved() {
        let error = ApiError::invalid("enter the database's name and the user to save them");
        return refused(&app, &signed_in, id, typed, error).await;
    }
    let state = State(Arc::clone(&app));
    match connection::save(signed_in.operator(), Id(id), state, OptionalBody(login)).await {
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
    let state = State(Arc::clone(&app));
    connection::forget_login(signed_in.operator(), Id(id), state).await?;
    Ok(to_data_source(&app, id))
}

/// The page again with what was typed, for what the operator can mend.
async fn refused(
    app: &App,
    signed_in: &SignedIn,
    id: DataSourceId,
    typed: TypedLogin,
    error: ApiError,
) -> Result<Response, PageError> {
    use ProblemKind::{InvalidRequest, PasswordNeeded, WrongState};
    let kind = error.problem().kind;
    if !matches!(kind, InvalidRequest | PasswordNeeded | WrongState) {
        return Err(error.into());
    }
    let extra = Extra {
        typed: Some(typed),
        result: None,
        error: Some(sentence(&error.problem().detail)),
    };
    detail::answer(app, signed_in, id, error.status(), extra).await
}
