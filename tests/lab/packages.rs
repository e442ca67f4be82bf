//! What is installed on a host, and what packages leave there.

use std::collections::BTreeSet;

use crate::support::hosts::host::Host;

/// The packages that dpkg has installed.
pub fn packages(host: &Host) -> BTreeSet<String> {
    lines(host, "dpkg-query --show --showformat '${Package}\\n'")
}

/// The packages in RPM's database.
pub fn rpm_packages(host: &Host) -> BTreeSet<String> {
    lines(host, "rpm --query --all --queryformat '%{NAME}\\n'")
}

pub fn added(before: &BTreeSet<String>, after: BTreeSet<String>) -> Vec<String> {
    after.difference(before).cloned().collect()
}

/// What the receipt says that setup installed.
pub fn packages_in_receipt(host: &Host) -> BTreeSet<String> {
    let receipt = host.read("/home/ada/.holistics/receipt.json");
    let receipt: serde_json::Value = serde_json::from_str(&receipt).expect("JSON");
    let steps = receipt["steps"].as_array().expect("a list of steps");
    steps
        .iter()
        .flat_map(|step| step["changes"].as_array().expect("a list of changes"))
        .filter(|change| change["change"] == "packages_installed")
        .flat_map(|change| change["packages"].as_array().expect("a list of packages"))
        .map(|package| package.as_str().expect("a name").to_owned())
        .collect()
}

/// Every path that installing these packages makes or changes.
pub fn files_of_packages(host: &Host, packages: &BTreeSet<String>) -> BTreeSet<String> {
    let names: Vec<_> = packages.iter().map(String::as_str).collect();
    lines(
        host,
        &format!(
            "dpkg-query --listfiles {}; find /var/lib/dpkg /etc/alternatives; echo /etc/ld.so.cache",
            names.join(" ")
        ),
    )
}

/// openssh-client makes a group, which Debian's packages never take back; and dpkg remembers that
/// packages were there.
pub fn is_left_by_purged_packages(path: &str) -> bool {
    const GROUPS: [&str; 4] = ["/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-"];
    GROUPS.contains(&path) || path.starts_with("/var/lib/dpkg/status")
}

pub fn lines(host: &Host, line: &str) -> BTreeSet<String> {
    let output = host.run("root", line).expect_code(0).stdout;
    output.lines().map(str::to_owned).collect()
}
