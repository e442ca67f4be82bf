//! What is on a host's disk, to be compared with what is there later.

use std::collections::{BTreeMap, BTreeSet};

use super::host::Host;

/// Every path with its kind, mode, owner, and a link's target or a file's hash; below `/usr`, which
/// is large, size and time of change stand for the hash.
#[derive(Clone)]
pub struct Disk {
    entries: BTreeMap<String, String>,
}

/// What a running system changes by itself, and the package managers' lists and downloads.
const NOT_LOOKED_AT: &[&str] = &[
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/tmp",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dnf",
    "/var/lib/systemd",
    "/var/lib/urandom",
    "/var/log",
    "/var/tmp",
];

impl Disk {
    /// Takes it.
    pub fn of(host: &Host) -> Self {
        let prune: Vec<_> = NOT_LOOKED_AT
            .iter()
            .map(|path| format!("-path {path} -prune -o"))
            .collect();
        let find = format!("find / -xdev {}", prune.join(" "));
        let listing = host.run(
            "root",
            &format!(
                "{find} -printf '%p\\t%y %m %u:%g %l\\n'; \
                 {find} -path /usr -prune -o -type f -exec sha256sum {{}} + \
                     | sed -E 's/^([^ ]*)  (.*)/\\2\\t\\1/'; \
                 find /usr -xdev -type f -printf '%p\\t%s %T@\\n'"
            ),
        );
        let mut entries = BTreeMap::<String, String>::new();
        for line in listing.expect_code(0).stdout.lines() {
            let (path, what) = line.split_once('\t').expect("a path and what it is");
            entries.entry(path.to_owned()).or_default().push_str(what);
        }
        Disk { entries }
    }

    /// Asserts that nothing has changed in `later` but for paths that `may_change` names.
    #[track_caller]
    pub fn assert_same(&self, later: &Disk, may_change: impl Fn(&str) -> bool) {
        let paths: BTreeSet<_> = self.entries.keys().chain(later.entries.keys()).collect();
        let differences: Vec<_> = paths
            .into_iter()
            .filter(|path| !may_change(path))
            .map(|path| (path, self.entries.get(path), later.entries.get(path)))
            .filter(|(_, before, after)| before != after)
            .map(|(path, before, after)| match (before, after) {
                (None, Some(after)) => format!("new: {path}: {after}"),
                (Some(before), None) => format!("gone: {path}: {before}"),
                (before, after) => format!("changed: {path}: {before:?} -> {after:?}"),
            })
            .collect();
        assert!(
            differences.is_empty(),
            "the host's disk has changed:\n{}",
            differences.join("\n")
        );
    }
}
