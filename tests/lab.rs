//! The journey on booted hosts: real users, real sudo, the host's own package manager.

mod support;

use support::hosts::disk::Disk;
use support::hosts::host::Host;
use support::hosts::host_lab::HostLab;
use support::hosts::image::Image;

#[test]
fn debian_without_autossh_gets_it_by_apt_and_the_tunnel_carries_queries() {
    let lab = HostLab::boot(Image::Debian);
    assert_eq!(programs(&lab.host), "");
    let before = packages(&lab.host);
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("ada", &source, "--init sysv");
    lab.wait_until_connected(&source, &setup);
    lab.wait_until_rows_come(&source, support::lab::SERVICE_LIMIT);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, support::lab::SERVICE_LIMIT);
    println!("{}", lab.host.read("/home/ada/.holistics/receipt.json"));
    let _ = (before, Disk::of(&lab.host));
}

/// The programs that setup needs, as far as ada finds them.
fn programs(host: &Host) -> String {
    host.run("ada", "command -v ssh autossh curl; true").stdout
}

/// The packages that dpkg has installed.
fn packages(host: &Host) -> Vec<String> {
    let listed = host.run("root", "dpkg-query --show --showformat '${Package}\\n'");
    let listed = listed.expect_code(0).stdout;
    listed.lines().map(str::to_owned).collect()
}
