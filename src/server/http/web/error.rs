//! Errors as pages.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::frame::{Frame, page};
use crate::server::app::App;
use crate::server::http::api::problem::ApiError;
use crate::server::store::StoreError;

/// An error for a person; [`render`] gives it its page.
#[derive(Debug, Clone)]
pub struct PageError {
    status: StatusCode,
    title: String,
    detail: String,
}

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        PageError {
            status: error.status(),
            title: error.problem().title.clone(),
            detail: sentence(&error.problem().detail),
        }
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "web/error.html")]
struct ErrorPage {
    frame: Frame,
    error: PageError,
}

/// Gives an error its page.
pub async fn render(State(app): State<Arc<App>>, response: Response) -> Response {
    let Some(error) = response.extensions().get::<PageError>().cloned() else {
        return response;
    };
    let status = error.status;
    let template = ErrorPage {
        frame: Frame::for_anybody(&app, String::new()),
        error,
    };
    page(status, &template).unwrap_or(response)
}

/// The words of the API, which begin small and name fields, as a sentence.
pub fn sentence(words: &str) -> String {
    let words = words.replacen("display_name", "the display name", 1);
    let mut letters = words.chars();
    let Some(first) = letters.next() else {
        return words;
    };
    let mut sentence: String = first.to_uppercase().chain(letters).collect();
    if !sentence.ends_with(['.', '!', '?', ':']) {
        sentence.push('.');
    }
    sentence
}
