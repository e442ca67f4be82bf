//! What speaks HTTP: [`api`] for programs, [`web`] for browsers, and what a bastion fetches before it has the program
//! ([`scripts`], [`downloads`]). What both say the same way stands in [`view`] and [`problem`].
//!
//! Thin on purpose: a handler reads a request, calls a use case and shows the outcome. Rules live in
//! [`super::domain`].

pub(crate) mod address;
pub(crate) mod admission;
pub mod api;
pub mod app;
pub(crate) mod browser;
pub(crate) mod by_hand;
pub(crate) mod certificate;
pub(crate) mod client;
pub mod connections;
pub mod downloads;
pub(crate) mod problem;
pub(crate) mod rate_limit;
pub mod router;
pub mod scripts;
pub mod shared;
pub(crate) mod view;
pub mod web;
pub(crate) mod whole_body;
