//! The page of an error.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::error::PageError;
use super::layout::{Layout, page};
use crate::server::http::app::App;

#[derive(Template)]
#[template(path = "web/error.html")]
struct ErrorPage {
    layout: Layout,
    error: PageError,
}

/// Gives an error its page.
pub async fn render(State(app): State<Arc<App>>, response: Response) -> Response {
    let Some(error) = response.extensions().get::<PageError>().cloned() else {
        return response;
    };
    let status = error.status;
    let template = ErrorPage {
        layout: Layout::for_anybody(&app, String::new()),
        error,
    };
    page(status, &template).unwrap_or(response)
}
