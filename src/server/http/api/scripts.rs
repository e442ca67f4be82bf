//! What a bastion fetches before it has the program: the scripts and the binary.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tower_http::services::ServeFile;

use super::auth::tunnel_of;
use super::extract::Word;
use crate::protocol::{ProblemKind, TunnelId};
use crate::server::domain::address::PublicAddress;
use crate::server::domain::token::TokenKind;
use crate::server::http::app::App;
use crate::server::http::downloads::Offer;
use crate::server::http::problem::ApiError;
use crate::server::http::scripts;
use crate::server::store::Record;

const SHELL_SCRIPT: HeaderValue = HeaderValue::from_static("text/x-shellscript; charset=utf-8");

/// The setup script
///
/// A shell script in every case: what fails is a script that says why, and fails.
#[utoipa::path(get, path = "/i/{token}", operation_id = "read_setup_script", params(("token" = String, Path, description = "The token from the command")),
    responses((status = 200, description = "The script", body = String, content_type = "text/x-shellscript; charset=utf-8")))]
pub async fn bootstrap(State(app): State<Arc<App>>, Word(token): Word) -> Response {
    if let Some(refusal) = refusal_of_plain_http(&app.public) {
        return refusal;
    }
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

/// The removal script
///
/// A shell script in every case: what fails is a script that says why, and fails.
#[utoipa::path(get, path = "/r/{token}", operation_id = "read_removal_script", params(("token" = String, Path, description = "The token from the command")),
    responses((status = 200, description = "The script", body = String, content_type = "text/x-shellscript; charset=utf-8")))]
pub async fn removal(State(app): State<Arc<App>>, Word(token): Word) -> Response {
    if let Some(refusal) = refusal_of_plain_http(&app.public) {
        return refusal;
    }
    let script = async {
        let (id, record) = tunnel(&app, &token, TokenKind::Removal).await?;
        if record.removed {
            return Err(ApiError::gone());
        }
        let offers = offers(&app).await?;
        rendered(scripts::removal(&app.public, &token, &offers, id))
    };
    answer(script.await)
}

/// The bastion's program
#[utoipa::path(get, path = "/download/{target}/holistics-tunnel", operation_id = "download_program",
    params(("target" = String, Path, description = "A Rust target", example = "x86_64-unknown-linux-gnu")),
    responses((status = 200, description = "The program", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The part that `Range` asked for", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "It has not changed since `If-Modified-Since`"),
        (status = 404, description = "This server has no program for that target"),
        (status = 412, description = "It has changed since `If-Unmodified-Since`"),
        (status = 416, description = "`Range` names no part of it")))]
pub async fn download(
    State(app): State<Arc<App>>,
    Word(target): Word,
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
    Ok((id, app.tunnel(id).await?))
}

async fn offers(app: &Arc<App>) -> Result<Vec<Offer>, ApiError> {
    let app = Arc::clone(app);
    tokio::task::spawn_blocking(move || app.downloads.offers())
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| ApiError::internal(&error))
}

/// The program would refuse such a server; by then, anybody on the way could have changed what is run.
fn refusal_of_plain_http(public: &PublicAddress) -> Option<Response> {
    if public.is_guarded() {
        return None;
    }
    let script = scripts::refusal(&format!(
        "nothing is installed over plain http: whoever runs {} has to serve it by https (--tls-cert and \
         --tls-key, or an https --public-url)",
        public.url
    ));
    Some(answer(rendered(script)))
}

fn rendered(script: Result<String, askama::Error>) -> Result<String, ApiError> {
    script.map_err(|error| ApiError::internal(&error))
}

/// A script in every case: what fails is a script that says why and fails. It comes with status 200,
/// since `curl -f` would drop it otherwise, and a shell that reads nothing succeeds.
fn answer(script: Result<String, ApiError>) -> Response {
    let script = script.or_else(|error| {
        let problem = error.problem();
        let reason = format!("{}: {}", problem.kind.title(), problem.detail);
        scripts::refusal(&reason).map_err(|_| error)
    });
    match script {
        Ok(script) => ([(header::CONTENT_TYPE, SHELL_SCRIPT)], script).into_response(),
        Err(error) => error.into_response(),
    }
}
