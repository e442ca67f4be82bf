//! What speaks HTTP: [`api`] for programs, [`web`] for browsers, and what a bastion fetches before it has the program
//! ([`scripts`], [`downloads`]). What both say the same way stands in [`view`] and [`problem`].
//!
//! Thin on purpose: a handler reads a request, calls a use case and shows the outcome. Rules live in
//! [`super::domain`].

pub mod address;
pub mod admission;
pub mod api;
pub mod app;
pub mod browser;
pub mod by_hand;
pub mod certificate;
pub mod client;
pub mod connections;
pub mod downloads;
pub mod problem;
pub mod rate_limit;
pub mod router;
pub mod scripts;
pub mod shared;
pub mod view;
pub mod web;
pub mod whole_body;
