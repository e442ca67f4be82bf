//! Whether the files of the tunnels are for those they are meant for: ssh refuses a key that others can
//! read, and nobody but this user may pin host keys.

use std::path::Path;

use super::check::Finding;
use crate::bastion::host::{Host, Stat};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Receipt;
use crate::shell;

/// The bits that let the group or others read, write or enter.
const ANYBODY_ELSE: u32 = 0o077;
/// The bits that let the group or others write.
const OTHERS_WRITE: u32 = 0o022;

/// Looks at the user's folder and at the system's files.
pub fn examine(host: &dyn Host, layout: &Layout, receipt: &Receipt) -> Finding {
    let mut private = vec![layout.user_dir(), layout.receipt()];
    private.extend(
        receipt
            .key_type
            .map(|key_type| layout.private_key(key_type)),
    );
    for tunnel in receipt.tunnels.keys() {
        private.extend([layout.ssh_config(*tunnel), layout.proxy_script(*tunnel)]);
    }
    let mut shared = vec![layout.known_hosts()];
    let files = receipt.tunnels.keys().map(|id| layout.tunnel_file(*id));
    shared.extend(std::iter::once(layout.tunnels_dir()).chain(files));
    let uid = host.user().uid;
    for path in &private {
        if let Some(finding) = look(host, path, ANYBODY_ELSE, uid) {
            return finding;
        }
    }
    for path in &shared {
        // Those below the prefix are root's, unless the user owns that too.
        let is_system = path.starts_with(layout.tunnels_dir());
        let owner = if is_system && layout.is_system_wide() {
            0
        } else {
            uid
        };
        if let Some(finding) = look(host, path, OTHERS_WRITE, owner) {
            return finding;
        }
    }
    Finding::pass("the key, the receipt and the pinned host keys are for this user alone")
}

fn look(host: &dyn Host, path: &Path, forbidden: u32, owner: u32) -> Option<Finding> {
    match host.stat(path) {
        Ok(Some(stat)) => wrong(path, stat, forbidden, owner),
        // What is missing is another check's business.
        Ok(None) => None,
        Err(error) => Some(Finding::fail(
            format!("{} cannot be looked at: {error}", path.display()),
            format!("run `ls -ld {}` and give it to this user", path.display()),
        )),
    }
}

fn wrong(path: &Path, stat: Stat, forbidden: u32, owner: u32) -> Option<Finding> {
    let shown = shell::word(&path.to_string_lossy()).into_owned();
    let sudo = if owner == 0 { "sudo " } else { "" };
    if stat.uid != owner {
        return Some(Finding::fail(
            format!(
                "{shown} belongs to user {}, and has to belong to user {owner}",
                stat.uid
            ),
            format!("run `sudo chown {owner} {shown}`, and find out who changed it"),
        ));
    }
    if stat.mode & forbidden == 0 {
        return None;
    }
    let who = if forbidden == ANYBODY_ELSE {
        "go="
    } else {
        "go-w"
    };
    Some(Finding::fail(
        format!(
            "{shown} has the permissions {:o}: users other than its owner can access it",
            stat.mode
        ),
        format!("run `{sudo}chmod {who} {shown}`"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::doctor::check::Outcome;
    use crate::bastion::host::Authority;
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::ssh::KeyType;

    #[test]
    fn a_key_that_others_can_read_fails_with_the_command_that_mends_it() {
        let host = ScriptedHost::new();
        let layout = Layout::new(&host, Path::new("/home/ada"));
        let mut receipt = Receipt::new(Path::new("/home/ada"));
        receipt.key_type = Some(KeyType::Rsa);
        host.create_dir(&layout.user_dir(), 0o700, Authority::User)
            .unwrap();
        let key = layout.private_key(KeyType::Rsa);
        host.write(&key, b"key", 0o600, Authority::User).unwrap();
        assert_eq!(examine(&host, &layout, &receipt).outcome, Outcome::Pass);
        host.write(&key, b"key", 0o640, Authority::User).unwrap();
        let finding = examine(&host, &layout, &receipt);
        assert_eq!(finding.outcome, Outcome::Fail);
        assert_eq!(
            finding.remedy.unwrap(),
            "run `chmod go= /home/ada/.holistics/id_rsa`"
        );
    }
}
