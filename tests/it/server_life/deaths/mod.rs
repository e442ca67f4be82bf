//! kill -9 just before and just after everything that the server keeps: it is started again, whatever got no answer is
//! asked again, and all ends as if nothing had been.
//!
//! The program itself says where it is killed (`src/server/deaths.rs`). A whole [`life`] is led twice, by the API, the
//! pages and the commands: by a server that nothing happens to, and by one that dies at each moment at which it can. That
//! no transaction is left out is looked up in the [`source`].

mod kept;
mod life;
mod source;
mod vendor;

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::DataSourceState;
use reqwest::Method;

use self::kept::{assert_whole, kept, names_below};
use self::life::{KEYS, Life};
use self::source::transactions;
use self::vendor::{LIMIT, MOST, Mortality};
use super::regions::key;
use crate::support::bastion::SETUP_LIMIT;
use crate::support::lab::Lab;
use crate::support::postgres::Postgres;
use crate::support::process::{self, Finished, Running};
use crate::support::server::{DEATHS, KILLED, Server};
use crate::support::workspace::Workspace;

#[test]
fn a_server_that_is_killed_around_every_transaction_ends_where_an_undisturbed_one_does() {
    walk(Mortality::AtEachMoment);
}

#[test]
#[ignore = "minutes"]
fn a_server_that_is_killed_around_every_transaction_of_every_request_ends_there_too() {
    walk(Mortality::InEachStep);
}

fn walk(mortality: Mortality) {
    let keys = Workspace::new();
    for name in KEYS {
        key(&keys, name);
    }
    let undisturbed = Life::lead(&keys, Mortality::None);
    let disturbed = Life::lead(&keys, mortality);
    println!("{} deaths", disturbed.deaths);
    assert_eq!(disturbed.end, undisturbed.end);
    assert_eq!(undisturbed.deaths, 0);
    assert!(disturbed.deaths > 80, "{}", disturbed.deaths);
    let left_out: Vec<_> = transactions(disturbed.is_on_postgres, |_| true)
        .into_iter()
        .flat_map(|place| ["before", "after"].map(|when| format!("{when} {place}")))
        .filter(|moment| !disturbed.moments.contains(moment))
        .collect();
    assert!(left_out.is_empty(), "it never died {left_out:#?}");
}

/// The first version's, and the one before several regions.
const FORMER_SCHEMAS: [(i64, i64); 2] = [(1, 54), (54, 63)];

#[test]
fn a_start_that_is_killed_around_every_change_of_the_schema_is_finished_by_the_next_one() {
    for (sqlite, postgres) in FORMER_SCHEMAS {
        let [undisturbed, disturbed] = [false, true].map(|is_mortal| {
            let folder = Workspace::new();
            let mut server = Server::still_to_be_started();
            let database = server.database();
            let schema = if database.is_file() { sqlite } else { postgres };
            fs::create_dir(server.data_dir()).expect("a folder");
            if database.is_file() {
                fs::File::create(server.data_dir().join("control-plane.sqlite")).expect("a file");
            }
            database.make_as_of(schema);
            database.execute(OF_FORMER_TIMES);
            let deaths = folder.path().join("deaths");
            if is_mortal {
                server.be_mortal(&deaths);
            }
            server.live_again();
            let moments = fs::read_to_string(&deaths).unwrap_or_default();
            for version in changes_after(schema, database.is_file()) {
                for when in ["before", "after"] {
                    let moment = format!("{when} change {version}");
                    let is_there = moments.lines().any(|line| line == moment);
                    assert_eq!(is_there, is_mortal, "{moment}");
                }
            }
            assert_whole(&database);
            kept(&database)
        });
        assert_eq!(disturbed, undisturbed);
        assert_eq!(disturbed["data sources"].len(), 1);
    }
}

/// A tunnel that is at work, in the words of every schema.
const OF_FORMER_TIMES: &str = "
    INSERT INTO data_sources (display_name, database_type, host, port, created_at, saved_at)
        VALUES ('Shop', 'postgresql', 'db', 5432, 1, 2);
    INSERT INTO keys (public_key, created_at) VALUES ('ssh-ed25519 AAAA', 1);
    INSERT INTO tunnels (data_source_id, key_id, remote_port, enrolled_with, bastion_hostname, enrolled_at,
            service_installed_at)
        VALUES (1, 1, 30000, x'00', 'bastion', 1, 2);
    INSERT INTO tokens (hash, kind, tunnel_id, created_at) VALUES (x'01', 'tunnel', 1, 1);
    INSERT INTO events (data_source_id, at, kind, actor) VALUES (1, 1, 'created', 'admin')";

