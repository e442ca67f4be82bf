//! How many sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Raises the soft limit to the hard one. The soft limit is 1024 on most systems, for the sake of
/// programs that use `select(2)`; that would be some 500 tunnels.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(e) = setrlimit(Resource::Nofile, raised) {
        warn!(
            "cannot raise the limit of open files, {:?}: {e}; with very many tunnels, connections \
             will be refused",
            limit.current
        );
    }
}

/// How many files and sockets this process may have open, if that is bounded.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
