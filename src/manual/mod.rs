//! The guides for a tunnel that is set up by hand, where the bastion's program does not run: one text for
//! each system, printed by `holistics-tunnel manual` and shown on the data source's page.
//!
//! The texts stand in `templates/manual/`. What is to be typed is indented by five spaces, and nothing else
//! is, so that a page can give each such part its copy button: see [`parts()`].

mod parts;
mod quoting;
mod values;

use askama::Template;

pub use parts::{Part, parts};
pub use values::Values;

/// The systems that there is a guide for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// Linux, whatever the distribution.
    Linux,
    /// macOS.
    Macos,
    /// Windows: OpenSSH's client, or Bitvise.
    Windows,
}

impl System {
    /// All of them, the one first for which there is no program.
    pub const ALL: [System; 3] = [System::Windows, System::Linux, System::Macos];

    /// The name in commands and addresses.
    pub fn word(self) -> &'static str {
        match self {
            System::Linux => "linux",
            System::Macos => "macos",
            System::Windows => "windows",
        }
    }

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            System::Linux => "Linux",
            System::Macos => "macOS",
            System::Windows => "Windows",
        }
    }
}

#[derive(Template)]
#[template(path = "manual/linux.txt", escape = "none")]
struct Linux<'a> {
    v: &'a Values,
}

#[derive(Template)]
#[template(path = "manual/macos.txt", escape = "none")]
struct Macos<'a> {
    v: &'a Values,
}

#[derive(Template)]
#[template(path = "manual/windows.txt", escape = "none")]
struct Windows<'a> {
    v: &'a Values,
}

#[derive(Template)]
#[template(path = "manual/linux-removal.txt", escape = "none")]
struct LinuxRemoval<'a> {
    v: &'a Values,
}

#[derive(Template)]
#[template(path = "manual/macos-removal.txt", escape = "none")]
struct MacosRemoval<'a> {
    v: &'a Values,
}

#[derive(Template)]
#[template(path = "manual/windows-removal.txt", escape = "none")]
struct WindowsRemoval<'a> {
    v: &'a Values,
}

/// The guide for a system.
pub fn render(system: System, v: &Values) -> Result<String, askama::Error> {
    match system {
        System::Linux => Linux { v }.render(),
        System::Macos => Macos { v }.render(),
        System::Windows => Windows { v }.render(),
    }
}

/// What is to be removed from such a machine; the end of its guide.
pub fn render_removal(system: System, v: &Values) -> Result<String, askama::Error> {
    match system {
        System::Linux => LinuxRemoval { v }.render(),
        System::Macos => MacosRemoval { v }.render(),
        System::Windows => WindowsRemoval { v }.render(),
    }
}
