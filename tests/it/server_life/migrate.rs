//! `migrate`: an installation goes on in PostgreSQL as it was.

use std::fs;
use std::time::Duration;

use holistics_tunnel::protocol::DataSourceState;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::database::PostgresDatabase;
use crate::support::lab::Lab;
use crate::support::postgres::Postgres;
use crate::support::process::{self, Finished, Running};
use crate::support::server::{Operator, Server};
use crate::support::wait;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(120);
const FAILED: i32 = 1;

#[test]
fn an_installation_answers_the_same_from_postgresql_and_its_tunnel_logs_in_as_before() {
    let mut lab = Lab::with(Server::start_on_sqlite());
    let source = lab.active_data_source("Shop");
    let login = lab.postgres.login();
    lab.operator.test(source.id, &login);
    let draft = lab.operator.create("Draft \\N with \\signs", 5432);
    let gone = lab.operator.create("Gone", 5432);
    lab.operator.delete_now(gone.id);
    // What only time brings: history, and a name that was used once.
    let database = lab.server.database();
    database.execute("DELETE FROM tunnel_days");
    database.execute(
        "INSERT INTO tunnel_days SELECT 20000, id, 60000, 30000, 7, 8, 9, zeroblob(36), zeroblob(36) FROM tunnels",
    );
    let created =
        json!({ "display_name": "Named", "database_type": "mysql", "host": "db", "port": 3306 });
    let named = |operator: &Operator| -> Value {
        let request = operator.call(Method::POST, "/data-sources");
        let answer = request
            .header("Idempotency-Key", "order-7")
            .json(&created)
            .send();
        answer.expect("an answer").json().expect("JSON")
    };
    let before_named = named(&lab.operator);
    let before = answers(&lab.operator);
    let last_number =
        database.number("SELECT seq FROM sqlite_sequence WHERE name = 'data_sources'");
    // The newest is gone without a trace but its number.
    let lost = lab.operator.create("Lost", 5432);
    database.execute(&format!(
        "DELETE FROM tokens WHERE tunnel_id = (SELECT id FROM tunnels WHERE data_source_id = {id});
         DELETE FROM tunnels WHERE data_source_id = {id}; DELETE FROM events WHERE data_source_id = {id};
         DELETE FROM data_sources WHERE id = {id}",
        id = lost.id
    ));
    assert_eq!(lost.id.0, last_number + 1);

    let postgres = Postgres::server_database();
    migrate(&lab.server, &postgres, &[])
        .expect_code(FAILED)
        .expect_words(&["runs on", "stop it"]);
    lab.server.stop().expect_code(0);
    let told = migrate(&lab.server, &postgres, &["--json"]).expect_code(0);
    assert_eq!(told.json()["tables"]["data_sources"], json!(4), "{told}");

    lab.server.move_to(&postgres);
    lab.server.start_again();
    assert!(!lab.server.database().is_file());
    lab.operator = lab.server.operator();
    wait::until_true(
        "the tunnel is up",
        LIMIT,
        || lab.server.log(),
        || lab.login_through(&source).is_ok(),
    );
    lab.operator
        .wait_for_state(source.id, DataSourceState::Active, LIMIT);
    assert_eq!(
        without_what_moves(answers(&lab.operator)),
        without_what_moves(before)
    );
    assert_eq!(named(&lab.operator)["id"], before_named["id"]);
    // The numbers go on, also behind one that nothing has any more.
    let next = lab.operator.create("Next", 5432);
    assert_eq!(next.id.0, lost.id.0 + 1);
    // A saved password is read with the key that stayed, and a draft's command works.
    assert_eq!(
        lab.operator.data_source(draft.id).state,
        DataSourceState::Draft
    );
    lab.operator.test(source.id, &login);
    lab.operator.change_host(source.id, "localhost");
    // What was counted is there.
    let moved = lab.server.database();
    assert_eq!(
        moved.number("SELECT count(*) FROM tunnel_days WHERE day = 20000 AND connections = 7"),
        3
    );
    assert!(
        moved.number("SELECT count(*) FROM audit_log WHERE action = 'moved to PostgreSQL'") == 1
    );
}

#[test]
fn nothing_is_moved_twice_and_no_server_starts_from_what_was_moved() {
    let mut server = Server::start_on_sqlite();
    server.operator().create("Shop", 5432);
    server.stop().expect_code(0);
    let postgres = Postgres::server_database();
    migrate(&server, &postgres, &[])
        .expect_code(0)
        .expect_words(&["Moved to", "--database-url"]);

    // The folder's own database is history.
    for command in ["serve", "token"] {
        let mut command = server.command(command);
        if command
            .get_args()
            .next()
            .is_some_and(|name| name == "token")
        {
            command.arg("list");
        }
        let folder = Workspace::new();
        process::run(&mut command, folder.path(), "old")
            .expect_code(FAILED)
            .expect_words(&["was moved to", postgres.name(), "--database-url"]);
    }
    migrate(&server, &postgres, &[])
        .expect_code(FAILED)
        .expect_words(&["moved", "already"]);

    // Another installation does not mix with it.
    let mut other = Server::start_on_sqlite();
    other.operator().create("Other", 5432);
    other.stop().expect_code(0);
    migrate(&other, &postgres, &[])
        .expect_code(FAILED)
        .expect_words(&["there is an installation", "nothing was changed"]);
    other.start_again();

    server.move_to(&postgres);
    server.start_again();
    let names: Value = get(&server.operator(), "/data-sources");
    assert_eq!(names[0]["display_name"], "Shop");
    assert_eq!(names.as_array().expect("a list").len(), 1);
}

