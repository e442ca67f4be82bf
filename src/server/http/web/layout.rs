//! What all pages share: the layout around them, and how they become an answer.

use std::fmt;

use askama::Template;
use askama::filters::{self, HtmlSafe};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use super::assets;
use super::error::PageError;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;
use crate::server::http::problem::ApiError;

/// The layout around a page.
pub struct Layout {
    /// The path before every link.
    pub base: String,
    /// The stylesheet's name.
    pub style: &'static str,
    /// The script's name.
    pub script: &'static str,
    /// The icon's name.
    pub icon: &'static str,
    /// Who is signed in.
    pub operator: Option<String>,
    /// What the page's forms carry.
    pub form_token: String,
    /// Whether there is a page of nodes.
    pub has_nodes: bool,
}

impl Layout {
    /// For a page of somebody who is signed in.
    pub fn of(app: &App, signed_in: &SignedIn) -> Self {
        Layout {
            operator: Some(signed_in.account.name.clone()),
            ..Layout::for_anybody(app, signed_in.form_token.clone())
        }
    }

    /// For a page of anybody.
    pub fn for_anybody(app: &App, form_token: String) -> Self {
        Layout {
            base: app.web.path(""),
            style: &assets::STYLE.name,
            script: &assets::SCRIPT.name,
            icon: &assets::ICON.name,
            operator: None,
            form_token,
            has_nodes: app.tunnels.member().is_some(),
        }
    }
}

/// A page as an answer.
pub fn page(status: StatusCode, template: &impl Template) -> Result<Response, PageError> {
    match template.render() {
        Ok(html) => Ok((status, Html(html)).into_response()),
        Err(error) => Err(ApiError::internal(&error).into()),
    }
}

/// A point in time, in UTC; the script shows it in the reader's own time zone.
#[derive(Debug, Clone, Copy)]
pub struct Timestamp(pub jiff::Timestamp);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.strftime("%Y-%m-%d %H:%M UTC");
        write!(f, "<time datetime=\"{:.0}\">{shown}</time>", self.0)
    }
}

// It writes digits and its own element only.
impl HtmlSafe for Timestamp {}

/// A text of the API, where what stands between backticks is a command or a name.
#[derive(Debug, Clone)]
pub struct InlineCode(pub String);

impl fmt::Display for InlineCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.split('`').enumerate() {
            let part = filters::escape(part, filters::Html).map_err(|_| fmt::Error)?;
            match index % 2 {
                0 => write!(f, "{part}")?,
                _ => write!(f, "<code>{part}</code>")?,
            }
        }
        Ok(())
    }
}

// It escapes what it is given.
impl HtmlSafe for InlineCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_a_text_are_set_apart_and_markup_in_it_is_harmless() {
        let shown = |text: &str| InlineCode(text.to_owned()).to_string();
        assert_eq!(
            shown("Run `holistics-tunnel doctor` there."),
            "Run <code>holistics-tunnel doctor</code> there."
        );
        for text in ["<b>", "`<b>`", "a ` <b>"] {
            assert!(!shown(text).contains("<b>"), "{text}");
        }
    }
}
