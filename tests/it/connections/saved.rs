//! Logins that are kept: where their password is, and where it goes.

use std::fs;
use std::path::Path;

use holistics_tunnel::protocol::{DataSource, ProblemKind, TlsMode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::connections::impostor::Impostor;
use crate::connections::{ALLOW_LOOPBACK, Desk, answer, problem};

/// The password of the test's reader.
const PASSWORD: &str = "open sesame";

#[test]
fn a_saved_login_is_used_for_the_next_test_and_its_password_is_in_no_answer() {
    let desk = Desk::new();
    let source = desk.saved("prefer");
    let login = source.login.as_ref().expect("it is saved");
    assert_eq!(
        (login.database.as_str(), login.username.as_str(), login.tls),
        ("shop", "reader", TlsMode::Prefer)
    );
    assert!(login.has_password);
    let absent = json!({"database": "shop", "username": "reader"});
    for login in [&desk.login_without_password(), &absent] {
        let result = desk.test(source.id, login);
        assert!(result.ok, "{result:?}");
    }
    let path = format!("/data-sources/{}", source.id);
    for path in ["/data-sources", &path] {
        let shown: Value = answer(desk.operator.call(Method::GET, path));
        let shown = shown.to_string();
        assert!(shown.contains("\"has_password\":true"), "{shown}");
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
    assert!(!desk.server.log().contains(PASSWORD), "it is in the log");
}

#[test]
fn a_login_may_be_saved_without_a_password_and_replaced() {
    let desk = Desk::new();
    let source = desk.direct();
    let save = |body: &Value| -> DataSource { answer(desk.post(source.id, "/save", body)) };
    let without = save(&desk.login_without_password()).login.expect("a login");
    assert!(!without.has_password);
    assert!(!desk.test(source.id, &desk.login_without_password()).ok);
    save(&desk.login());
    // Another database on the same server, and stricter TLS, are what the password may go along with.
    let mut other = desk.login_without_password();
    other["database"] = json!("postgres");
    let kept = save(&other).login.expect("a login");
    assert!(kept.has_password);
    assert_eq!(kept.database, "postgres");
    assert!(desk.test(source.id, &other).ok);
}

#[test]
fn saving_without_a_login_keeps_the_one_that_is_saved() {
    let desk = Desk::new();
    let source = desk.saved("prefer");
    desk.operator.save(source.id);
    answer::<DataSource>(desk.post(source.id, "/save", &Value::Null));
    assert!(desk.test(source.id, &desk.login_without_password()).ok);
    let half = problem(desk.post(source.id, "/save", &json!({"username": "reader"})));
    assert_eq!(half.kind, ProblemKind::InvalidRequest);
}

#[test]
fn a_backup_of_the_database_gives_no_password_away() {
    let desk = Desk::new();
    desk.saved("prefer");
    let mut found_user = false;
    for (name, bytes) in files(&desk.server.data_dir()) {
        assert!(!holds(&bytes, PASSWORD), "the password is in {name}");
        found_user |= name.contains("sqlite") && holds(&bytes, "reader");
    }
    assert!(found_user, "the login is not where it was looked for");
}

#[test]
fn whoever_guesses_a_saved_password_does_not_see_whether_he_was_right() {
    let desk = Desk::new();
    let source = desk.saved("prefer");
    let said = |database: &str| {
        let mut login = desk.login_without_password();
        login["database"] = json!(database);
        let result = desk.test(source.id, &login);
        result.stages.last().expect("a stage").detail.clone()
    };
    let wrong = said("open barley");
    assert!(wrong.contains("\"open barley\""), "{wrong}");
    for right in [PASSWORD, "OPEN SESAME", "xx open sesame yy"] {
        assert_eq!(said(right), wrong.replace("open barley", right));
    }
    // PostgreSQL cuts long names, so what comes back is not quite what was sent.
    let long = |guess: &str| format!("{guess} {}", "x".repeat(100));
    let right = said(&long(PASSWORD)).replace(PASSWORD, "open barley");
    assert_eq!(right, said(&long("open barley")));
}

#[test]
fn the_saved_password_goes_to_no_other_host_and_no_other_port() {
    let desk = Desk::new();
    let source = desk.saved("prefer");
    let impostor = Impostor::start();
    desk.change(source.id, &json!({"port": impostor.port}));
    let refused = problem(desk.post(source.id, "/test", &desk.login_without_password()));
    assert_eq!(refused.kind, ProblemKind::PasswordNeeded);
    assert!(refused.detail.contains("changed"), "{}", refused.detail);
    // Saving anew must not lead it there either.
    let save = problem(desk.post(source.id, "/save", &desk.login_without_password()));
    assert_eq!(save.kind, ProblemKind::PasswordNeeded);
    assert!(!impostor.has_heard(PASSWORD));

    desk.change(
        source.id,
        &json!({"host": "localhost", "port": desk.postgres.port()}),
    );
    let refused = problem(desk.post(source.id, "/test", &desk.login_without_password()));
    assert_eq!(refused.kind, ProblemKind::PasswordNeeded, "another name");

    desk.change(source.id, &json!({"host": "127.0.0.1"}));
    assert!(desk.test(source.id, &desk.login_without_password()).ok);

    // What is typed does go there: the impostor would have heard the other one too.
    desk.change(source.id, &json!({"port": impostor.port}));
    let mut typed = desk.login();
    typed["password"] = json!("a typed one");
    assert!(!desk.test(source.id, &typed).ok);
    assert!(impostor.has_heard("a typed one"));
    assert!(!impostor.has_heard(PASSWORD));
}

#[test]
fn the_saved_password_is_for_its_own_user_and_no_weaker_tls() {
    let desk = Desk::new();
    let source = desk.saved("require");
    let changed = |field: &str, value: &str| {
        let mut login = desk.login_without_password();
        login[field] = json!(value);
        login
    };
    for (login, words) in [
        (changed("username", "postgres"), "another user"),
        (changed("tls", "prefer"), "stricter TLS"),
        (changed("tls", "disable"), "stricter TLS"),
    ] {
        for call in ["/test", "/save"] {
            let refused = problem(desk.post(source.id, call, &login));
            assert_eq!(refused.kind, ProblemKind::PasswordNeeded, "{login}");
            assert!(refused.detail.contains(words), "{}", refused.detail);
        }
    }
    // Where no mode is named it is the saved one, and this database speaks no TLS.
    let result = desk.test(source.id, &desk.login_without_password());
    assert!(!result.ok, "{result:?}");
    let mut typed = desk.login();
    typed["tls"] = json!("disable");
    assert!(desk.test(source.id, &typed).ok, "with the password typed");
}

#[test]
fn another_key_file_is_said_and_the_password_can_be_entered_anew() {
    let mut desk = Desk::new();
    let source = desk.saved("prefer");
    desk.server.stop();
    // Lost with its disk, say; the server makes a new one.
    fs::remove_file(desk.server.data_dir().join("secret.key")).expect("the key file");
    desk.server.start_again_with(&[ALLOW_LOOPBACK]);
    desk.operator = desk.server.operator();
    let refused = problem(desk.post(source.id, "/test", &desk.login_without_password()));
    assert_eq!(refused.kind, ProblemKind::PasswordNeeded);
    assert!(refused.detail.contains("secret.key"), "{}", refused.detail);
    assert!(
        desk.server.log().contains("cannot be read"),
        "{}",
        desk.server.log()
    );
    answer::<DataSource>(desk.post(source.id, "/save", &desk.login()));
    assert!(desk.test(source.id, &desk.login_without_password()).ok);
}

#[test]
fn a_login_is_erased_with_its_data_source_or_when_that_is_asked_for() {
    let desk = Desk::new();
    let forgotten = desk.saved("prefer");
    let path = format!("/data-sources/{}/login", forgotten.id);
    for _ in 0..2 {
        let erased = desk.operator.call(Method::DELETE, &path).send().unwrap();
        assert_eq!(erased.status(), 204);
    }
    assert_eq!(desk.operator.data_source(forgotten.id).login, None);

    let removed = desk.saved("prefer");
    desk.operator.delete_now(removed.id);
    assert_eq!(desk.operator.data_source(removed.id).login, None);
    let gone = problem(
        desk.operator
            .call(Method::DELETE, &path.replace("/1/", "/2/")),
    );
    assert_eq!(gone.kind, ProblemKind::NotFound);
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the data folder").flatten() {
        if entry.path().is_file() {
            let bytes = fs::read(entry.path()).expect("a file");
            files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
    }
    files
}

fn holds(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|w| w == words.as_bytes())
}