#[test]
fn a_move_that_is_killed_half_way_has_changed_nothing() {
    let mut server = Server::start_on_sqlite();
    server.operator().create("Shop", 5432);
    server.database().execute(
        "INSERT INTO events (data_source_id, at, kind, actor)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)
         SELECT 1, i, 'changed', 'test' FROM n",
    );
    server.stop().expect_code(0);
    let postgres = Postgres::server_database();
    let folder = Workspace::new();
    let command = &mut command(&server, &postgres);
    let moving = Running::start(command, folder.path(), "migrate");
    moving.wait_for_output("tunnels: 1 row", LIMIT);
    moving.signal(Signal::KILL);
    moving.wait(LIMIT);
    assert!(
        !server.data_dir().join("moved").exists(),
        "it was over too fast"
    );
    let moved = crate::support::database::ServerDatabase::Postgres(postgres.clone());
    wait::until_true("PostgreSQL has noticed", LIMIT, String::new, || {
        moved.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()") == 0
    });
    assert_eq!(moved.number("SELECT count(*) FROM data_sources"), 0);
    server.start_again();
    server.stop().expect_code(0);
    migrate(&server, &postgres, &[]).expect_code(0);
    assert!(moved.number("SELECT count(*) FROM events") > 300_000);
}

#[test]
fn a_move_whose_end_is_not_known_is_seen_to_by_the_same_command() {
    let mut server = Server::start_on_sqlite();
    server.operator().create("Shop", 5432);
    server.stop().expect_code(0);
    let postgres = Postgres::server_database();
    let perhaps = format!("perhaps to {} on somewhere\n", postgres.name());
    let mark = server.data_dir().join("moved");
    // It ended before the copy counted.
    fs::write(&mark, &perhaps).expect("the mark");
    let folder = Workspace::new();
    process::run(&mut server.command("serve"), folder.path(), "old")
        .expect_code(FAILED)
        .expect_words(&["migrate ended", "same command again"]);
    migrate(&server, &postgres, &[])
        .expect_code(0)
        .expect_words(&["Moved to"]);
    // It ended just after.
    fs::write(&mark, &perhaps).expect("the mark");
    migrate(&server, &postgres, &[])
        .expect_code(0)
        .expect_words(&["has everything already"]);
    let words = fs::read_to_string(&mark).expect("the mark");
    assert!(words.starts_with("to "), "{words}");
}

#[test]
fn a_password_in_the_argument_is_refused_and_a_folder_without_an_installation_too() {
    let mut server = Server::start_on_sqlite();
    let folder = Workspace::new();
    let mut seen = server.command("migrate");
    seen.args(["--to", "postgres://u:secret@127.0.0.1:1/d"]);
    let told = process::run(&mut seen, folder.path(), "seen").expect_code(FAILED);
    assert!(
        told.output().contains("everybody on this machine"),
        "{told}"
    );
    assert!(!told.stderr.contains("secret"), "{told}");
    server.stop().expect_code(0);
    process::run(&mut server.command("migrate"), folder.path(), "none")
        .expect_code(FAILED)
        .expect_words(&["name the database", "--to"]);
    let mut nothing = server.any_command("migrate");
    nothing.args(["--to", "postgres://127.0.0.1:1/d", "--data-dir"]);
    nothing.arg(folder.folder("empty"));
    process::run(&mut nothing, folder.path(), "nothing")
        .expect_code(FAILED)
        .expect_words(&["no server has run"]);
}

// ---------------------------------------------------------------------------------------------

fn command(server: &Server, to: &PostgresDatabase) -> std::process::Command {
    let mut command = server.command("migrate");
    command.env("HOLISTICS_TUNNEL_SERVER_TO", to.url());
    command
}

fn migrate(server: &Server, to: &PostgresDatabase, arguments: &[&str]) -> Finished {
    let folder = Workspace::new();
    process::run(
        command(server, to).args(arguments),
        folder.path(),
        "migrate",
    )
}

fn get(operator: &Operator, path: &str) -> Value {
    let answer = operator.call(Method::GET, path).send().expect("an answer");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.json().expect("JSON")
}

/// What the API says of everything.
fn answers(operator: &Operator) -> Vec<Value> {
    let list = get(operator, "/data-sources");
    let mut all = vec![list.clone()];
    for source in list.as_array().expect("a list") {
        all.push(get(operator, &format!("/data-sources/{}", source["id"])));
    }
    all
}

/// A tunnel is seen again and again.
fn without_what_moves(mut answers: Vec<Value>) -> Vec<Value> {
    fn forget(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(forget),
            Value::Object(fields) => {
                for name in [
                    "last_seen",
                    "status",
                    "state",
                    "since",
                    "key_confirmed_by",
                    "key_pending_on",
                ] {
                    fields.remove(name);
                }
                fields.values_mut().for_each(forget);
            }
            _ => {}
        }
    }
    answers.iter_mut().for_each(forget);
    answers
}
