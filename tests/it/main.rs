//! The real programs, as those who use them see them, all in one test program: its parts share what they stand on,
//! which is compiled and linked once. Booted hosts (`lab`) and the pages in a browser (`web`) are programs of their own.
//!
//! Each module is a journey or a side of the product, and says at its head what it needs; `scripts/test --list` says
//! which lane runs it.

#![cfg(all(feature = "bastion", feature = "server"))]

mod ansible;
mod api;
mod bootstrap;
mod changes;
mod cluster;
mod connections;
mod containers;
mod databases;
mod distros;
mod doctor;
mod failures;
mod faults;
mod journey;
mod openapi;
mod promises;
mod screens;
mod server_life;
mod service;
mod source_build;
#[path = "../support/mod.rs"]
mod support;
mod tunnel_server;
