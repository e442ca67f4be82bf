//! Several servers on one database: what happens at one is seen at the others, and none is missed that lives.

use std::fs;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::cluster::{
    Balancer, Customer, LIMIT, SOON, events, http, is_answered, longest_gap, nodes, of_name,
    readiness, state_at, two_nodes, wait_for,
};
use crate::support::database;
use crate::support::lab::{token_of, tunnel_of};
use crate::support::postgres::Postgres;
use crate::support::process::{self, Running};
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

/// Behind a load balancer, a killed node may cost this much.
const MOST_WITHOUT_ROWS: Duration = Duration::from_secs(15);

#[test]
fn what_happens_at_one_node_is_seen_and_used_at_the_other() {
    let (mut one, mut other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&other, "Shop");
    assert_eq!(state_at(&one, &source), DataSourceState::Enrolled);

    let ssh = customer.connect(&one, &source);
    wait_for(&other, &source, DataSourceState::Connected, SOON);
    let connected = events(&other, &source);
    assert_eq!(connected[0], "up", "{connected:?}");
    // Its port is the region's: each node passes on.
    for address in ["127.0.0.1", "127.0.0.2"] {
        let evidence = || format!("{}\n{}", one.log(), other.log());
        wait::until_true("an answer through the tunnel", SOON, evidence, || {
            is_answered(address, &source)
        });
    }

    // Who waits at one node is woken by what is done at the other.
    let url = format!("{}/api/v1/enrollment/data-source?wait=25", other.url);
    let waiting = http().get(url).bearer_auth(token_of(&source));
    let waiting = std::thread::spawn(move || {
        let answer = waiting.send().expect("an answer");
        let answer: Value = answer.json().expect("JSON");
        (answer, Instant::now())
    });
    std::thread::sleep(Duration::from_secs(2));
    let saved = Instant::now();
    one.operator().save(source.id);
    let (answer, answered) = waiting.join().expect("it waits");
    assert_eq!(answer["status"], "saved");
    let took = answered.saturating_duration_since(saved);
    println!("who waits at the other node is woken after {took:?}");
    assert!(took < SOON, "{took:?}");

    let list = nodes(&one);
    let held: Vec<_> = ["one", "other"]
        .iter()
        .map(|name| of_name(&list, name)["tunnels"].clone())
        .collect();
    assert_eq!(held, [json!(1), json!(0)], "{list:#}");
    assert_eq!(of_name(&list, "one")["beat_moves"], true);

    assert_eq!(readiness(&one), StatusCode::OK);
    let mut drain = other.command("node");
    drain.args(["drain", "one"]);
    process::run(&mut drain, customer.folder.path(), "drain").expect_code(0);
    wait::until_true(
        "it drains",
        SOON,
        || one.log(),
        || readiness(&one) == StatusCode::SERVICE_UNAVAILABLE,
    );
    assert_eq!(readiness(&other), StatusCode::OK);
    assert_eq!(of_name(&nodes(&other), "one")["state"], "draining");
    let mut drain = other.command("node");
    drain.args(["drain", "nobody"]);
    process::run(&mut drain, customer.folder.path(), "drain")
        .expect_code(1)
        .expect_words(&["no node", "nobody", "node list"]);

    drop(ssh);
    wait_for(&other, &source, DataSourceState::Saved, LIMIT);
    wait::until_true(
        "that it is down",
        LIMIT,
        || one.log(),
        || events(&one, &source)[0] == "down",
    );
    one.stop().expect_code(0);
    assert_eq!(of_name(&nodes(&other), "one")["state"], "stopped");
    other.stop().expect_code(0);
}

