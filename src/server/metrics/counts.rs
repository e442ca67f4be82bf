//! What happens and leaves nothing behind: requests and connection tests, counted.

use std::fmt;
use std::time::Instant;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What every name begins with.
pub(super) const PREFIX: &str = "holistics_tunnel";

/// In seconds: from what is read from memory to the longest poll and the slowest connection test.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0];

/// The label of requests that no route has taken.
const NO_ROUTE: &str = "none";

/// A call, as the labels name it.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Call {
    route: String,
    method: &'static str,
}

impl Call {
    /// Of this route, if one has taken it, by this method.
    pub fn new(route: Option<&str>, by: &Method) -> Self {
        Call {
            route: route.unwrap_or(NO_ROUTE).to_owned(),
            method: method(by),
        }
    }
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

    pub fn answered(&self, call: Call, status: StatusCode, started: Instant) {
        let answer = Answer {
            route: call.route.clone(),
            method: call.method,
            status: class(status),
        };
        self.answers.get_or_create(&answer).inc();
        let seconds = started.elapsed().as_secs_f64();
        self.seconds.get_or_create(&call).observe(seconds);
    }

    /// Writes them down, behind what is in `text` already.
    pub fn write(&self, text: &mut String) -> fmt::Result {
        prometheus_text::encode(text, &self.registry)
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
