//! What setup needs on a host, and whether it is there.

use std::path::Path;

use crate::bastion::host::{Host, HostExt as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// `curl`, for the bootstrap and removal commands.
    Curl,
    Autossh,
    /// `ssh` and `ssh-keygen`.
    OpensshClient,
    /// nmap's netcat, which leads ssh through a web proxy.
    Ncat,
    Compiler,
    Make,
    LibcHeaders,
    Tar,
}

/// What autossh is built with.
pub const BUILD_NEEDS: [Need; 4] = [Need::Compiler, Need::Make, Need::LibcHeaders, Need::Tar];

/// Where the C library's headers are; on macOS they come with the developer tools.
const LIBC_HEADERS: [&str; 3] = [
    "/usr/include/stdio.h",
    "/Library/Developer/CommandLineTools/SDKs",
    "/Applications/Xcode.app",
];

impl Need {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Need::Curl => "curl",
            Need::Autossh => "autossh",
            Need::OpensshClient => "ssh and ssh-keygen",
            Need::Ncat => "ncat",
            Need::Compiler => "a C compiler",
            Need::Make => "make",
            Need::LibcHeaders => "the C library's headers",
            Need::Tar => "tar",
        }
    }

    pub fn is_met(self, host: &dyn Host) -> bool {
        let has = |program| host.which(program).is_some();
        match self {
            Need::Curl => has("curl"),
            Need::Autossh => has("autossh"),
            Need::OpensshClient => has("ssh") && has("ssh-keygen"),
            Need::Ncat => has("ncat"),
            Need::Compiler => has("gcc") || has("cc"),
            Need::Make => has("make"),
            Need::LibcHeaders => LIBC_HEADERS.iter().any(|path| host.exists(Path::new(path))),
            Need::Tar => has("tar"),
        }
    }
}
