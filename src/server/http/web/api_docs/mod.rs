//! The API's description for people: the same document that programs read, as a page.

mod calls;
mod forms;
mod marked;

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use self::calls::{Group, groups};
use self::forms::{Form, forms};
use super::error::PageError;
use super::frame::{Frame, page};
use crate::protocol::ProblemKind;
use crate::server::http::api::openapi;
use crate::server::http::app::App;
use crate::server::http::browser::SignedIn;

#[derive(Template)]
#[template(path = "web/api_docs.html")]
struct DocsPage {
    frame: Frame,
    public_url: String,
    groups: Vec<Group>,
    forms: Vec<Form>,
    problems: Vec<ProblemKind>,
}

/// `GET /api/docs`
pub async fn show(State(app): State<Arc<App>>, signed_in: SignedIn) -> Result<Response, PageError> {
    let document = openapi::document();
    let problems = ProblemKind::ALL.iter().copied();
    let template = DocsPage {
        frame: Frame::of(&app, &signed_in),
        public_url: app.public.url.clone(),
        groups: groups(document),
        forms: forms(document),
        problems: problems
            .filter(|kind| *kind != ProblemKind::Unknown)
            .collect(),
    };
    page(StatusCode::OK, &template)
}
