//! `completions`: what a shell completes, generated from the command line's own description.

use std::io::Write as _;

use clap_complete::Shell;

use crate::bastion::cli::{Cli, CompletedShell, Completions};
use crate::bastion::failure::Exit;

pub(super) fn run(command: &Completions) -> anyhow::Result<Exit> {
    let shell = match command.shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut description = Cli::described();
    let name = description.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut description, name, &mut script);
    // A reader that has seen enough, such as `head`, is no failure.
    let _ = std::io::stdout().write_all(&script);
    Ok(Exit::Done)
}
