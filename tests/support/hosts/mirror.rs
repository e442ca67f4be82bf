//! The web server from which hosts get their packages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::header::PROXY_AUTHORIZATION;
use axum::middleware::Next;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_http::services::ServeDir;

use super::image::product;
use super::network::{MIRROR, MIRROR_NAME};

/// A package mirror on [`MIRROR`], port 80, and a proxy on the way to itself. Dropped, it ends.
pub struct Mirror {
    /// How many requests came with a login for the proxy.
    logins: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Mirror {
    /// Starts it. The calling thread must be on the machine that has the address.
    pub fn start() -> Self {
        // Its threads are made here, and so are on the machine where this thread is.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind((MIRROR, 80)))
            .expect("port 80 of the mirror's address");
        let logins = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&logins);
        let count = move |request: Request, next: Next| {
            if request.headers().contains_key(PROXY_AUTHORIZATION) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            next.run(request)
        };
        let pages = Router::new()
            .nest_service(
                "/debian",
                ServeDir::new(product("mirror-debian").join("tree")),
            )
            .nest_service("/rpm", ServeDir::new(product("mirror-rpm").join("tree")))
            .layer(axum::middleware::from_fn(count));
        runtime.spawn(axum::serve(listener, pages).into_future());
        Mirror {
            logins,
            runtime: Some(runtime),
        }
    }
}

impl Mirror {
    /// How many requests came with a login for the proxy.
    pub fn logins(&self) -> usize {
        self.logins.load(Ordering::Relaxed)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// apt's list of sources that names the mirror alone.
pub fn apt_sources() -> String {
    format!("deb [trusted=yes] http://{MIRROR_NAME}/debian ./\n")
}

/// A repository of dnf on the mirror: `with-autossh` or `without-autossh`.
pub fn dnf_repository(name: &str) -> String {
    format!("[lab]\nname=Lab\nbaseurl=http://{MIRROR_NAME}/rpm/{name}\nenabled=1\ngpgcheck=0\n")
}
