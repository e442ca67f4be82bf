//! Who runs a database. PostgreSQL and MariaDB refuse root.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// An account that is not root.
pub enum Account {
    /// Whoever runs the tests.
    Ourselves,
    /// Somebody else, where root runs them.
    Other {
        /// The user.
        uid: u32,
        /// The user's group.
        gid: u32,
    },
}

impl Account {
    /// One that may run a database.
    pub fn for_a_database() -> Self {
        if !rustix::process::getuid().is_root() {
            return Account::Ourselves;
        }
        let (uid, gid) = passwd_entry("postgres")
            .or_else(|| passwd_entry("nobody"))
            .expect("a user `postgres` or `nobody`");
        Account::Other { uid, gid }
    }

    /// Makes the account the owner of a file or a folder.
    pub fn give(&self, path: &Path) {
        if let Account::Other { uid, gid } = *self {
            chown(path, Some(uid), Some(gid)).expect("root may give a folder away");
        }
    }

    /// Lets a command run as this account.
    pub fn apply_to(&self, command: &mut Command) {
        if let Account::Other { uid, gid } = *self {
            command.uid(uid).gid(gid);
        }
    }
}

fn passwd_entry(name: &str) -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let found = fields.first() == Some(&name);
        found.then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
    })
}
