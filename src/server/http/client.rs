//! Who sent a request, where it came through proxies: `X-Forwarded-For` and `X-Forwarded-Proto` are
//! believed from those that `--trusted-proxy` names, and from nobody else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::server::http::app::App;

/// By what the client came to the outermost proxy that is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme(pub &'static str);

/// Puts the client's address in the place of the connection's.
pub async fn recognize(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if let Some(peer) = peer(&request)
        && app.trusted_proxies.trusts(peer.ip())
    {
        let lines = texts(request.headers(), "x-forwarded-for");
        let client = app.trusted_proxies.client(peer.ip(), lines);
        let scheme = scheme(request.headers());
        let extensions = request.extensions_mut();
        if client != peer.ip().to_canonical() {
            // Nobody told by which port it came.
            extensions.insert(ConnectInfo(SocketAddr::new(client, 0)));
        }
        if let Some(scheme) = scheme {
            extensions.insert(scheme);
        }
    }
    next.run(request).await
}

fn peer(request: &Request) -> Option<SocketAddr> {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>();
    info.map(|ConnectInfo(peer)| *peer)
}

/// The client's address, once it was recognized.
pub fn address(request: &Request) -> Option<IpAddr> {
    peer(request).map(|peer| peer.ip())
}

fn texts<'h>(
    headers: &'h HeaderMap,
    name: &'static str,
) -> impl DoubleEndedIterator<Item = &'h str> {
    let values = headers.get_all(HeaderName::from_static(name)).iter();
    // What is no text is no address either, and ends the row there.
    values.map(|value| HeaderValue::to_str(value).unwrap_or_default())
}

fn scheme(headers: &HeaderMap) -> Option<Scheme> {
    let line = texts(headers, "x-forwarded-proto").next_back()?;
    match line.rsplit(',').next()?.trim() {
        "https" => Some(Scheme("https")),
        "http" => Some(Scheme("http")),
        _ => None,
    }
}