#[test]
fn a_killed_node_s_tunnels_are_down_when_its_beat_has_stood_still_for_ten_seconds() {
    let (mut one, other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let _ssh = customer.connect(&one, &source);
    wait_for(&other, &source, DataSourceState::Connected, SOON);

    one.kill();
    let killed = Instant::now();
    wait_for(&other, &source, DataSourceState::Enrolled, LIMIT);
    let took = killed.elapsed();
    println!("a killed node is declared dead after {took:?}");
    // Its last beat was up to 2 s before.
    assert!(took > Duration::from_secs(7), "{took:?}");
    assert!(took < Duration::from_secs(25), "{took:?}");
    wait::until_true(
        "that it is down",
        SOON,
        || other.log(),
        || events(&other, &source)[0] == "down",
    );
    assert_eq!(of_name(&nodes(&other), "one")["beat_moves"], false);
}

#[test]
fn behind_a_load_balancer_rows_come_again_soon_after_a_node_was_killed() {
    let (mut one, mut other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let port = tunnel_of(&source).remote_port.expect("a port");
    let balancer = Balancer::start(&one, &other, port);
    let ssh_port = balancer.ssh_port.to_string();
    let _ssh = customer.stay_connected([balancer.address, &ssh_port], &source);
    let rows = |nodes: [&Server; 2]| {
        wait::until_true(
            "rows through the balancer and each node",
            LIMIT,
            || nodes.map(Server::log).join("\n"),
            || {
                [balancer.address, "127.0.0.1", "127.0.0.2"]
                    .iter()
                    .all(|address| is_answered(address, &source))
            },
        );
    };
    rows([&one, &other]);
    for turn in ["the first", "the second"] {
        let list = nodes(&one);
        let holder = if of_name(&list, "one")["tunnels"] == 1 {
            &mut one
        } else {
            &mut other
        };
        holder.kill();
        let gap = longest_gap(balancer.address, &source);
        println!("{turn} node that holds the tunnel is killed: {gap:?} without rows");
        assert!(gap < MOST_WITHOUT_ROWS, "{gap:?}");
        // It comes back, and passes on what the other one holds.
        holder.start_again();
        rows([&one, &other]);
    }
}

#[test]
fn a_node_that_was_found_dead_and_lives_is_believed_again() {
    let (one, other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let _ssh = customer.connect(&one, &source);
    wait_for(&other, &source, DataSourceState::Connected, SOON);

    // As a machine that is suspended: it does not notice.
    one.signal(Signal::STOP);
    wait_for(&other, &source, DataSourceState::Enrolled, LIMIT);
    one.signal(Signal::CONT);
    wait_for(&other, &source, DataSourceState::Connected, LIMIT);
    let evidence = || format!("{}\n{:?}", one.log(), events(&other, &source));
    wait::until_true("what happened to it", SOON, evidence, || {
        events(&other, &source).starts_with(&["up".into(), "down".into(), "up".into()])
    });
    // The other listens on the port a moment after it believes it.
    wait::until_true("an answer through the other", SOON, evidence, || {
        is_answered("127.0.0.2", &source)
    });
}

#[test]
fn a_node_that_starts_again_holds_at_once_no_more_what_it_held_before() {
    let (mut one, other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let _ssh = customer.connect(&one, &source);
    wait_for(&other, &source, DataSourceState::Connected, SOON);
    let epoch = "SELECT epoch FROM nodes WHERE name = 'one'";
    let former = other.database().number(epoch);

    one.kill();
    one.start_again();
    let started = Instant::now();
    wait_for(&other, &source, DataSourceState::Enrolled, SOON);
    println!(
        "the former sessions are void {:?} after the start",
        started.elapsed()
    );
    assert!(other.database().number(epoch) > former);
    assert!(!other.log().contains("declared dead"), "{}", other.log());

    let _ssh = customer.connect(&one, &source);
    wait_for(&other, &source, DataSourceState::Connected, SOON);
}

#[test]
fn while_the_database_is_away_nobody_is_declared_dead_and_tunnels_go_on() {
    let mut postgres = Postgres::start();
    let (one, other) = two_nodes(&postgres.guarded_server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let mut ssh = customer.connect(&one, &source);
    wait_for(&other, &source, DataSourceState::Connected, SOON);
    let served = |what: &str| {
        for address in ["127.0.0.1", "127.0.0.2"] {
            assert!(
                is_answered(address, &source),
                "{what}: {address}\n{}",
                other.log()
            );
        }
    };
    wait::until_true(
        "an answer through both",
        SOON,
        || other.log(),
        || is_answered("127.0.0.2", &source),
    );
    for outage in ["frozen", "crashed"] {
        match outage {
            "frozen" => postgres.freeze(),
            _ => postgres.crash(),
        }
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(15) {
            served(outage);
            std::thread::sleep(Duration::from_millis(500));
        }
        match outage {
            "frozen" => postgres.thaw(),
            _ => postgres.start_again(false),
        }
        // For longer than it takes to find somebody dead.
        let since = Instant::now();
        let mut seen = 0;
        while since.elapsed() < Duration::from_secs(15) {
            served(outage);
            let path = format!("/data-sources/{}", source.id);
            let answer = other.operator().call(Method::GET, &path).send();
            let answer = answer.expect("an answer");
            if answer.status().is_success() {
                let now: DataSource = answer.json().expect("a data source");
                assert_eq!(now.state, DataSourceState::Connected, "{outage}");
                seen += 1;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(seen > 10, "{outage}: {seen} answers");
        for node in [&one, &other] {
            assert!(!node.log().contains("declared dead"), "{}", node.log());
        }
        assert_eq!(events(&one, &source)[0], "up", "{outage}");
    }
    // What happens then is seen again.
    drop(ssh);
    wait_for(&other, &source, DataSourceState::Enrolled, LIMIT);
    ssh = customer.connect(&other, &source);
    wait_for(&one, &source, DataSourceState::Connected, LIMIT);
    drop(ssh);
}

#[test]
fn what_a_dead_node_held_is_noted_as_down_though_nothing_can_be_written_when_it_is_found() {
    const HELD: i64 = 600;
    let server = Server::start_on(&Postgres::server_database(), &["--node-name", "one"]);
    let database = server.database();
    database.refuse("INSERT", "events", "TRUE");
    database.execute(&format!(
        "INSERT INTO data_sources (display_name, database_type, host, port, created_at)
             SELECT 'Shop', 'mysql', 'db', 3306, 0 FROM generate_series(1, {HELD});
         INSERT INTO tunnels (data_source_id) SELECT id FROM data_sources;
         INSERT INTO nodes (name, region, role, epoch, version, state, beat, started_at)
             VALUES ('lost', 'default', 'all', nextval('node_epochs'), 'test', 'up', 0, 0);
         INSERT INTO sessions (node, epoch, tunnel_id, since, bastion, public_key, version)
             SELECT 'lost', n.epoch, t.id, 0, '192.0.2.1', 'ssh-ed25519 AAAA', 1
             FROM tunnels AS t, nodes AS n WHERE n.name = 'lost'"
    ));
    let told = || server.log().contains("cannot note yet");
    wait::until_true("it is declared dead", LIMIT, || server.log(), told);
    database.execute("DROP TRIGGER full_insert_events ON events");
    let down = || database.number("SELECT count(*) FROM events WHERE kind = 'down'");
    wait::until_true(
        "all are noted",
        LIMIT,
        || format!("{} of them\n{}", down(), server.log()),
        || down() == HELD,
    );
    assert_eq!(database.number("SELECT count(*) FROM sessions"), 0);
}

#[test]
fn a_database_that_has_lost_what_a_node_wrote_last_is_told_again_which_tunnels_it_holds() {
    let server = Server::start_on(&Postgres::server_database(), &["--node-name", "one"]);
    let customer = Customer::new();
    let source = customer.enroll(&server, "Shop");
    let _ssh = customer.connect(&server, &source);
    let database = server.database();
    let held = || database.number("SELECT count(*) FROM sessions");
    wait::until_true("it is written", SOON, || server.log(), || held() == 1);
    // As a standby does that takes the primary's place without having heard of it.
    database.execute(
        "DELETE FROM sessions;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    wait::until_true(
        "it is written again",
        LIMIT,
        || server.log(),
        || held() == 1,
    );
}

#[test]
fn a_node_that_is_lost_for_good_is_forgotten_and_one_that_lives_is_not() {
    let server = Server::start_on(&Postgres::server_database(), &["--node-name", "one"]);
    let database = server.database();
    database.execute(
        "INSERT INTO data_sources (display_name, database_type, host, port, created_at)
             VALUES ('Shop', 'mysql', 'db', 3306, 0);
         INSERT INTO tunnels (data_source_id) SELECT id FROM data_sources;
         INSERT INTO nodes (name, region, role, epoch, version, state, beat, started_at)
             VALUES ('lost', 'default', 'all', nextval('node_epochs'), 'test', 'up', 0, 0);
         INSERT INTO sessions (node, epoch, tunnel_id, since, bastion, public_key, version)
             SELECT 'lost', n.epoch, t.id, 0, '192.0.2.1', 'ssh-ed25519 AAAA', 1
             FROM tunnels AS t, nodes AS n WHERE n.name = 'lost'",
    );
    let folder = Workspace::new();
    let forget = |name: &str, code: i32, words: &[&str]| {
        let mut forget = server.command("node");
        forget.args(["forget", name]);
        let told = process::run(&mut forget, folder.path(), "forget");
        told.expect_code(code).expect_words(words);
    };
    forget("one", 1, &["\"one\" lives", "stop its server"]);
    forget("nobody", 1, &["no node", "nobody", "node list"]);
    forget("lost", 0, &["lost is forgotten"]);
    let list = nodes(&server);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list:#}");
    let down = database.number("SELECT count(*) FROM events WHERE kind = 'down'");
    assert_eq!(down, 1, "what it held is down");
    let audited = database.texts("SELECT subject FROM audit_log WHERE action = 'node forgotten'");
    assert_eq!(audited, ["node lost"]);
    assert_eq!(readiness(&server), StatusCode::OK);
}

#[test]
fn a_second_node_of_one_name_and_one_with_another_secret_key_are_refused() {
    let database = Postgres::server_database();
    let one = Server::start_on(&database, &["--node-name", "one"]);
    let refused = |name: &str, with_secret: bool, words: &[&str]| {
        let folder = Workspace::new();
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder");
        if with_secret {
            let from = one.data_dir().join("secret.key");
            fs::copy(from, data.join("secret.key")).expect("the secret key");
        }
        let mut serve = one.any_command("serve");
        serve.env(database::VARIABLE, database.url());
        serve.arg("--data-dir").arg(&data);
        serve.args(["--node-name", name, "--listen", "127.0.0.1:0"]);
        serve.args(["--ssh-listen", "127.0.0.1:0"]);
        process::run(&mut serve, folder.path(), "second")
            .expect_code(1)
            .expect_words(words);
    };
    refused(
        "one",
        true,
        &["another server", "--node-name", "stop the other"],
    );
    refused("two", false, &["secret.key", "copy", "node that runs"]);
    assert_eq!(readiness(&one), StatusCode::OK);
    let list = nodes(&one);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list:#}");
}

#[test]
fn what_is_for_several_servers_is_refused_to_one_that_keeps_its_own_file() {
    let server = Server::start_on_sqlite();
    let folder = Workspace::new();
    for flags in [["--role", "web"], ["--region", "eu"], ["--node-name", "x"]] {
        let mut serve = server.any_command("serve");
        serve.arg("--data-dir").arg(folder.path().join("data"));
        serve.args(flags);
        process::run(&mut serve, folder.path(), "serve")
            .expect_code(1)
            .expect_words(&[flags[0], "--database-url"]);
    }
    let mut list = server.command("node");
    list.arg("list");
    process::run(&mut list, folder.path(), "node")
        .expect_code(1)
        .expect_words(&["--database-url"]);
    for (command, arguments) in [
        ("region", &["list"][..]),
        ("host-key", &["list", "--region", "eu"]),
    ] {
        process::run(
            server.command(command).args(arguments),
            folder.path(),
            command,
        )
        .expect_code(1)
        .expect_words(&["--database-url"]);
    }
}

#[test]
fn a_node_for_pages_has_no_tunnels_and_one_for_tunnels_has_no_pages() {
    let database = Postgres::server_database();
    let tunnels = Server::start_on(&database, &["--role", "tunnel", "--node-name", "tunnels"]);
    let status = |server: &str, path: &str| {
        let answer = http().get(format!("{server}{path}")).send();
        answer.expect("an answer").status()
    };
    for (path, expected) in [
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::OK),
        ("/metrics", StatusCode::UNAUTHORIZED),
        ("/sign-in", StatusCode::NOT_FOUND),
        ("/api/v1/data-sources", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(status(&tunnels.url, path), expected, "{path}");
    }

    let folder = Workspace::new();
    let data = folder.path().join("data");
    fs::create_dir_all(&data).expect("a folder");
    let serve = || {
        let mut serve = tunnels.any_command("serve");
        serve.env(database::VARIABLE, database.url());
        serve.arg("--data-dir").arg(&data);
        serve.args(["--node-name", "pages", "--role", "web"]);
        serve.args([
            "--listen",
            "127.0.0.1:0",
            "--ssh-listen",
            tunnels.ssh.as_str(),
        ]);
        serve
    };
    let secret = tunnels.data_dir().join("secret.key");
    fs::copy(secret, data.join("secret.key")).expect("the secret key");
    let pages = Running::start(&mut serve(), folder.path(), "pages");
    pages.wait_for_output("\nready\n", LIMIT);
    let said = pages.output();
    let url = said.lines().find_map(|line| line.strip_prefix("public   "));
    let url = url.expect("its address").trim_end_matches('/').to_owned();
    assert!(!said.contains("\ntunnel "), "{said}");
    assert_eq!(status(&url, "/sign-in"), StatusCode::OK);
    assert_eq!(status(&url, "/readyz"), StatusCode::OK);

    // It creates what the other one serves.
    let call = |method: Method, path: &str| {
        let request = http().request(method, format!("{url}/api/v1{path}"));
        request.bearer_auth(tunnels.api_token(&["at-pages"]))
    };
    let customer = Customer::new();
    let new = json!({
        "display_name": "Shop", "database_type": "postgresql", "host": "127.0.0.1", "port": customer.port,
    });
    let created = call(Method::POST, "/data-sources").json(&new).send();
    let created: DataSource = created.expect("an answer").json().expect("a data source");
    let key = fs::read_to_string(customer.folder.path().join("key.pub")).expect("a key");
    let registration = json!({
        "public_key": key, "hostname": "bastion", "os": "Debian 13", "user": "ann",
    });
    let answer = http()
        .put(format!("{url}/api/v1/enrollment/public-key"))
        .bearer_auth(token_of(&created))
        .json(&registration)
        .send()
        .expect("an answer");
    let answer: Value = answer.json().expect("JSON");
    let keys = answer["server"]["host_keys"].as_array().map(Vec::len);
    assert_eq!(keys, Some(4), "those of the node with tunnels: {answer:#}");
    let port = answer["remote_port"].as_u64().expect("a port");
    let mut enrolled = created.clone();
    let mut tunnel = tunnel_of(&created).clone();
    tunnel.remote_port = u16::try_from(port).ok();
    enrolled.tunnel = Some(tunnel);
    let _ssh = customer.connect(&tunnels, &enrolled);
    // Its bastion's call finds the tunnel of another node.
    wait::until_true(
        "the tunnel is up",
        SOON,
        || tunnels.log(),
        || {
            let url = format!("{url}/api/v1/enrollment/tunnel-up");
            let answer = http().post(url).bearer_auth(token_of(&created)).send();
            answer.expect("an answer").status().is_success()
        },
    );
    pages.signal(Signal::TERM);
    pages.wait(LIMIT).expect_code(0);
}

#[test]
fn a_tunnel_that_one_node_says_is_up_is_saved_at_the_other_at_once() {
    let (one, other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    for name in ["Shop", "Billing", "Stock"] {
        let source = customer.enroll(&one, name);
        let _ssh = customer.connect(&one, &source);
        let url = format!("{}/api/v1/enrollment/tunnel-up", one.url);
        let says_up = || {
            let said = http().post(&url).bearer_auth(token_of(&source)).send();
            said.expect("an answer").status().is_success()
        };
        wait::until_true("it says that it is up", SOON, || one.log(), says_up);
        other.operator().save(source.id);
    }
}

#[test]
fn a_node_that_is_started_shows_from_its_first_answer_which_tunnels_others_hold() {
    let (one, mut other) = two_nodes(&Postgres::server_database());
    let customer = Customer::new();
    let source = customer.enroll(&one, "Shop");
    let _ssh = customer.connect(&one, &source);
    wait_for(&other, &source, DataSourceState::Connected, SOON);
    for _ in 0..3 {
        other.stop().expect_code(0);
        other.start_again();
        assert_eq!(state_at(&other, &source), DataSourceState::Connected);
    }
}
