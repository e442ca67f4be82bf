//! Error answers: problem documents (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::protocol::{DataSourceState, PROBLEM_MEDIA_TYPE, Problem, ProblemKind};
use crate::server::logins::PasswordNeeded;
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
