//! A host on which autossh has to be compiled: the real program, the real source from a web server on
//! loopback, the real compiler; and everything that can go wrong on the way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::ports;
use crate::support::process::{self, Running};
use holistics_tunnel::protocol::{DataSource, DataSourceState};
use rustix::process::Signal;

const FAILED: i32 = 1;
const ROLLED_BACK: i32 = 3;
const INTERRUPTED: i32 = 130;

const ARCHIVE: &[u8] = include_bytes!("../data/autossh-1.4g.tgz");
/// All names under which a C compiler is looked for.
const COMPILERS: [&str; 6] = ["gcc", "cc", "c89", "c99", "clang", "tcc"];

#[test]
fn the_compiled_autossh_runs_the_tunnel_and_goes_with_it() {
    let lab = lab_without(&["autossh"]);
    let empty = lab.bastion.snapshot();
    let source = lab.data_source("Shop");
    let setup = start(&lab, &source, &serve(ARCHIVE));
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup)
        .expect_words(&["autossh 1.4g, compiled"]);

    let compiled = compiled(&lab.bastion);
    let tunnel = tunnel_of(&source).id;
    let file = std::fs::read_to_string(lab.bastion.tunnel_file(tunnel)).expect("the tunnel's file");
    assert!(file.contains(compiled.to_str().unwrap()), "{file}");
    let running = lab.bastion.processes("autossh");
    let program = std::fs::read_link(format!("/proc/{}/exe", running[0].pid));
    assert_eq!(program.expect("the program of autossh"), compiled);
    assert!(!lab.bastion.own_folder().join("build").exists());
    let log = std::fs::read_to_string(build_log(&lab.bastion)).expect("the log of the build");
    for said in [
        "checking whether the C compiler works",
        "-o autossh autossh.o",
    ] {
        assert!(log.contains(said), "{log}");
    }

    // Again: it is found where it was put, and nothing has to be had or compiled.
    let before = lab.bastion.snapshot_of_what_lasts();
    let nowhere = format!("http://127.0.0.1:{}/", ports::free_port());
    start(&lab, &source, &nowhere)
        .wait(SETUP_LIMIT)
        .expect_code(0)
        .expect_words(&["nothing was changed"]);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());

    lab.remove(&source).expect_code(0);
    empty.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_file_that_was_carried_in_is_as_good_and_a_snap_is_not_used() {
    let lab = lab_without(&["autossh", "snap"]);
    lab.bastion
        .put_program("snap", "echo a snap ran >&2; exit 1");
    let snap = lab.bastion.program_path("snap");
    lab.bastion.link_program("autossh", &snap);
    let carried = lab.bastion.home().join("autossh.tgz");
    std::fs::write(&carried, ARCHIVE).expect("a file");

    let source = lab.data_source("Shop");
    let setup = start(&lab, &source, carried.to_str().unwrap());
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup)
        .expect_words(&["a snap can read neither the key"]);
    assert_eq!(lab.bastion.processes("autossh").len(), 1);
    assert!(compiled(&lab.bastion).exists());
}

#[test]
fn another_archive_is_neither_unpacked_nor_run() {
    let mut other = ARCHIVE.to_vec();
    other[40_000] ^= 1;
    let longer = [ARCHIVE, b"x"].concat();
    for (wrong, words) in [(other, "SHA-256"), (longer, "longer than 67599 bytes")] {
        let lab = lab_without(&["autossh"]);
        let source = lab.data_source("Shop");
        rolled_back(&lab, &source, &serve(&wrong)).expect_words(&[
            "step autossh",
            "is not the source of autossh",
            words,
            "--autossh-source",
        ]);
    }
}

#[test]
fn a_wrong_file_is_found_out_before_anything_is_changed() {
    let lab = lab_without(&["autossh"]);
    let wrong = lab.bastion.home().join("autossh.tgz");
    std::fs::write(&wrong, "not it").expect("a file");
    let before = lab.bastion.snapshot();
    let source = lab.data_source("Shop");
    for (file, words) in [
        (wrong, "is not the source of autossh"),
        (lab.bastion.home().join("absent.tgz"), "cannot read"),
    ] {
        start(&lab, &source, file.to_str().unwrap())
            .wait(SETUP_LIMIT)
            .expect_code(FAILED)
            .expect_words(&[words, "--autossh-source"]);
        before.assert_same(&lab.bastion.snapshot());
    }
}

