//! A backup, a restore or a move that is killed half-way: the same command again ends as if nothing had been.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::backup::{backup, restore, restore_into};
use crate::support::process::{self, Running};
use crate::support::server::Server;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(120);
const FAILED: i32 = 1;

/// What a restore moves away, the first one first.
const AWAY: [&str; 5] = [
    "control-plane.sqlite",
    "secret.key",
    "public-url",
    "ssh",
    "last-run",
];
/// And into its place.
const INTO_PLACE: [&str; 4] = ["secret.key", "public-url", "ssh", "control-plane.sqlite"];

#[test]
fn a_backup_that_is_killed_leaves_no_secret_behind_once_the_same_command_has_run_again() {
    let server = Server::start_on_sqlite();
    // So many that it takes a while.
    server.database().execute(
        "INSERT INTO audit_log (at, actor, action, subject)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
         SELECT 0, 'test', 'filled', i FROM n",
    );
    for reached in [".backup-", "control-plane.sqlite", ".tmp"] {
        let folder = Workspace::new();
        let place = folder.folder("kept");
        let file = place.join("backup.tar");
        let making = Running::start(server.command("backup").arg(&file), folder.path(), "backup");
        let since = Instant::now();
        // Not all of it is made when its first file is there.
        while !names_below(&place)
            .iter()
            .any(|name| name.starts_with(reached))
        {
            assert!(since.elapsed() < LIMIT, "{}", making.output());
        }
        making.signal(Signal::KILL);
        drop(making);
        assert!(!file.exists(), "it was over too fast");
        assert!(!names_below(&place).is_empty(), "nothing was left");
        backup(&server, &file).expect_code(0);
        assert_eq!(names_below(&place), ["backup.tar"]);
        restore_into(&server, &file, &folder.path().join("new"), &[]).expect_code(0);
    }
}

#[test]
fn a_restore_that_is_killed_anywhere_is_begun_anew_by_the_same_command() {
    let mut server = Server::start_on_sqlite();
    server.operator().create("Of before", 5432);
    let folder = Workspace::new();
    let file = folder.path().join("backup.tar");
    backup(&server, &file).expect_code(0);
    let from_backup = folder.path().join("from-backup");
    restore_into(&server, &file, &from_backup, &[]).expect_code(0);
    server.operator().create("Of after", 5432);
    server.stop().expect_code(0);
    let data = server.data_dir();
    let good = folder.path().join("good");
    copy(&data, &good);

    let ends = AWAY.len() + INTO_PLACE.len();
    for done in 0..=ends {
        fs::remove_dir_all(&data).expect("the folder");
        copy(&good, &data);
        let aside = data.join("replacing-2026-01-01T00-00-00Z");
        fs::create_dir(&aside).expect("a folder");
        // What a killed one has put together.
        fs::create_dir(data.join(".restore-left")).expect("a folder");
        for name in AWAY.iter().take(done) {
            fs::rename(data.join(name), aside.join(name)).expect(name);
        }
        for name in INTO_PLACE.iter().take(done.saturating_sub(AWAY.len())) {
            let copied = folder.path().join("copied");
            copy(&from_backup.join(name), &copied);
            fs::rename(&copied, data.join(name)).expect(name);
        }
        let is_whole = data.join("control-plane.sqlite").exists();
        assert_eq!(is_whole, done == 0 || done == ends);
        if !is_whole {
            let mut serve = server.command("serve");
            process::run(&mut serve, folder.path(), "refused")
                .expect_code(FAILED)
                .expect_words(&["a restore", "half-way", "the same command again"]);
        }
        let told = restore(&server, &file, &["--replace", "--json"]).expect_code(0);
        let told = told.json();
        assert_eq!(told["given_since_is_known"], true, "{done}: {told:#}");
        let put_aside = PathBuf::from(told["put_aside"].as_str().expect("a folder"));
        let aside = names_below(&put_aside);
        let is_aside = |name: &&str| aside.iter().any(|there| there == name);
        // What is put aside after the last act came from the backup, which has no mark of a run.
        assert!(
            done == ends || AWAY.iter().all(is_aside),
            "{done}: {aside:?}"
        );
        let left = names_in(&data);
        let strange = |name: &&String| name.starts_with('.') || name.starts_with("replacing-");
        assert_eq!(left.iter().filter(strange).count(), 0, "{done}: {left:?}");
        // After the last act, nothing is half done: it is another restore.
        let replaced = left.iter().filter(|name| name.starts_with("replaced-"));
        assert_eq!(
            replaced.count(),
            if done < ends { 1 } else { 2 },
            "{left:?}"
        );
        server.start_again();
        let answer = server
            .operator()
            .call(reqwest::Method::GET, "/data-sources")
            .send();
        let answer = answer.expect("an answer").text().expect("text");
        assert!(
            answer.contains("Of before") && !answer.contains("Of after"),
            "{answer}"
        );
        // The number that was given since is given to nobody else.
        let next = server.operator().create("Next", 5432);
        assert!(next.id.0 > 2, "{done}: {}", next.id);
        server.stop().expect_code(0);
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    names.sort();
    names
}

/// Of folders, too. One may go while it is looked at.
fn names_below(folder: &Path) -> Vec<String> {
    let names = names_in(folder);
    let below = names.iter().flat_map(|name| names_in(&folder.join(name)));
    let below: Vec<_> = below.collect();
    [names, below].concat()
}

fn copy(from: &Path, to: &Path) {
    let mut copy = std::process::Command::new("cp");
    let status = copy.arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp runs").success());
}
