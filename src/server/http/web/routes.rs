//! The pages' routes, with a list of their paths: what is not on the list is not served.

use std::sync::Arc;

use axum::Router;
use axum::routing::MethodRouter;

use crate::server::http::app::App;

/// Routes and their paths.
#[derive(Default)]
pub struct Routes {
    router: Router<Arc<App>>,
    paths: Vec<&'static str>,
}

impl Routes {
    /// With this one too.
    #[must_use]
    pub fn route(mut self, path: &'static str, methods: MethodRouter<Arc<App>>) -> Self {
        self.paths.push(path);
        self.router = self.router.route(path, methods);
        self
    }

    /// What serves them.
    pub fn into_router(self) -> Router<Arc<App>> {
        self.router
    }

    pub fn into_paths(self) -> Vec<&'static str> {
        self.paths
    }
}
