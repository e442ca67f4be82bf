//! Error answers: problem documents (RFC 9457).

use axum::Json;
use axum::body::{self, Body};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::protocol::{DataSourceState, PROBLEM_MEDIA_TYPE, Problem, ProblemKind};
use crate::server::domain::logins::PasswordNeeded;
use crate::server::store::StoreError;

/// An error answer.
#[derive(Debug)]
pub struct ApiError(Problem);

impl ApiError {
    /// A problem of this kind, with the words for this occurrence.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        ApiError(Problem::new(kind, detail))
    }

    /// A value in the request is not valid.
    pub fn invalid(detail: impl Into<String>) -> Self {
        ApiError::new(ProblemKind::InvalidRequest, detail)
    }

    /// A data source or tunnel that is not there, or not any more.
    pub fn gone() -> Self {
        ApiError::new(
            ProblemKind::NotFound,
            "there is no such data source or tunnel, or it has been removed",
        )
    }

    /// A fault of the server: the cause goes to the log, not to the caller.
    pub fn internal(cause: &dyn std::fmt::Debug) -> Self {
        tracing::error!(?cause, "a request failed");
        ApiError::new(
            ProblemKind::Internal,
            "something failed inside the server; its log says what. Try again in a moment.",
        )
    }

    /// What the caller is told.
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(&self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(PROBLEM_MEDIA_TYPE),
        );
        if self.0.kind == ProblemKind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// How much of a refusal in plain words is taken over, in bytes.
const WORDS_LIMIT: usize = 4096;

/// Gives what the router and its libraries refuse by themselves, in plain words or none, the form of
/// a problem that says no more than its status does (`about:blank`).
pub async fn complete(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || has_a_form(response.headers()) {
        return response;
    }
    let (mut parts, words) = response.into_parts();
    let title = status.canonical_reason().unwrap_or("Error");
    let words = match status.is_client_error() {
        true => body::to_bytes(words, WORDS_LIMIT).await.unwrap_or_default(),
        // What failed inside is for the log.
        false => body::Bytes::new(),
    };
    let detail = match words.is_empty() {
        true => title.into(),
        false => String::from_utf8_lossy(&words),
    };
    let problem = json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(PROBLEM_MEDIA_TYPE),
    );
    Response::from_parts(parts, Body::from(problem.to_string()))
}

fn has_a_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|media_type| !media_type.as_bytes().starts_with(b"text/plain"))
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => ApiError::gone(),
            StoreError::KeyConflict => ApiError::new(
                ProblemKind::KeyConflict,
                "this tunnel is enrolled with another key, so another machine or user ran its command first. \
                 Use that one's key, or delete the data source and create a new one.",
            ),
            StoreError::KeyOfAnother => ApiError::new(
                ProblemKind::KeyConflict,
                "this key belongs to another bastion's tunnel. Make a new key pair and send that one's public key.",
            ),
            StoreError::WrongState(state) => wrong_state(state),
            StoreError::NoTunnel => ApiError::new(
                ProblemKind::WrongState,
                "this data source is reached directly: it has no tunnel, and so no command for a bastion",
            ),
            StoreError::PortsExhausted => ApiError::new(
                ProblemKind::PortsExhausted,
                "every remote port is given to a tunnel. Delete data sources that are not used, or widen --ports; \
                 then run the command again.",
            ),
            StoreError::PortsRest(until) => ApiError::new(
                ProblemKind::PortsExhausted,
                format!(
                    "no remote port is left that nobody had, and a port rests before it goes to another tunnel; the \
                     first one until {until:.0}. Widen --ports by some that were never given, or shorten \
                     --port-rest; then run the command again."
                ),
            ),
            error if error.is_outage() => {
                tracing::error!(?error, "the database failed");
                ApiError::new(
                    ProblemKind::StorageFailed,
                    "the server's database cannot be written or read now; its log says why. Nothing was changed; try \
                     again in a moment.",
                )
            }
            error @ (StoreError::NameTaken | StoreError::Database(_)) => ApiError::internal(&error),
        }
    }
}

impl From<PasswordNeeded> for ApiError {
    fn from(needed: PasswordNeeded) -> Self {
        if needed == PasswordNeeded::Unreadable {
            tracing::error!("a saved password cannot be decrypted with this secret key");
        }
        ApiError::new(ProblemKind::PasswordNeeded, needed.to_string())
    }
}

fn wrong_state(state: DataSourceState) -> ApiError {
    let next = match state {
        DataSourceState::Removing => {
            "it is being removed. Create a new data source if the tunnel is still wanted."
        }
        DataSourceState::Draft | DataSourceState::Enrolled | DataSourceState::Connected => {
            "it must be saved first: press \"Save\" in the browser."
        }
        _ => "reload it and try again.",
    };
    ApiError::new(
        ProblemKind::WrongState,
        format!("the data source is in the state {}: {next}", state.as_str()),
    )
}

/// The answer where no route is.
pub async fn no_such_path() -> ApiError {
    ApiError::new(
        ProblemKind::NotFound,
        "nothing is served under this path; the API begins at /api/v1",
    )
}

/// The answer where the route knows another method.
pub async fn wrong_method() -> ApiError {
    ApiError::new(
        ProblemKind::MethodNotAllowed,
        "the Allow header names the methods of this path",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::Html;
    use serde_json::Value;

    async fn completed(response: impl IntoResponse) -> (StatusCode, Value) {
        let response = complete(response.into_response()).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_MEDIA_TYPE);
        let status = response.status();
        let body = body::to_bytes(response.into_body(), WORDS_LIMIT).await;
        (status, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_in_plain_words_becomes_a_problem_of_its_status() {
        let (status, problem) = completed((StatusCode::BAD_REQUEST, "no UTF-8 in `token`")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["status"], 400);
        assert_eq!(problem["detail"], "no UTF-8 in `token`");
        let (status, problem) = completed(StatusCode::RANGE_NOT_SATISFIABLE).await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(problem["title"], "Range Not Satisfiable");
    }

    #[tokio::test]
    async fn what_failed_inside_stays_inside() {
        let failed = (StatusCode::INTERNAL_SERVER_ERROR, "at 10.0.0.7: key file");
        let (_, problem) = completed(failed).await;
        assert_eq!(problem["detail"], "Internal Server Error");
    }

    #[tokio::test]
    async fn pages_and_good_answers_stay_as_they_are() {
        let page = (StatusCode::NOT_FOUND, Html("<h1>Not here</h1>"));
        for response in [page.into_response(), "ok\n".into_response()] {
            let media_type = response.headers()[header::CONTENT_TYPE].clone();
            let response = complete(response).await;
            assert_eq!(response.headers()[header::CONTENT_TYPE], media_type);
        }
    }
}
