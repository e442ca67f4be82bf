//! "Test connection" and "Save data source".

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::create::to_data_source;
use super::detail::{self, Extra, TypedLogin};
use super::error::{PageError, sentence};
use super::session::SignedIn;
use crate::protocol::{ConnectionTest, ProblemKind, TlsMode};
use crate::server::api::extract::{Body, Id};
use crate::server::api::problem::ApiError;
use crate::server::api::{App, data_sources};

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
        let tls = match self.tls.as_str() {
            "disable" => TlsMode::Disable,
            "require" => TlsMode::Require,
            _ => TlsMode::Prefer,
        };
        ConnectionTest {
            database: self.database.trim().to_owned(),
            username: self.username.trim().to_owned(),
            password: self.password,
            tls: Some(tls),
        }
    }
}

/// `POST /data-sources/{id}/test`
pub async fn test(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id,
    Form(login): Form<Login>,
) -> Result<Response, PageError> {
    let typed = login.typed();
    let body = Body(login.read());
    let tested = data_sources::test(signed_in.operator(), Id(id), State(Arc::clone(&app)), body);
    match tested.await {
        Ok(result) => {
            let subject = format!("data source {id}");
            app.store
                .audit(&signed_in.account.name, "connection tested", &subject)
                .await?;
            let extra = Extra {
                typed,
                result: Some(result.0),
                error: None,
            };
            detail::answer(&app, &signed_in, id, StatusCode::OK, extra).await
        }
        Err(error) => refused(&app, &signed_in, id, typed, error).await,
    }
}

/// `POST /data-sources/{id}/save`
pub async fn save(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Id(id): Id,
    Form(login): Form<Login>,
) -> Result<Response, PageError> {
    let operator = signed_in.operator();
    match data_sources::save(operator, Id(id), State(Arc::clone(&app))).await {
        Ok(_) => Ok(to_data_source(&app, id)),
        Err(error) => refused(&app, &signed_in, id, login.typed(), error).await,
    }
}

/// The page again with what was typed, for what the operator can mend.
async fn refused(
    app: &App,
    signed_in: &SignedIn,
    id: i64,
    typed: TypedLogin,
    error: ApiError,
) -> Result<Response, PageError> {
    let kind = error.problem().kind;
    if !matches!(kind, ProblemKind::InvalidRequest | ProblemKind::WrongState) {
        return Err(error.into());
    }
    let extra = Extra {
        typed,
        result: None,
        error: Some(sentence(&error.problem().detail)),
    };
    detail::answer(app, signed_in, id, error.status(), extra).await
}
