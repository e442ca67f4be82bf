//! The bastion's program, `holistics-tunnel`.
//!
//! Data flows one way: [`facts`] (what this host is) → [`plan`](mod@plan) (pure: which steps) →
//! [`steps`] (what is done) → [`host`] (the one seam to the machine). [`run`] is the engine: it carries steps
//! out and goes back, writes the [`receipt`] before each change, and [`change`] undoes. [`packages`] and [`service`] hold one type
//! for each package manager and service manager; [`ssh`] holds every command line of ssh and autossh.

mod change;
mod cli;
mod commands;
mod control_plane;
mod copies;
mod doctor;
mod facts;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guide;
mod help;
mod host;
mod layout;
mod lock;
mod packages;
mod plan;
mod processes;
mod receipt;
mod restart;
mod run;
mod service;
mod settings;
mod ssh;
mod steps;
/// Public, so that tests say which files are a tunnel's.
pub mod tunnel_name;
mod ui;
mod way_out;
mod web_proxy;

/// Runs the program with the process's arguments and returns its exit code.
pub fn main() -> i32 {
    commands::run(cli::Cli::read()) as i32
}
