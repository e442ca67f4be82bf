//! The autossh that is installed and can be used.

use std::path::{Path, PathBuf};

use crate::bastion::facts::{self, AutosshOrigin};
use crate::bastion::host::{Command, Host, HostExt as _};
use crate::bastion::layout::Layout;

/// The autossh to use, as the host is now: the first on PATH that is not from snap, or else one that we
/// compiled, where PATH need not lead.
pub fn find(host: &dyn Host, layout: &Layout) -> Option<PathBuf> {
    let is_usable = |path: &PathBuf| facts::autossh_origin(host, path) != AutosshOrigin::Snap;
    if let Some(path) = host.which("autossh").filter(is_usable) {
        return Some(path);
    }
    let path = host.env("PATH").unwrap_or_default();
    let behind_snap = path
        .split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| Path::new(dir).join("autossh"));
    behind_snap
        .chain([layout.compiled_autossh()])
        .find(|path| host.exists(path) && is_usable(path))
}

/// Has it say its version. Without a port to monitor, Debian's, which is a script, does not look for a free one first.
pub fn version(autossh: &str) -> Command {
    Command::new(autossh).args(["-M", "0", "-V"])
}
