//! What the web and the metrics are served on.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};

use crate::server::cli::Serve;
use crate::server::http::admission::Admission;
use crate::server::http::app::App;
use crate::server::http::certificate::Certificate;
use crate::server::http::router;
use crate::server::store::Role;

/// How long a new connection may take for its first request.
pub(super) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Bound, and not yet served.
pub(super) struct Listeners {
    pub(super) web: TcpListener,
    pub(super) certificate: Option<Certificate>,
    pub(super) metrics: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(settings: &Serve) -> anyhow::Result<Self> {
        Ok(Listeners {
            certificate: load_certificate(settings).await?,
            web: bind(settings.listen, "the web", "--listen")?,
            metrics: settings
                .metrics_listen
                .map(|address| bind(address, "metrics", "--metrics-listen"))
                .transpose()?,
        })
    }

    /// How https is spoken, if it is.
    pub(super) fn tls(&self) -> Option<RustlsConfig> {
        let certificate = self.certificate.as_ref();
        certificate.map(|certificate| certificate.config.clone())
    }
}

async fn load_certificate(settings: &Serve) -> anyhow::Result<Option<Certificate>> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(certificate), Some(key)) => Certificate::load(certificate, key).await.map(Some),
        _ => Ok(None),
    }
}

/// Binds an address that can be chosen with this flag.
pub(super) fn bind(address: SocketAddr, what: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!("cannot serve {what} on {address}; choose another address with {flag}")
    })
}

/// Serves the web until the handle ends it.
pub(super) async fn serve_web(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    app: Arc<App>,
    role: Role,
    handle: axum_server::Handle<SocketAddr>,
) -> anyhow::Result<()> {
    let admission = Admission(Arc::clone(&app.connections));
    let router = match role {
        Role::Tunnel => router::without_pages(app),
        Role::Web | Role::All => router::router(app),
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum_server::from_tcp(listener)?
        .handle(handle)
        .first_request_timeout(FIRST_REQUEST_TIMEOUT);
    let served = match tls {
        Some(config) => {
            let acceptor = RustlsAcceptor::new(config).acceptor(admission);
            server.acceptor(acceptor).serve(service).await
        }
        None => server.acceptor(admission).serve(service).await,
    };
    served.context("the web server failed")
}
