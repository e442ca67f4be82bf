//! What others on the host may not see.

use crate::setup::RETURN_LIMIT;
use crate::support::hosts::host_lab::HostLab;
use crate::support::hosts::image::Image;
use crate::support::hosts::network::MIRROR_NAME;

#[test]
fn the_password_of_a_proxy_reaches_apt_and_is_seen_by_nobody_else() {
    const SECRET: &str = "hunter2";
    const SETTING: &str = "home/ada/proxy";
    let lab = HostLab::boot(Image::Debian);
    let host = &lab.host;
    let line = format!("export http_proxy=http://ada:{SECRET}@{MIRROR_NAME}\n");
    host.write(&format!("/{SETTING}"), line);
    host.write(
        "/etc/sudoers.d/zz-lab",
        "Defaults logfile=/var/log/sudo.log\n",
    );
    let watcher = host.start(
        "root",
        "while :; do ps -A -ww -o args= >>/var/log/lab-ps; sleep 0.02; done",
    );

    let source = lab.data_source("Shop");
    let line = format!(". ~/proxy; {}", lab.setup_line(&source, "--yes"));
    let setup = host.start("ada", &line);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, RETURN_LIMIT);
    drop(watcher);

    assert!(lab.mirror.logins() > 0, "apt did not get the proxy");
    let seen = |file: &str| std::fs::read_to_string(host.path(file)).expect("it was written");
    assert!(seen("/var/log/lab-ps").contains("apt-get"));
    assert!(seen("/var/log/sudo.log").contains("apt-get"));
    // What is looked for must not stand on the search's own command line.
    let search = "grep --recursive -o 'h[u]nter2.*' /etc /home /root /run /tmp /var";
    let found = host.run("root", search).output();
    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(found.starts_with(&format!("/{SETTING}:")), "{found}");
}
