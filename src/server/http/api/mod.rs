//! The HTTP API under `/api/v1`, and the few paths beside it.
//!
//! Every handler asks for a credential by taking one of the extractors of `auth`, first of all
//! its arguments. Every error is a problem document.

pub(crate) mod auth;
pub(crate) mod connection;
pub(crate) mod data_sources;
mod enrollment;
pub(crate) mod extract;
mod health;
mod history;
mod live;
pub(crate) mod metrics;
pub mod openapi;
mod scripts;
mod tunnels;

use std::sync::Arc;

use axum::Router;
use utoipa_axum::routes;

use self::openapi::{Caller, Calls};
use crate::server::http::app::App;

/// Every call, with who may make it.
pub fn calls() -> Calls {
    let calls = Calls::default();
    let calls = operator_calls(calls);
    let calls = bastion_calls(calls);
    open_calls(calls)
}

/// Of these, what tells how a node does.
pub fn supervision() -> Router<Arc<App>> {
    let calls = Calls::default().with(Caller::Operator, routes!(metrics::read));
    let by = Caller::Anybody;
    let calls = calls.with(by, routes!(health::alive));
    calls.with(by, routes!(health::ready)).into_router()
}

fn operator_calls(calls: Calls) -> Calls {
    let by = Caller::Operator;
    calls
        .with(by, routes!(data_sources::list, data_sources::create))
        .with(
            by,
            routes!(
                data_sources::read,
                data_sources::change,
                data_sources::delete
            ),
        )
        .with(by, routes!(data_sources::register_key))
        .with(by, routes!(data_sources::confirm_target))
        .with(by, routes!(connection::test))
        .with(by, routes!(connection::save))
        .with(by, routes!(connection::forget_login))
        .with(by, routes!(history::read))
        .with(by, routes!(live::one))
        .with(by, routes!(live::all))
        .with(by, routes!(metrics::read))
}

fn bastion_calls(calls: Calls) -> Calls {
    calls
        .with(Caller::Enrolling, routes!(enrollment::read))
        .with(Caller::Enrolling, routes!(enrollment::register_key))
        .with(Caller::Enrolling, routes!(enrollment::tunnel_up))
        .with(Caller::Enrolling, routes!(enrollment::wait_for_save))
        .with(Caller::Leaving, routes!(tunnels::read, tunnels::delete))
        .with(Caller::Bastion, routes!(tunnels::change))
        .with(Caller::Bastion, routes!(tunnels::announce_key))
        .with(Caller::Bastion, routes!(tunnels::confirm_key))
}

fn open_calls(calls: Calls) -> Calls {
    let by = Caller::Anybody;
    calls
        .with(by, routes!(openapi::read))
        .with(by, routes!(scripts::bootstrap))
        .with(by, routes!(scripts::removal))
        .with(by, routes!(scripts::download))
        .with(by, routes!(health::alive))
        .with(by, routes!(health::ready))
}