fn changes_after(schema: i64, is_sqlite: bool) -> Vec<i64> {
    let folder = if is_sqlite { "sqlite" } else { "postgres" };
    let changes = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/store/migrations");
    let versions = names_below(&changes.join(folder)).into_iter().map(|name| {
        let (version, _) = name.split_once('_').expect("a version");
        version.parse().expect("a number")
    });
    versions.filter(|version| *version > schema).collect()
}

#[test]
fn a_move_to_postgresql_that_is_killed_anywhere_costs_nothing_and_is_finished_by_the_same_command()
{
    let mut server = Server::start_on_sqlite();
    let operator = server.operator();
    let source = operator.create("Shop", 5432);
    operator.enroll_nobody(&source);
    operator.create("Draft", 5432);
    server.stop().expect_code(0);
    let (of_file, before) = (server.database(), kept(&server.database()));
    let file = server.data_dir().join("control-plane.sqlite");
    let bytes = fs::read(&file).expect("the database");
    let folder = Workspace::new();
    let deaths = folder.path().join("deaths");
    let postgres = Postgres::server_database();
    let moved = (0..MOST).find_map(|_| {
        let mut command = server.command("migrate");
        command.env("HOLISTICS_TUNNEL_SERVER_TO", postgres.url());
        let finished = process::run(command.env(DEATHS, &deaths), folder.path(), "migrate");
        assert!(
            fs::read(&file).expect("the database") == bytes,
            "{finished}"
        );
        (finished.code != KILLED).then_some(finished)
    });
    moved.expect("its end").expect_code(0);
    assert_eq!(kept(&of_file), before);
    let moments = fs::read_to_string(&deaths).expect("its deaths");
    // The changes of an empty schema, the marks before and behind, and the copy's own end.
    for word in ["change 54", "data_dir.rs", "moving.rs"] {
        for when in ["before", "after"] {
            let is_one = |line: &str| line.starts_with(when) && line.contains(word);
            assert!(moments.lines().any(is_one), "{when} {word}:\n{moments}");
        }
    }
    server.move_to(&postgres);
    server.start_again();
    let mut after = kept(&server.database());
    after
        .get_mut("audit log")
        .expect("a part")
        .retain(|action| action != "moved to PostgreSQL");
    assert_eq!(after, before);
    assert_whole(&server.database());
}

#[test]
fn a_setup_whose_server_is_killed_around_every_transaction_is_finished_by_the_same_command() {
    let folder = Workspace::new();
    let deaths = folder.path().join("deaths");
    let mut lab = Lab::new();
    let source = lab.data_source("Shop");
    lab.server.stop().expect_code(0);
    lab.server.be_mortal(&deaths);
    lab.server.live_again();
    let place = format!("/data-sources/{}", source.id);
    let mut failed = 0;
    loop {
        let setup = lab.start_setup(&source);
        let is_saved = Cell::new(false);
        let ended = see_to_its_end(&mut lab, setup, |lab, setup| {
            if !is_saved.get() && setup.output().contains("Return to your browser") {
                let save = lab
                    .operator
                    .call(Method::POST, &format!("{place}/save"))
                    .send();
                is_saved.set(save.is_ok_and(|answer| answer.status().is_success()));
            }
        });
        if ended.code == 0 {
            break;
        }
        // What it was about, and what to do.
        ended.expect_words(&[&lab.server.url, "again"]);
        failed += 1;
        assert!(failed < MOST, "it does not get any further");
    }
    let moments = fs::read_to_string(&deaths).expect("its deaths");
    println!(
        "{failed} setups in vain, {} deaths",
        moments.lines().count()
    );
    for function in ["enroll", "tunnel_up", "report"] {
        assert!(
            transactions(lab.server.is_on_postgres(), |name| name.ends_with(function))
                .iter()
                .all(|place| moments.contains(&format!("before {place}\n"))
                    && moments.contains(&format!("after {place}\n"))),
            "{function}:\n{moments}"
        );
    }
    // Nothing is left to die of.
    lab.operator
        .wait_for_state(source.id, DataSourceState::Active, LIMIT);
    assert_eq!(lab.bastion.processes("ssh").len(), 1, "the service's alone");
    assert!(lab.login_through(&source).is_ok());
    assert_whole(&lab.server.database());
}

/// Starts the server again whenever it dies, until a program has ended.
fn see_to_its_end(lab: &mut Lab, program: Running, meanwhile: impl Fn(&Lab, &Running)) -> Finished {
    let since = Instant::now();
    while program.is_running() {
        assert!(
            since.elapsed() < SETUP_LIMIT,
            "{}\n{}",
            program.output(),
            lab.server.log()
        );
        if !lab.server.is_alive() {
            lab.server.live_again();
        }
        meanwhile(lab, &program);
        std::thread::sleep(Duration::from_millis(50));
    }
    program.wait(LIMIT)
}
