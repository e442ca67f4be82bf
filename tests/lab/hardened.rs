//! Hosts whose administrators have taken from homes and from ssh what they do not need.

use crate::FAILED;
use crate::packages::lines;
use crate::setup::{generated_command, remove, run_generated_command, setup_works};
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host_lab::{HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;

/// As `update-crypto-policies` of the Red Hat family has ssh read what it writes.
const INCLUDE: &str = "Include /etc/crypto-policies/back-ends/openssh.config\n";
/// Nothing of it is known to the tunnel server.
const POLICY: &str =
    "Ciphers aes256-cbc\nKexAlgorithms diffie-hellman-group1-sha1\nHostKeyAlgorithms ssh-rsa\n";

#[test]
fn a_policy_that_the_host_s_ssh_config_includes_holds_for_neither_the_proofs_nor_the_tunnel() {
    let lab = HostLab::boot(Image::DebianReady);
    let root = |line: &str| lab.host.run("root", line).expect_code(0);
    root("mkdir -p /etc/crypto-policies/back-ends");
    lab.host
        .write("/etc/crypto-policies/back-ends/openssh.config", POLICY);
    lab.host
        .write("/etc/ssh/ssh_config.d/50-redhat.conf", INCLUDE);
    // It holds for everybody else's ssh.
    let (port, name) = (lab.server.ssh_port(), "tunnel@vendor.example");
    lab.host
        .run("ada", &format!("ssh -o BatchMode=yes -p {port} {name}"))
        .expect_code(255)
        .expect_words(&["no matching key exchange method found"]);
    let source = setup_works(&lab, "");
    let running = lines(&lab.host, "pgrep --list-full --exact ssh");
    assert!(
        running.iter().all(|ssh| ssh.contains(" -F none ")),
        "{running:?}"
    );
    remove(&lab, &source).expect_code(0);
}

#[test]
fn a_home_from_which_nothing_can_be_run_is_told_by_the_script_and_serves_a_program_from_elsewhere()
{
    let lab = HostLab::boot(Image::DebianReady);
    let noexec = "mount --bind /home/ada /home/ada && mount -o remount,bind,noexec /home/ada";
    lab.host.run("root", noexec).expect_code(0);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    assert!(generated_command(&source).contains("| sh"));
    run_generated_command(&lab, &source)
        .wait(SETUP_LIMIT)
        .expect_code(FAILED)
        .expect_words(&["/home/ada/.holistics/bin", "noexec"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    // The program that root has put elsewhere.
    let source = setup_works(&lab, "");
    lab.host
        .run("ada", "holistics-tunnel uninstall-tunnel --all --yes")
        .expect_code(0);
    drop(source);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
}