#[test]
fn a_mirror_that_does_not_answer_is_told_with_the_way_round_it() {
    let lab = lab_without(&["autossh"]);
    let source = lab.data_source("Shop");
    let nowhere = format!("http://127.0.0.1:{}/a.tgz", ports::free_port());
    rolled_back(&lab, &source, &nowhere).expect_words(&[
        "step autossh",
        &nowhere,
        "refused",
        "--autossh-source FILE",
    ]);
}

#[test]
fn without_a_compiler_and_a_package_manager_nothing_is_begun() {
    let lab = lab_without(&[&COMPILERS[..], &["autossh"]].concat());
    let before = lab.bastion.snapshot();
    let source = lab.data_source("Shop");
    start(&lab, &source, &serve(ARCHIVE))
        .wait(SETUP_LIMIT)
        .expect_code(FAILED)
        .expect_words(&["a C compiler", "install autossh by hand"]);
    before.assert_same(&lab.bastion.snapshot());
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_build_that_fails_leaves_its_log_and_nothing_else_and_can_be_run_again() {
    let lab = lab_without(&[&COMPILERS[..], &["autossh"]].concat());
    let empty = lab.bastion.snapshot();
    lab.bastion
        .put_program("gcc", "echo 'gcc: internal compiler error' >&2; exit 4");
    let source = lab.data_source("Shop");
    let url = serve(ARCHIVE);
    start(&lab, &source, &url)
        .wait(SETUP_LIMIT)
        .expect_code(ROLLED_BACK)
        .expect_words(&[
            "step autossh",
            "could not compile autossh",
            "autossh-build.log",
        ]);
    let own = lab.bastion.own_folder();
    let log = std::fs::read_to_string(build_log(&lab.bastion)).expect("the log of the build");
    assert!(log.contains("internal compiler error"), "{log}");
    empty.assert_same(&lab.bastion.snapshot().without(&own));
    let left: Vec<_> = entries(&own).chain(entries(&own.join("logs"))).collect();
    assert_eq!(left, [own.join("logs"), build_log(&lab.bastion)]);

    lab.bastion.link_program("gcc", Path::new("/usr/bin/gcc"));
    let setup = start(&lab, &source, &url);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.remove(&source).expect_code(0);
    empty.assert_same(&lab.bastion.snapshot());
}

#[test]
fn where_no_folder_lets_a_program_run_that_is_what_is_said() {
    let lab = lab_without(&["autossh"]);
    let source = lab.data_source("Shop");
    let home = lab.bastion.home();
    let mounts = format!(
        "for dir in {} /var/tmp; do mount --bind $dir $dir; mount -o remount,bind,noexec $dir; done",
        home.display()
    );
    let before = lab.bastion.snapshot();
    start_after(&lab, &mounts, setup(&lab, &source, &serve(ARCHIVE)))
        .wait(SETUP_LIMIT)
        .expect_code(ROLLED_BACK)
        .expect_words(&["noexec", ".holistics/build", "/var/tmp"]);
    before.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_home_mounted_noexec_is_no_hindrance_where_another_folder_is_not() {
    let lab = lab_without(&["autossh"]);
    let source = lab.data_source("Shop");
    let home = lab.bastion.home();
    let mounts = format!(
        "mount --bind {0} {0}; mount -o remount,bind,noexec {0}",
        home.display()
    );
    let folders = || {
        entries(Path::new("/var/tmp"))
            .filter(|path| is_build_folder(path))
            .count()
    };
    let before = folders();
    let setup = start_after(&lab, &mounts, setup(&lab, &source, &serve(ARCHIVE)));
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    assert!(compiled(&lab.bastion).exists());
    assert!(
        folders() <= before,
        "a folder of the build was left in /var/tmp"
    );
}

#[test]
fn a_full_disk_is_named() {
    let lab = lab_without(&["autossh"]);
    let source = lab.data_source("Shop");
    let full = format!(
        "mount -t tmpfs -o size=300k none {}",
        lab.bastion.home().display()
    );
    start_after(&lab, &full, setup(&lab, &source, &serve(ARCHIVE)))
        .wait(SETUP_LIMIT)
        .expect_code(ROLLED_BACK)
        .expect_words(&["the disk is full", "free some space"]);
    assert!(!compiled(&lab.bastion).exists());
}

#[test]
fn interrupted_while_it_compiles_nothing_is_left() {
    let lab = lab_without(&[&COMPILERS[..], &["autossh"]].concat());
    let before = lab.bastion.snapshot();
    lab.bastion
        .put_program("gcc", "echo $$ > \"$HOME/compiling\"; exec sleep 60");
    let source = lab.data_source("Shop");
    let setup = start(&lab, &source, &serve(ARCHIVE));
    let compiling = lab.bastion.home().join("compiling");
    setup.wait_until("the compiler", SETUP_LIMIT, || compiling.exists());
    setup.signal(Signal::INT);
    setup.wait(SERVICE_LIMIT).expect_code(INTERRUPTED);
    process::kill_all_naming(&lab.bastion.home());
    std::fs::remove_file(compiling).expect("the sign of the compiler");
    before.assert_same(&lab.bastion.snapshot());
}

// ---------------------------------------------------------------------------------------------

/// A lab whose bastion lacks these programs and has no package manager.
fn lab_without(programs: &[&str]) -> Lab {
    Lab {
        bastion: Bastion::without(programs),
        ..Lab::new()
    }
}

fn setup(lab: &Lab, source: &DataSource, autossh_source: &str) -> Command {
    let mut command = lab.bastion.setup(&lab.server, token_of(source));
    command.args(["--autossh-source", autossh_source]);
    command
}

fn start(lab: &Lab, source: &DataSource, autossh_source: &str) -> Running {
    lab.bastion.start(&mut setup(lab, source, autossh_source))
}

/// Starts a command where these shell commands have changed the mounts, for it alone.
fn start_after(lab: &Lab, mounts: &str, command: Command) -> Running {
    let mut inside = lab.bastion.any_program("unshare");
    inside
        .args(["--user", "--map-root-user", "--mount", "sh", "-ec"])
        .arg(format!("{mounts}; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args());
    lab.bastion.start(&mut inside)
}

/// Runs a setup that fails in a step and leaves the disk as it was.
#[track_caller]
fn rolled_back(lab: &Lab, source: &DataSource, autossh_source: &str) -> process::Finished {
    let before = lab.bastion.snapshot();
    let finished = start(lab, source, autossh_source)
        .wait(SETUP_LIMIT)
        .expect_code(ROLLED_BACK);
    before.assert_same(&lab.bastion.snapshot());
    assert_eq!(process::naming(&lab.bastion.home()), []);
    finished
}

/// A web server on loopback that answers every request with this, as long as the test process lives.
fn serve(content: &[u8]) -> String {
    let content = content.to_vec();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            let mut request = BufReader::new(connection.try_clone().expect("a copy"));
            let mut line = String::new();
            while request.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                content.len()
            );
            // Who has read enough closes the connection.
            let _ = connection.write_all(head.as_bytes());
            let _ = connection.write_all(&content);
        }
    });
    format!("http://127.0.0.1:{port}/autossh-1.4g.tgz")
}

fn compiled(bastion: &Bastion) -> PathBuf {
    bastion.prefix().join("usr/local/bin/autossh")
}

fn build_log(bastion: &Bastion) -> PathBuf {
    bastion.own_folder().join("logs/autossh-build.log")
}

fn is_build_folder(path: &Path) -> bool {
    path.to_string_lossy().contains("holistics-build-")
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = folder.read_dir().expect("a folder");
    entries.flatten().map(|entry| entry.path())
}
