//! Reads bodies, paths and queries; what cannot be read becomes a problem document.

use axum::body::HttpBody;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::{Json, RequestPartsExt};
use serde::de::DeserializeOwned;

use super::problem::ApiError;
use crate::protocol::ProblemKind;

/// A JSON body.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Body(value)),
            Err(rejection) => Err(body_problem(&rejection)),
        }
    }
}

/// A JSON body that may be left out, or be `null`.
pub struct OptionalBody<T>(pub Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            return Ok(OptionalBody(None));
        }
        let Body(value) = Body::from_request(request, state).await?;
        Ok(OptionalBody(value))
    }
}

fn body_problem(rejection: &JsonRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::new(
            ProblemKind::TooLarge,
            format!("a body may have at most {} bytes", super::BODY_LIMIT),
        );
    }
    match rejection {
        JsonRejection::MissingJsonContentType(_) => {
            ApiError::invalid("send the body with `Content-Type: application/json`")
        }
        other => ApiError::invalid(other.body_text()),
    }
}

/// The number in the path. What is no number names nothing.
pub struct Id(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.extract::<Path<i64>>().await {
            Ok(Path(id)) => Ok(Id(id)),
            Err(_) => Err(ApiError::gone()),
        }
    }
}

/// The query after `?`.
pub struct Options<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + 'static> FromRequestParts<S> for Options<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.extract::<Query<T>>().await {
            Ok(Query(value)) => Ok(Options(value)),
            Err(rejection) => Err(ApiError::invalid(rejection.body_text())),
        }
    }
}
