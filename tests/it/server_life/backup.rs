//! An installation as one file, and back.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode};

use crate::support::lab::Lab;
use crate::support::process::{self, Finished};
use crate::support::server::Server;
use crate::support::snapshot::Snapshot;
use crate::support::wait;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(60);
const FAILED: i32 = 1;

#[test]
fn a_backup_of_a_running_server_brings_everything_back_on_another_machine() {
    let mut lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let folder = Workspace::new();
    let file = folder.path().join("backup.tar");
    // Somebody writes all the time.
    std::thread::scope(|scope| {
        let operator = lab.server.operator();
        let writing = scope.spawn(move || {
            for n in 0..40 {
                operator.create(&format!("Draft {n}"), 5432);
            }
        });
        backup(&lab.server, &file)
            .expect_code(0)
            .expect_words(&["secret keys"]);
        writing.join().expect("the writer");
    });
    let mode = fs::metadata(&file)
        .expect("the backup")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        names_in(folder.path()),
        ["backup.tar"],
        "nothing else is left"
    );
    let before = fs::read(&file).expect("the backup");
    backup(&lab.server, &file)
        .expect_code(FAILED)
        .expect_words(&["already exists", "another name"]);
    assert_eq!(fs::read(&file).expect("the backup"), before);

    restore(&lab.server, &file, &[])
        .expect_code(FAILED)
        .expect_words(&["is not empty", "--replace"]);
    restore(&lab.server, &file, &["--replace"])
        .expect_code(FAILED)
        .expect_words(&["runs on", "stop it"]);

    lab.server.kill();
    fs::remove_dir_all(lab.server.data_dir()).expect("the disk is lost");
    restore(&lab.server, &file, &[])
        .expect_code(0)
        .expect_words(&["not known which", "refused keys"]);
    assert_private(&lab.server.data_dir());
    lab.server.start_again();
    wait::until_true("the tunnel is up", LIMIT, String::new, || {
        lab.login_through(&source).is_ok()
    });
    // Also the saved password's key, the host keys and the operator's token are those of before.
    assert_eq!(lab.operator.data_source(source.id).state, source.state);
}

#[test]
fn a_backup_goes_to_a_program_as_well() {
    let server = Server::start_on_sqlite();
    let folder = Workspace::new();
    let told = backup(&server, Path::new("-")).expect_code(0);
    assert!(told.stderr.contains("secret keys"), "{told}");
    let mut pipe = server.command("backup");
    pipe.arg("-");
    let bytes = pipe.output().expect("the program").stdout;
    let file = folder.path().join("piped.tar");
    fs::write(&file, bytes).expect("a file");
    restore_into(&server, &file, &folder.path().join("new"), &[]).expect_code(0);
}

#[test]
fn a_backup_that_is_not_whole_or_not_fit_changes_nothing() {
    let mut server = Server::start_on_sqlite();
    let folder = Workspace::new();
    let file = folder.path().join("backup.tar");
    backup(&server, &file).expect_code(0);
    let whole = fs::read(&file).expect("the backup");
    let refused = |name: &str, bytes: &[u8], words: &[&str]| {
        let broken = folder.path().join(name);
        fs::write(&broken, bytes).expect("a file");
        let target = folder.path().join("new");
        restore_into(&server, &broken, &target, &[])
            .expect_code(FAILED)
            .expect_words(words);
        assert!(!target.exists(), "{name} left something");
        fs::create_dir(&target).expect("an empty folder");
        restore_into(&server, &broken, &target, &[]).expect_code(FAILED);
        assert!(names_in(&target).is_empty(), "{name} left something");
        fs::remove_dir(&target).expect("an empty folder");
    };
    refused("empty", b"", &["is not a backup"]);
    refused(
        "a-letter",
        b"Dear all, please find attached",
        &["is not a backup"],
    );
    for part in [600, whole.len() / 4, whole.len() / 2, whole.len() - 4096] {
        refused(&format!("cut-at-{part}"), &whole[..part], &["a"]);
    }
    let at = |text: &[u8]| whole.windows(text.len()).position(|bytes| bytes == text);
    let changed = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let at = at(from).expect("it is in the backup");
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    refused(
        "another-database",
        &changed(b"SQLite format 3", b"SQLite format 4"),
        &["control-plane.sqlite is not what was put in"],
    );
    refused(
        "newer-format",
        &changed(b"\"format\": 1", b"\"format\": 2"),
        &["which is newer than this one", "restore it with that one"],
    );
    refused(
        "newer-schema",
        &changed(b"\"schema\": ", b"\"schema\":9"),
        &["which is newer than this one"],
    );
    refused(
        "way-out",
        &changed(b"\"name\": \"secret.key\"", b"\"name\": \"../ret.key\""),
        &["no file of a data folder"],
    );

    // Of another installation; and what is there is as it was.
    let mut other = Server::start_on_sqlite();
    other.operator().create("Theirs", 5432);
    other.stop().expect_code(0);
    server.stop().expect_code(0);
    let before = Snapshot::of(&[&other.data_dir()]);
    restore_into(&server, &file, &other.data_dir(), &["--replace"])
        .expect_code(FAILED)
        .expect_words(&["another installation", "folder of its own"]);
    before.assert_same(&Snapshot::of(&[&other.data_dir()]));
}

