//! The tools and shells that a bastion may have, and those that it may lack.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::bootstrap::vendor::{Vendor, arguments, input};
use crate::bootstrap::{FAILED, SHELLS, program_of, run, url_in, url_of};
use crate::support::bastion::Bastion;
use crate::support::lab::{token_of, tunnel_of};
use crate::support::workspace::write_program;

/// What fetches the script, on a bastion that has nothing else for it.
const FETCHERS: [(&str, &[&str]); 3] = [
    ("curl -fsSL", &["wget"]),
    ("wget -qO-", &["curl"]),
    // Busybox is `wget` there.
    ("busybox wget -qO-", &["curl", "wget"]),
];

#[test]
fn whatever_fetches_and_runs_the_script_the_program_gets_its_arguments_and_the_token() {
    let vendor = Vendor::new();
    for (fetcher, missing) in FETCHERS {
        for shell in SHELLS {
            let bastion = Bastion::without(missing);
            if fetcher.starts_with("busybox") {
                bastion.link_program("wget", Path::new("/bin/busybox"));
            }
            let source = vendor.data_source();
            let url = url_of(&source);
            let line = format!("{fetcher} {url} | {shell} -s -- --yes --wait 5m");
            let finished = run(&bastion, &line).expect_code(0);
            assert_eq!(finished.output(), "", "{line}");

            let server = vendor.server.url.as_str();
            let expected = [
                "setup",
                "--server",
                server,
                "--token-file",
                "-",
                "--yes",
                "--wait",
                "5m",
            ];
            assert_eq!(arguments(&bastion), expected, "{line}");
            assert_eq!(input(&bastion), format!("{}\n", token_of(&source)));
            assert_eq!(only_program_s_mode(&bastion), 0o700, "{line}");
        }
    }
}

#[test]
fn the_removal_s_script_fetches_the_program_only_where_it_is_missing() {
    let vendor = Vendor::new();
    let bastion = Bastion::new();
    let source = vendor.data_source();
    vendor.operator.enroll_nobody(&source);
    let removal = vendor.operator.delete(source.id);
    for (run_before, shell) in SHELLS.into_iter().enumerate() {
        let url = url_in(&removal.command);
        run(
            &bastion,
            &format!("curl -fsSL {url} | {shell} -s -- --force"),
        )
        .expect_code(0);
        let (id, server) = (
            tunnel_of(&source).id.to_string(),
            vendor.server.url.as_str(),
        );
        let expected = [
            "uninstall-tunnel",
            &id,
            "--yes",
            "--server",
            server,
            "--token-file",
            "-",
            "--force",
        ];
        assert_eq!(arguments(&bastion), expected);
        assert_eq!(input(&bastion), format!("{}\n", removal.token));
        if run_before == 0 {
            // What is there now is not fetched again.
            vendor.offered.clear();
        }
    }
}

#[test]
fn without_curl_and_wget_it_says_what_to_install_and_makes_nothing() {
    let vendor = Vendor::new();
    let bastion = Bastion::without(&["curl", "wget"]);
    let before = bastion.snapshot();
    let script = vendor.script(&bastion);
    run(&bastion, &format!("sh -s <{}", script.display()))
        .expect_code(FAILED)
        .expect_words(&["neither curl nor wget", "install"]);
    before.assert_same(&bastion.snapshot());
}

#[test]
fn a_curl_from_snap_which_cannot_write_there_is_passed_over_for_wget() {
    let vendor = Vendor::new();
    for (missing, code, words) in [
        (["curl"].as_slice(), 0, [].as_slice()),
        (&["curl", "wget"], FAILED, &["snap", "apt-get install curl"]),
    ] {
        let bastion = Bastion::without(missing);
        let script = vendor.script(&bastion);
        let folder = bastion.temporary().join("snap/bin");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::os::unix::fs::symlink("/bin/false", folder.join("curl")).expect("a link");
        let line = format!(
            "PATH={}:$PATH sh -s <{}",
            folder.display(),
            script.display()
        );
        run(&bastion, &line).expect_code(code).expect_words(words);
    }
}

#[test]
fn without_anything_that_computes_the_hash_nothing_is_downloaded() {
    const TOOLS: [&str; 3] = ["sha256sum", "shasum", "openssl"];
    let vendor = Vendor::new();
    let bastion = Bastion::without(&TOOLS);
    // Were it called, there would be another message.
    bastion.put_program("curl", "echo called >&2");
    let before = bastion.snapshot();
    let script = vendor.script(&bastion);
    let finished = run(&bastion, &format!("sh -s <{}", script.display()))
        .expect_code(FAILED)
        .expect_words(&TOOLS);
    assert!(!finished.stderr.contains("called"), "{finished}");
    before.assert_same(&bastion.snapshot());
}

#[test]
fn any_one_tool_that_computes_the_hash_is_enough() {
    let vendor = Vendor::new();
    for missing in [["shasum", "openssl"], ["sha256sum", "shasum"]] {
        let bastion = Bastion::without(&missing);
        let source = vendor.data_source();
        let line = format!("curl -fsSL {} | sh", url_of(&source));
        run(&bastion, &line).expect_code(0);
        assert_eq!(input(&bastion), format!("{}\n", token_of(&source)));
    }
}

#[test]
fn a_program_that_is_there_already_is_not_downloaded_again() {
    let vendor = Vendor::new();
    let bastion = Bastion::without(&[]);
    let line = format!("curl -fsSL {} | sh", url_of(&vendor.data_source()));
    run(&bastion, &line).expect_code(0);
    let script = vendor.script(&bastion);
    vendor.offered.clear();
    run(&bastion, &format!("sh -s <{}", script.display())).expect_code(0);

    // One that is another, by whatever way, is replaced.
    write_program(&program_of(&bastion), "#!/bin/sh\nexit 9\n");
    run(&bastion, &format!("sh -s <{}", script.display()))
        .expect_code(FAILED)
        .expect_words(&["404"]);
}

/// The mode of the one thing that lies in `~/.holistics/bin`.
#[track_caller]
fn only_program_s_mode(bastion: &Bastion) -> u32 {
    let program = program_of(bastion);
    let folder = program.parent().expect("a folder");
    let beside = folder.read_dir().expect("a folder").count();
    assert_eq!(beside, 1, "files in {}", folder.display());
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    assert_eq!(mode(&bastion.own_folder()), 0o700);
    mode(&program)
}
