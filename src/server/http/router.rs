//! The whole service: the API's calls, the pages, and what holds for every request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;

use super::client::{self, Scheme};
use super::problem::{self, ApiError, no_such_path, wrong_method};
use super::whole_body::await_body;
use super::{api, web};
use crate::protocol::ProblemKind;
use crate::server::http::app::App;

/// The longest a request may take from its last byte until its answer begins: a long poll (25 s) or a connection test
/// (30 s), and some more.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The whole service. Under a public URL with a path, that path may be before a request's own or not: a
/// proxy may keep it or strip it.
pub fn router(app: Arc<App>) -> Router {
    let base = app.web.path("");
    let calls = at_the_root(app);
    if base.is_empty() {
        return calls;
    }
    // Routes are looked up within, so that what is rewritten here is what they see.
    Router::new()
        .fallback_service(calls)
        .layer(middleware::map_request(move |mut request: Request| {
            if let Some(uri) = without_base(request.uri(), &base) {
                *request.uri_mut() = uri;
            }
            std::future::ready(request)
        }))
}

/// The address without the path of the public URL, if it begins with it.
fn without_base(uri: &Uri, base: &str) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(base)?;
    let rest: PathAndQuery = match rest.as_bytes().first() {
        Some(b'/') => rest.parse().ok()?,
        None | Some(b'?') => format!("/{rest}").parse().ok()?,
        Some(_) => return None,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest);
    Uri::from_parts(parts).ok()
}

/// What a node has that serves tunnels alone: for load balancers and supervisors.
pub fn without_pages(app: Arc<App>) -> Router {
    complete(api::supervision(), app)
}

fn at_the_root(app: Arc<App>) -> Router {
    let calls = api::calls().into_router().merge(web::routes(&app));
    complete(calls, app)
}

/// With what holds for every request.
fn complete(calls: Router<Arc<App>>, app: Arc<App>) -> Router {
    calls
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(bound_time))
        .layer(middleware::from_fn(await_body))
        .layer(middleware::map_response(problem::complete))
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
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            client::recognize,
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
    let client = client::address(request).map(tracing::field::display);
    let scheme = request.extensions().get().map(|Scheme(scheme)| scheme);
    tracing::info_span!("request", method = %request.method(), route, client, scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_url_s_path_may_be_kept_or_stripped() {
        let base = "/tools/tunnels";
        let within = |path: &str| {
            let uri: Uri = path.parse().unwrap();
            without_base(&uri, base).map_or_else(|| path.to_owned(), |uri| uri.to_string())
        };
        for (path, seen) in [
            ("/tools/tunnels/sign-in?next=%2F", "/sign-in?next=%2F"),
            ("/tools/tunnels/", "/"),
            ("/tools/tunnels", "/"),
            ("/tools/tunnels?a=b", "/?a=b"),
            ("/sign-in", "/sign-in"),
            ("/tools/tunnelsome", "/tools/tunnelsome"),
            ("https://x/tools/tunnels/a", "https://x/a"),
        ] {
            assert_eq!(within(path), seen, "{path}");
        }
    }
}