#[test]
fn what_is_replaced_is_put_aside() {
    let mut server = Server::start_on_sqlite();
    let folder = Workspace::new();
    let file = folder.path().join("backup.tar");
    backup(&server, &file).expect_code(0);
    let kept = server.operator().create("Made after the backup", 5432);
    server.stop().expect_code(0);
    let own = server.data_dir().join("cert.pem");
    fs::write(&own, "somebody's").expect("a file");
    let told = restore(&server, &file, &["--replace", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(told["given_since_is_known"], true);
    assert!(own.exists(), "what is not the server's is left alone");
    let aside = PathBuf::from(told["put_aside"].as_str().expect("a folder"));
    assert_private(&aside);
    server.start_again();
    let there = |server: &Server| {
        let path = format!("/data-sources/{}", kept.id);
        let call = server.operator().call(Method::GET, &path).send();
        call.expect("an answer").status()
    };
    assert_eq!(there(&server), StatusCode::NOT_FOUND);

    // It is whole: put back, it is as it was.
    server.stop().expect_code(0);
    for name in ["control-plane.sqlite", "last-run"] {
        fs::rename(aside.join(name), server.data_dir().join(name)).expect("a file of before");
    }
    server.start_again();
    assert_eq!(there(&server), StatusCode::OK);
}

#[test]
fn a_lost_database_beside_old_keys_is_refused_with_the_way_back() {
    let mut server = Server::start_on_sqlite();
    let source = server.operator().create("Shop", 5432);
    let folder = Workspace::new();
    let file = folder.path().join("backup.tar");
    backup(&server, &file).expect_code(0);
    let database = server.data_dir().join("control-plane.sqlite");
    // All of a young database is in the journal beside it.
    let copied = folder.path().join("copied.sqlite");
    fs::copy(&database, &copied).expect("a copy");
    server.kill();
    for name in ["control-plane.sqlite-wal", "control-plane.sqlite-shm"] {
        fs::remove_file(server.data_dir().join(name)).expect("it ran");
    }
    for (lose, state) in [
        (
            Box::new(|| fs::remove_file(&database).expect("it is there")) as Box<dyn Fn()>,
            "missing",
        ),
        (
            Box::new(|| fs::write(&database, "").expect("a file")),
            "empty",
        ),
        (
            Box::new(|| {
                fs::copy(&copied, &database).expect("a copy");
            }),
            "empty",
        ),
    ] {
        lose();
        for command in [
            &[
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--ssh-listen",
                "127.0.0.1:0",
            ][..],
            &["token", "list"],
            &["login-link"],
        ] {
            let mut refused = server.command(command[0]);
            refused.args(&command[1..]);
            process::run(&mut refused, folder.path(), "refused")
                .expect_code(FAILED)
                .expect_words(&["has the keys", state, "restore", "--new-installation"]);
        }
    }
    restore(&server, &file, &["--replace"]).expect_code(0);
    server.start_again();
    assert_eq!(server.operator().data_source(source.id).id, source.id);
}

#[test]
fn a_new_installation_with_old_keys_is_begun_when_it_is_meant() {
    let mut server = Server::start_on_sqlite();
    server.operator().create("Shop", 5432);
    server.stop().expect_code(0);
    fs::remove_file(server.data_dir().join("control-plane.sqlite")).expect("it is there");
    server.start_again_with(&["--new-installation"]);
    assert!(server.log().contains("sign-in link (works once"));
}

#[test]
fn a_damaged_database_makes_no_backup() {
    let mut server = Server::start_on_sqlite();
    server.operator().create("Shop", 5432);
    server.stop().expect_code(0);
    let database = server.data_dir().join("control-plane.sqlite");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&database)
        .expect("it");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("the database");
    file.seek(SeekFrom::Start(0)).expect("a file");
    file.write_all(b"no database now").expect("a file");
    let folder = Workspace::new();
    let target = folder.path().join("backup.tar");
    backup(&server, &target)
        .expect_code(FAILED)
        .expect_words(&["control-plane.sqlite"]);
    assert!(
        names_in(folder.path())
            .iter()
            .all(|name| !name.ends_with(".tar"))
    );
}

pub fn backup(server: &Server, file: &Path) -> Finished {
    let mut command = server.command("backup");
    process::run(command.arg(file), &logs(server), "backup")
}

pub fn restore(server: &Server, file: &Path, arguments: &[&str]) -> Finished {
    let mut command = server.command("restore");
    process::run(command.arg(file).args(arguments), &logs(server), "restore")
}

pub fn restore_into(server: &Server, file: &Path, folder: &Path, arguments: &[&str]) -> Finished {
    let mut command = server.any_command("restore");
    command
        .arg(file)
        .arg("--data-dir")
        .arg(folder)
        .args(arguments);
    process::run(&mut command, &logs(server), "restore")
}

fn logs(server: &Server) -> PathBuf {
    server.data_dir().parent().expect("a workspace").to_owned()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

/// Nobody but its owner reads anything in it.
fn assert_private(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in names_in(&folder) {
            let path = folder.join(name);
            let metadata = fs::metadata(&path).expect("a file");
            assert_eq!(
                metadata.permissions().mode() & 0o077,
                0,
                "{}",
                path.display()
            );
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
}
