//! Requests to the pages and the API, with every credential and none: bodies, forms, queries, cookies and headers.
//!
//! What opens connections elsewhere or waits by design is left out: see [`is_left_out`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{LazyLock, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use holistics_tunnel::server::http::api::openapi;
use holistics_tunnel::server::http::web;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::fields::{fields, text};
use crate::tunnel_server::SOON;
use crate::website::Website;

/// After so many requests the website is made anew, so that none is slowed down by what the former ones have left.
const REQUESTS: usize = 3_000;

/// In what was sent this is markup of a stranger, which no page may hold as it is.
const MARKUP: &str = "<zq";

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new().expect("the system has room for threads"));

static WEBSITE: Mutex<Option<(Website, usize)>> = Mutex::new(None);

static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(routes);

struct Route {
    method: Method,
    path: String,
    /// Whether somebody has to be known.
    is_closed: bool,
}

/// Every call of the API and every page.
fn routes() -> Vec<Route> {
    let paths = openapi::document()["paths"]
        .as_object()
        .expect("there are calls");
    let calls = paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.filter_map(move |(method, operation)| {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).ok()?;
            let security = operation["security"].as_array();
            let is_closed = security.is_some_and(|schemes| !schemes.is_empty());
            Some(Route {
                method,
                path: path.clone(),
                is_closed,
            })
        })
    });
    let [closed, open] = web::paths();
    let pages = closed
        .into_iter()
        .map(|path| (path, true))
        .chain(open.into_iter().map(|path| (path, false)));
    let pages = pages.flat_map(|(path, is_closed)| {
        let both = [Method::GET, Method::POST];
        both.map(|method| Route {
            method,
            path: path.to_owned(),
            is_closed,
        })
    });
    let mut routes: Vec<_> = calls
        .chain(pages)
        .filter(|route| !is_left_out(route))
        .collect();
    routes.sort_by(|one, other| {
        (&one.path, one.method.as_str()).cmp(&(&other.path, other.method.as_str()))
    });
    routes
}

fn is_left_out(route: &Route) -> bool {
    let ends = ["/test", "/save", "/enrollment/data-source"];
    ends.iter().any(|end| route.path.ends_with(end))
}

pub fn run(input: &[u8]) {
    let [head, path, headers, body] = fields(input);
    let Some([number, credential, options]) = head.first_chunk() else {
        return;
    };
    let route = &ROUTES[usize::from(*number) % ROUTES.len()];
    let mut kept = WEBSITE.lock().unwrap_or_else(PoisonError::into_inner);
    let (website, left) = match kept.take() {
        Some((website, left)) if left > 0 => (website, left),
        _ => (RUNTIME.block_on(Website::start()), REQUESTS),
    };
    let credential = usize::from(*credential) % Website::CREDENTIALS;
    if let Some(request) = request(&website, route, credential, *options, path, headers, body) {
        let is_stranger = credential == 0 && !request.headers().contains_key(header::AUTHORIZATION);
        RUNTIME.block_on(async {
            let answer = timeout(SOON, website.answer(request)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{} {} hangs", route.method, route.path));
            look_at(route, is_stranger, answer).await;
        });
    }
    *kept = Some((website, left - 1));
}

fn request(
    website: &Website,
    route: &Route,
    credential: usize,
    options: u8,
    path: &[u8],
    headers: &[u8],
    body: &[u8],
) -> Option<Request<Body>> {
    let (known, form_token) = website.credential(credential);
    let path = text(path);
    let (part, query) = path.split_once('?').unwrap_or((&path, ""));
    // A part of a path is as it is typed, or the number of what is there.
    let part = match part {
        "" => "1".to_owned(),
        part => escaped(part),
    };
    let mut address: String = route.path.clone();
    while let Some((before, rest)) = address.split_once('{') {
        let (_, after) = rest.split_once('}')?;
        address = format!("{before}{part}{after}");
    }
    let uri = format!("{address}?{}", escaped(query));
    let mut body = body.to_vec();
    let is_form = form_token.is_some() && !route.path.starts_with("/api/");
    if let (true, Some(token)) = (is_form, &form_token) {
        body = [format!("csrf={token}&").as_bytes(), &body].concat();
    }
    let mut request = Request::builder()
        .method(&route.method)
        .uri(uri)
        .body(Body::from(body))
        .ok()?;
    let sent = request.headers_mut();
    let kind = if is_form || !route.path.starts_with("/api/") {
        "application/x-www-form-urlencoded"
    } else {
        "application/json"
    };
    if options & 1 == 0 {
        sent.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    add(sent, headers);
    sent.extend(known);
    // From a proxy that is believed, from another one, and from the machine itself.
    let peer: IpAddr = match options / 2 % 2 {
        0 => Ipv4Addr::LOCALHOST.into(),
        _ => [198, 51, 100, 7].into(),
    };
    request
        .extensions_mut()
        .insert(ConnectInfo(SocketAddr::new(peer, 4711)));
    Some(request)
}

/// What may not stand in an address as it is, as a browser sends it.
fn escaped(text: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%&=+/:@!$'()*,;".contains(&byte);
    let escape = |byte: u8| {
        if is_plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escape).collect()
}

/// Lines of `name: value`.
fn add(headers: &mut HeaderMap, lines: &[u8]) {
    for line in lines.split(|byte| *byte == b'\n').take(32) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let name = halves
            .next()
            .and_then(|name| HeaderName::from_bytes(name).ok());
        let value = halves
            .next()
            .map(<[u8]>::trim_ascii)
            .and_then(|value| HeaderValue::from_bytes(value).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.append(name, value);
        }
    }
}

async fn look_at(route: &Route, is_stranger: bool, answer: Response<Body>) {
    let called = format!("{} {}", route.method, route.path);
    let (parts, body) = answer.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).cloned();
    let kind = kind
        .as_ref()
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if kind.starts_with("text/event-stream") {
        return;
    }
    let body = body
        .collect()
        .await
        .expect("the answer comes to its end")
        .to_bytes();
    let body = text(&body);
    let status = parts.status;
    // Too many passwords at once are refused so.
    let is_fault = status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE;
    assert!(!is_fault, "{called}: {status} {body}");
    assert!(
        !(is_stranger && route.is_closed && status.is_success()),
        "{called} lets a stranger in: {body}"
    );
    if let Some(to) = parts.headers.get(header::LOCATION) {
        let to = to.to_str().expect("a location is text");
        let is_here = to.starts_with('/') && !to.starts_with("//") && !to.contains('\\');
        assert!(is_here, "{called} leads elsewhere: {to}");
    }
    for cookie in parts.headers.get_all(header::SET_COOKIE) {
        let cookie = cookie.to_str().expect("a cookie is text");
        assert!(
            cookie.contains("; HttpOnly; SameSite=Lax"),
            "{called}: {cookie}"
        );
        assert_eq!(cookie.matches(';').count(), 4, "{called}: {cookie}");
    }
    if kind.starts_with("text/html") {
        assert!(
            !body.contains(MARKUP),
            "{called} shows a stranger's markup: {body}"
        );
    }
    if kind.contains("json") {
        let read: Value = serde_json::from_str(&body)
            .unwrap_or_else(|error| panic!("{called}: {error} in {body}"));
        if kind.starts_with("application/problem") {
            assert_eq!(read["status"], status.as_u16(), "{called}: {body}");
        }
    }
}
