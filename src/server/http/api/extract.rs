//! Reads bodies, paths and queries; what cannot be read becomes a problem document.

use std::convert::Infallible;

use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::{Json, RequestPartsExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::protocol::ProblemKind;
use crate::server::domain::{Error, idempotency};
use crate::server::http::problem::ApiError;

/// The largest body that is read, in bytes. The largest real one, an RSA-16384 key, has under 4 KiB.
pub const BODY_LIMIT: usize = 64 * 1024;

/// A JSON body.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Serialize> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let limited = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(limited, state)
            .await
            .map_err(|rejection| body_problem(&rejection.into()))?;
        let bytes = without_mark(bytes);
        let request = Request::from_parts(parts, bytes.clone().into());
        let Json(value) = Json::from_request(request, state)
            .await
            .map_err(|rejection| body_problem(&rejection))?;
        check_objects(&bytes, &value)?;
        Ok(Body(value))
    }
}

/// A JSON body that may be left out, or be `null`.
pub struct OptionalBody<T>(pub Option<T>);

impl<S: Send + Sync, T: DeserializeOwned + Serialize> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            return Ok(OptionalBody(None));
        }
        let Body(value) = Body::from_request(request, state).await?;
        Ok(OptionalBody(value))
    }
}

/// The body without the mark that some programs put before a text in UTF-8.
fn without_mark(bytes: Bytes) -> Bytes {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.slice(3..)
    } else {
        bytes
    }
}

fn body_problem(rejection: &JsonRejection) -> ApiError {
    match rejection {
        JsonRejection::MissingJsonContentType(_) => ApiError::new(
            ProblemKind::UnsupportedMediaType,
            "send the body with `Content-Type: application/json`",
        ),
        other => ApiError::invalid(other.body_text()),
    }
}

/// Serde takes a list for an object, by the order of its fields; a caller who sends one means
/// something else.
fn check_objects<T: Serialize>(bytes: &[u8], read: &T) -> Result<(), ApiError> {
    let failed = |error: serde_json::Error| ApiError::internal(&error);
    let sent: Value = serde_json::from_slice(bytes).map_err(failed)?;
    let read = serde_json::to_value(read).map_err(failed)?;
    match list_for_object("the body", &sent, &read) {
        Some(name) => Err(ApiError::invalid(format!(
            "{name} must be an object, not a list"
        ))),
        None => Ok(()),
    }
}

fn list_for_object(name: &str, sent: &Value, read: &Value) -> Option<String> {
    match (sent, read) {
        (Value::Array(_), Value::Object(_)) => Some(name.to_owned()),
        (Value::Object(sent), Value::Object(read)) => sent
            .iter()
            .find_map(|(name, sent)| list_for_object(name, sent, read.get(name)?)),
        _ => None,
    }
}

/// What the caller calls this request, if anything.
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut sent = parts.headers.get_all("idempotency-key").iter();
        let key = match (sent.next(), sent.next()) {
            (None, _) => None,
            (Some(key), None) => {
                // What is no ASCII is no key either.
                let key = idempotency::key(key.to_str().unwrap_or_default());
                Some(key.map_err(Error::from)?)
            }
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("send one Idempotency-Key, not several"));
            }
        };
        Ok(IdempotencyKey(key))
    }
}

/// The number in the path. What is no number names nothing.
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match parts.extract::<Path<T>>().await {
            Ok(Path(id)) => Ok(Id(id)),
            Err(_) => Err(ApiError::gone()),
        }
    }
}

/// The word in the path. What is no text is empty, and names nothing.
pub struct Word(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Word {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let word = parts.extract::<Path<String>>().await;
        Ok(Word(word.map_or_else(|_| String::new(), |Path(word)| word)))
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
