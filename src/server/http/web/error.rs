//! Errors in words for a person.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::server::domain::inputs::Invalid;
use crate::server::domain::{AccessError, Error};
use crate::server::http::problem::{self, ApiError};
use crate::server::store::StoreError;

/// An error for a person; `error_page` gives it its page.
#[derive(Debug, Clone)]
pub struct PageError {
    pub status: StatusCode,
    pub title: String,
    pub detail: String,
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

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        ApiError::new(problem::kind(&error), words(&error)).into()
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<AccessError> for PageError {
    fn from(error: AccessError) -> Self {
        let status = match error {
            AccessError::Store(error) => return error.into(),
            AccessError::NoSuchOperator(_) | AccessError::NoSuchToken(_) => StatusCode::NOT_FOUND,
            AccessError::AskerGone => StatusCode::FORBIDDEN,
            _ => StatusCode::CONFLICT,
        };
        PageError {
            status,
            title: "Nothing was changed".to_owned(),
            detail: sentence(&error.to_string()),
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Why something is not done, as a sentence on a page.
pub fn words(error: &Error) -> String {
    match error {
        Error::Invalid(Invalid { field, rule }) => {
            let field = match *field {
                "display_name" => "the display name",
                field => field,
            };
            sentence(&format!("{field} {rule}"))
        }
        error => sentence(&error.to_string()),
    }
}

/// Words that begin small, as a sentence.
pub fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let mut sentence: String = first.to_uppercase().chain(letters).collect();
    if !sentence.ends_with(['.', '!', '?', ':']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::domain::inputs;

    #[test]
    fn a_page_calls_a_field_as_its_form_does() {
        let of = |invalid: Invalid| words(&invalid.into());
        assert_eq!(
            of(inputs::display_name(" ").unwrap_err()),
            "The display name must not be empty."
        );
        assert_eq!(
            of(inputs::port("port", 0).unwrap_err()),
            "Port must be between 1 and 65535."
        );
    }
}
