//! `/metrics`, for Prometheus.
//!
//! What can be asked is asked when it is read (`facts`); only what happens and leaves nothing behind
//! is counted here: the API's requests and the connection tests. Every label has a bounded set of
//! values: a route is the template and never the path, which may hold a token.

mod facts;
mod listener;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::api::App;
use super::api::auth::Operator;
use super::api::problem::ApiError;
use facts::Facts;

pub use listener::serve;

/// What every name begins with.
const PREFIX: &str = "holistics_tunnel";

/// In seconds: from what is read from memory to the longest poll and the slowest connection test.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0];

/// The label of requests that no route has taken.
const NO_ROUTE: &str = "none";

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    route: String,
    method: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    route: String,
    method: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Test {
    result: &'static str,
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    seconds: Family<Call, Histogram, fn() -> Histogram>,
    tests: Family<Test, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let answers = Family::default();
        registry.register(
            "http_requests",
            "Requests to the pages and the API, by route, method and class of the answer's status",
            answers.clone(),
        );
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register(
            "http_request_duration_seconds",
            "How long requests took until their answer began",
            seconds.clone(),
        );
        let tests = Family::default();
        registry.register(
            "connection_tests",
            "Connection tests, by their result",
            tests.clone(),
        );
        let metrics = Metrics {
            registry,
            answers,
            seconds,
            tests,
        };
        // An alert on a series that is not there yet would never fire.
        for passed in [true, false] {
            drop(metrics.tests.get_or_create(&Test::of(passed)));
        }
        metrics
    }
}

impl Metrics {
    /// Counts a connection test.
    pub fn tested(&self, passed: bool) {
        self.tests.get_or_create(&Test::of(passed)).inc();
    }

    fn answered(&self, call: Call, status: StatusCode, started: Instant) {
        let answer = Answer {
            route: call.route.clone(),
            method: call.method,
            status: class(status),
        };
        self.answers.get_or_create(&answer).inc();
        let seconds = started.elapsed().as_secs_f64();
        self.seconds.get_or_create(&call).observe(seconds);
    }

    fn written(&self, facts: Facts) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &facts.registry())?;
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Test {
    fn of(passed: bool) -> Self {
        Test {
            result: if passed { "passed" } else { "failed" },
        }
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// Counts requests, with what they took and how they were answered.
pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let call = Call {
        route: route.map_or(NO_ROUTE, MatchedPath::as_str).to_owned(),
        method: method(request.method()),
    };
    let response = next.run(request).await;
    app.metrics.answered(call, response.status(), started);
    response
}

/// Callers may invent methods; they are one here.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    }
}

/// The metrics
///
/// In Prometheus' text format. `--metrics-listen` serves the same without a credential, at an address
/// of its own.
#[utoipa::path(get, path = "/metrics", operation_id = "read_metrics",
    responses((status = 200, description = "All metrics", body = String,
        content_type = "text/plain; version=0.0.4; charset=utf-8")))]
pub async fn read(_: Operator, State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    page(&app).await
}

async fn page(app: &App) -> Result<Response, ApiError> {
    let facts = Facts::of(app).await?;
    let text = app
        .metrics
        .written(facts)
        .map_err(|error| ApiError::internal(&error))?;
    Ok((
        [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
        text,
    )
        .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_callers_send_the_labels_stay_few() {
        let invented = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(method(&invented), "other");
        assert_eq!(class(StatusCode::from_u16(999).unwrap()), "5xx");
        assert_eq!(class(StatusCode::GONE), "4xx");
    }
}
