//! What is generated from the command line's own description: manual pages, and what shells complete.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::cli::{Cli, CompletedShell};

/// `completions`.
pub fn completions(shell: CompletedShell) -> anyhow::Result<()> {
    let shell = match shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    let mut description = Cli::command();
    let name = description.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut description, name, &mut script);
    show(&script);
    Ok(())
}

/// `man`: one page, or one for the program and each command, as `holistics-tunnel-server-serve.1`.
pub fn man(dir: Option<&Path>) -> anyhow::Result<()> {
    let Some(dir) = dir else {
        show(&render(&Man::new(Cli::command()))?);
        return Ok(());
    };
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut program = Cli::command().disable_help_subcommand(true);
    // Gives every command its full name.
    program.build();
    let commands = program.get_subcommands().cloned();
    for command in std::iter::once(program.clone()).chain(commands) {
        let page = Man::new(command);
        let file = dir.join(page.get_filename());
        fs::write(&file, render(&page)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// A reader that has seen enough, such as `head`, is no failure.
fn show(text: &[u8]) {
    let _ = io::stdout().write_all(text);
}

fn render(page: &Man) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok(text)
}
