//! What a browser shows: plain pages and forms that work without JavaScript.
//!
//! The pages do what the API does, by the same use cases of the domain; nothing is decided here that a
//! program with a token would find otherwise. One file holds one page or one group of forms. [`session`] lets
//! people in, `forms` keeps other sites from sending forms in their name, `layout` is what all
//! pages share, and `assets` the style and the script.

mod account;
mod api_tokens;
mod assets;
mod audit;
mod by_hand;
mod connection;
mod create;
mod detail;
mod drawing;
mod edit;
mod error;
mod error_page;
mod events;
mod figures;
mod forms;
mod headers;
mod known_browser;
mod labels;
mod layout;
mod list;
mod nodes;
mod operators;
mod pages;
mod removal;
mod routes;
pub(crate) mod session;
mod sign_in;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::response::Redirect;
use axum::routing::{get, post};

use crate::server::http::app::App;

use routes::Routes;

/// All pages.
pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let state = || Arc::clone(app);
    Router::new()
        .merge(
            signed_in_routes()
                .into_router()
                .route_layer(from_fn_with_state(state(), session::require)),
        )
        .merge(open_routes().into_router())
        .route_layer(from_fn_with_state(state(), forms::protect))
        .route_layer(map_response_with_state(state(), error_page::render))
        .route_layer(map_response_with_state(state(), headers::secure))
}

/// The paths of the pages for those who are signed in, and of those for anybody.
pub fn paths() -> [Vec<&'static str>; 2] {
    [signed_in_routes().into_paths(), open_routes().into_paths()]
}

/// Pages for those who are signed in.
fn signed_in_routes() -> Routes {
    Routes::default()
        .route("/", get(home))
        .route("/data-sources", get(list::show).post(create::create))
        .route("/data-sources/new", get(create::show))
        .route("/data-sources/{id}", get(detail::show))
        .route("/data-sources/{id}/events", get(events::show))
        .route("/data-sources/{id}/command", post(create::new_command))
        .route("/data-sources/{id}/test", post(connection::test))
        .route("/data-sources/{id}/save", post(connection::save))
        .route("/data-sources/{id}/forget-login", post(connection::forget))
        .route(
            "/data-sources/{id}/by-hand",
            get(by_hand::show).post(by_hand::register),
        )
        .route(
            "/data-sources/{id}/target-applied",
            post(by_hand::confirm_target),
        )
        .route(
            "/data-sources/{id}/edit",
            get(edit::show).post(edit::change),
        )
        .route(
            "/data-sources/{id}/delete",
            get(removal::show).post(removal::remove),
        )
        .route(
            "/api-tokens",
            get(api_tokens::show).post(api_tokens::create),
        )
        .route("/api-tokens/revoke", post(api_tokens::revoke))
        .route("/operators", get(operators::show))
        .route("/operators/disable", post(operators::disable))
        .route("/operators/enable", post(operators::enable))
        .route("/operators/remove", post(operators::remove))
        .route("/nodes", get(nodes::show))
        .route("/nodes/drain", post(nodes::drain))
        .route("/nodes/go-on", post(nodes::go_on))
        .route("/nodes/regions", post(nodes::add_region))
        .route("/account", get(account::show).post(account::set_password))
        .route("/audit", get(audit::show))
        .route("/sign-out", post(sign_in::sign_out))
}

/// What works without being signed in.
fn open_routes() -> Routes {
    Routes::default()
        .route("/sign-in", get(sign_in::show).post(sign_in::by_password))
        .route(
            "/login/{token}",
            get(sign_in::show_link).post(sign_in::by_link),
        )
        .route("/assets/{file}", get(assets::serve))
}

async fn home(axum::extract::State(app): axum::extract::State<Arc<App>>) -> Redirect {
    Redirect::to(&app.web.path("/data-sources"))
}
