//! The bastion's program, `holistics-tunnel`.
//!
//! Data flows one way: [`facts`] (what this host is) → [`plan`](mod@plan) (pure: which steps) →
//! [`steps`] (what is done) → [`host`] (the one seam to the machine). [`run`] is the engine: it carries steps
//! out and goes back, writes the [`receipt`] before each change, and [`change`] undoes. [`packages`] and [`service`] hold one type
//! for each package manager and service manager; [`ssh`] holds every command line of ssh and autossh.

pub mod change;
pub mod cli;
pub mod commands;
pub mod control_plane;
pub mod copies;
pub mod doctor;
pub mod facts;
pub mod failure;
pub mod guide;
mod help;
pub mod host;
pub mod layout;
pub mod lock;
pub mod packages;
pub mod plan;
pub mod receipt;
pub mod restart;
pub mod run;
pub mod service;
pub mod settings;
pub mod ssh;
pub mod steps;
pub mod tunnel_name;
pub mod ui;

/// Runs the program with the process's arguments and returns its exit code.
pub fn main() -> i32 {
    commands::run(cli::Cli::read()) as i32
}
