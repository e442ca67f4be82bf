//! `man`: the manual pages, generated from the command line's own description.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use clap_mangen::Man as Page;

use crate::bastion::cli::{Cli, Man};
use crate::bastion::failure::Exit;
use crate::bastion::host::{Authority, Host, HostExt as _};

pub(super) fn run(host: &dyn Host, command: &Man) -> anyhow::Result<Exit> {
    match &command.dir {
        Some(dir) => write_all(host, dir)?,
        None => {
            let page = render(&Page::new(Cli::described()))?;
            // A reader that has seen enough, such as `head`, is no failure.
            let _ = std::io::stdout().write_all(&page);
        }
    }
    Ok(Exit::Done)
}

/// One page for the program and one for each command, as `holistics-tunnel-setup.1`.
fn write_all(host: &dyn Host, dir: &Path) -> anyhow::Result<()> {
    if !host.exists(dir) {
        host.create_dir(dir, 0o755, Authority::User)?;
    }
    let mut program = Cli::described().disable_help_subcommand(true);
    // Gives every command its full name.
    program.build();
    let commands = program.get_subcommands().cloned();
    for command in std::iter::once(program.clone()).chain(commands) {
        let page = Page::new(command);
        let file = dir.join(page.get_filename());
        host.write(&file, &render(&page)?, 0o644, Authority::User)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn render(page: &Page) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok(text)
}
