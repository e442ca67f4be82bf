//! What a bastion fetches before it has the program: the scripts and the binary.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tower_http::services::ServeFile;

use super::App;
use super::auth::tunnel_of;
use super::problem::ApiError;
use crate::protocol::{ProblemKind, TunnelId};
use crate::server::downloads::Offer;
use crate::server::scripts;
use crate::server::store::Record;
use crate::server::token::TokenKind;

const SHELL_SCRIPT: HeaderValue = HeaderValue::from_static("text/x-shellscript; charset=utf-8");

/// `GET /i/{token}`
pub async fn bootstrap(State(app): State<Arc<App>>, Path(token): Path<String>) -> Response {
    let script = async {
        let (_, record) = tunnel(&app, &token, TokenKind::Enrollment).await?;
        if record.is_leaving() {
            return Err(ApiError::gone());
        }
        let offers = offers(&app).await?;
        rendered(scripts::bootstrap(&app.public, &token, &offers))
    };
    answer(script.await)
}

/// `GET /r/{token}`
pub async fn removal(State(app): State<Arc<App>>, Path(token): Path<String>) -> Response {
    let script = async {
        let (id, record) = tunnel(&app, &token, TokenKind::Removal).await?;
        if record.is_removed() {
            return Err(ApiError::gone());
        }
        let offers = offers(&app).await?;
        rendered(scripts::removal(&app.public, &token, &offers, id))
    };
    answer(script.await)
}

/// `GET /download/{target}/holistics-tunnel`
pub async fn download(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let file = app.downloads.file(&target).ok_or_else(|| {
        ApiError::new(
            ProblemKind::NotFound,
            "this server has no program for that target; see --dist-dir",
        )
    })?;
    match ServeFile::new(file).try_call(request).await {
        Ok(response) => Ok(response.map(Body::new)),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

async fn tunnel(app: &App, token: &str, kind: TokenKind) -> Result<(TunnelId, Record), ApiError> {
    let id = tunnel_of(&app.store, token, kind).await?;
    Ok((id, app.store.tunnel(id).await?))
}

async fn offers(app: &Arc<App>) -> Result<Vec<Offer>, ApiError> {
    let app = Arc::clone(app);
    tokio::task::spawn_blocking(move || app.downloads.offers())
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| ApiError::internal(&error))
}

fn rendered(script: Result<String, askama::Error>) -> Result<String, ApiError> {
    script.map_err(|error| ApiError::internal(&error))
}

/// A script in every case: what fails is a script that says why and fails. It comes with status 200,
/// since `curl -f` would drop it otherwise, and a shell that reads nothing succeeds.
fn answer(script: Result<String, ApiError>) -> Response {
    let script = script.or_else(|error| {
        let problem = error.problem();
        scripts::refusal(problem.kind, &problem.detail).map_err(|_| error)
    });
    match script {
        Ok(script) => ([(header::CONTENT_TYPE, SHELL_SCRIPT)], script).into_response(),
        Err(error) => error.into_response(),
    }
}
