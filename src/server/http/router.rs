//! The whole service: the API's calls, the pages, and what holds for every request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;

use super::api::extract::BODY_LIMIT;
use super::problem::{self, ApiError, no_such_path, wrong_method};
use super::{api, web};
use crate::protocol::ProblemKind;
use crate::server::http::app::App;

/// The longest a request may take until its answer begins: a long poll (25 s) or a connection test
/// (30 s), and some more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .merge(api::calls().into_router())
        .merge(web::routes(&app))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::map_response(problem::complete))
        .layer(middleware::from_fn(bound_time))
        .layer(header_by_default(header::CACHE_CONTROL, "no-store"))
        .layer(header_by_default(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // What fails inside is logged with its cause where it fails.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(request_span)
                .on_failure(()),
        )
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            api::metrics::observe,
        ))
        .with_state(app)
}

async fn bound_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            ProblemKind::Internal,
            format!(
                "the request took longer than {} s",
                REQUEST_TIMEOUT.as_secs()
            ),
        )
        .into_response(),
    }
}

fn header_by_default(
    name: header::HeaderName,
    value: &'static str,
) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Names a request in the log by its route. The path itself may hold a token.
fn request_span(request: &Request) -> tracing::Span {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("(no route)", MatchedPath::as_str);
    tracing::info_span!("request", method = %request.method(), route)
}
