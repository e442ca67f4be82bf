//! EPEL, the repository that has autossh for RHEL and its rebuilds.

/// The package that enables EPEL, as the EPEL project documents it for each distribution.
pub(super) fn release_package(id: &str, version: &str) -> Option<String> {
    let major = major(version);
    match id {
        // Fedora has autossh itself, and Amazon Linux is not what EPEL is built for.
        "fedora" | "amzn" => None,
        _ if major == 0 => None,
        "rhel" => Some(format!(
            "https://dl.fedoraproject.org/pub/epel/epel-release-latest-{major}.noarch.rpm"
        )),
        "ol" => Some(format!("oracle-epel-release-el{major}")),
        _ => Some("epel-release".to_owned()),
    }
}

/// The name of a package that is asked for by name or by the address of its file.
pub(super) fn package_name(asked: &str) -> &str {
    match asked.rsplit_once('/') {
        // epel-release-latest-9.noarch.rpm
        Some((_, file)) => file.split_once("-latest").map_or(file, |(name, _)| name),
        None => asked,
    }
}

/// The first number of a version; 0 where there is none.
pub(super) fn major(version: &str) -> u32 {
    let end = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epel_is_enabled_as_each_distribution_has_it() {
        let rhel = "https://dl.fedoraproject.org/pub/epel/epel-release-latest-9.noarch.rpm";
        for (id, version, package) in [
            ("rocky", "9.4", Some("epel-release")),
            ("ol", "8.10", Some("oracle-epel-release-el8")),
            ("rhel", "9.4", Some(rhel)),
            ("fedora", "42", None),
            ("amzn", "2023", None),
            ("centos", "", None),
        ] {
            assert_eq!(release_package(id, version).as_deref(), package, "{id}");
        }
        assert_eq!(package_name(rhel), "epel-release");
    }
}
