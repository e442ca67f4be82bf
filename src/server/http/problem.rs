//! Error answers: problem documents (RFC 9457).

use axum::Json;
use axum::body::{self, Body};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::protocol::{PROBLEM_MEDIA_TYPE, Problem, ProblemKind};
use crate::server::domain::Error;
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
        Error::NotFound.into()
    }

    /// A fault of the server: the cause goes to the log, not to the caller.
    pub fn internal(cause: &dyn std::fmt::Debug) -> Self {
        Error::internal(cause).into()
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
    let words = if status.is_client_error() {
        body::to_bytes(words, WORDS_LIMIT).await.unwrap_or_default()
    } else {
        // What failed inside is for the log.
        body::Bytes::new()
    };
    let detail = if words.is_empty() {
        title.into()
    } else {
        String::from_utf8_lossy(&words)
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

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        ApiError::new(kind(&error), error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

/// What the API calls it.
pub fn kind(error: &Error) -> ProblemKind {
    match error {
        Error::Invalid(_) | Error::InvalidKey(_) => ProblemKind::InvalidRequest,
        Error::InvalidCursor => ProblemKind::InvalidCursor,
        Error::NotFound => ProblemKind::NotFound,
        Error::KeyConflict
        | Error::KeyOfAnother
        | Error::EnrolledByCommand
        | Error::KeyElsewhere(_) => ProblemKind::KeyConflict,
        Error::WrongState(_)
        | Error::NotYetSaved { .. }
        | Error::NothingToTest
        | Error::HeldOutOfReach(_)
        | Error::NoTunnelServer(_)
        | Error::NotEnrolled
        | Error::NotByHand
        | Error::NoTunnel => ProblemKind::WrongState,
        Error::TunnelDown | Error::NewKeyDown => ProblemKind::TunnelDown,
        Error::PortsExhausted | Error::PortsRest(_) => ProblemKind::PortsExhausted,
        Error::KeyOfAnotherRequest => ProblemKind::IdempotencyKeyReused,
        Error::RequestUnderWay => ProblemKind::RequestUnderWay,
        Error::PasswordNeeded(_) => ProblemKind::PasswordNeeded,
        Error::StorageFailed => ProblemKind::StorageFailed,
        Error::Internal => ProblemKind::Internal,
    }
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
