//! A request goes on to its handler when its body is there: whoever sends slowly holds nothing up but
//! himself, and is told so.

use std::error::Error;
use std::time::Duration;

use axum::body::{self, Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;

use super::api::extract::BODY_LIMIT;
use super::problem::ApiError;
use crate::protocol::ProblemKind;

/// How long a body may take; the largest one has 64 KiB.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Waits for the body, within its bounds.
pub async fn await_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match whole(body).await {
        Ok(body) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => ([CLOSE], refusal).into_response(),
    }
}

/// What follows on the connection would be the rest of the body.
const CLOSE: (header::HeaderName, HeaderValue) =
    (header::CONNECTION, HeaderValue::from_static("close"));

async fn whole(body: Body) -> Result<Body, Response> {
    if body.is_end_stream() {
        return Ok(body);
    }
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, body::to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error))
            if error
                .source()
                .is_some_and(<dyn Error>::is::<LengthLimitError>) =>
        {
            Err(too_large())
        }
        Ok(Err(_)) => {
            let words = "the body ended before it was complete";
            Err((StatusCode::BAD_REQUEST, words).into_response())
        }
        Err(_) => {
            let seconds = BODY_TIME.as_secs();
            let words = format!("the body did not arrive within {seconds} s; send it again");
            Err(ApiError::new(ProblemKind::TooSlow, words).into_response())
        }
    }
}

fn too_large() -> Response {
    let words = format!("a body may have at most {BODY_LIMIT} bytes");
    ApiError::new(ProblemKind::TooLarge, words).into_response()
}
