//! Regions: each has tunnel servers, host keys and ports of its own, and a tunnel moves from one to another.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, DataSourceState, Problem};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server_life::roles::metric;
use crate::support::lab::{Lab, SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::ports::{self, PortRange};
use crate::support::postgres::Postgres;
use crate::support::process::{self, Finished, Running};
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

const LIMIT: Duration = Duration::from_secs(60);

/// In which a node knows what a command or another node has changed.
const SOON: Duration = Duration::from_secs(15);

/// A vendor with a tunnel server in each of two regions, `default` and `eu`.
struct Vendor {
    default: Server,
    eu: Server,
    folder: Workspace,
}

impl Vendor {
    /// The tunnels' ports of `eu` are these, at this address.
    fn start(eu_ports: Option<&PortRange>, eu_address: &str) -> Self {
        let folder = Workspace::new();
        let default = Server::start_on(&Postgres::server_database(), &node("one", "127.0.0.1"));
        let ssh_port = ports::free_port().to_string();
        let eu_ports = eu_ports.map_or_else(|| default.ports_flag(), PortRange::flag);
        let add = [
            "add",
            "eu",
            "--ssh-host",
            "127.0.0.1",
            "--ssh-port",
            &ssh_port,
            "--ports",
            &eu_ports,
        ];
        region(&default, &folder, &add).expect_code(0);
        let arguments = [&node("eu-1", eu_address)[..], &["--region", "eu"]].concat();
        let eu = default.start_beside_at(&format!("127.0.0.1:{ssh_port}"), &arguments);
        Vendor {
            default,
            eu,
            folder,
        }
    }

    /// A new data source in this region.
    fn create(&self, region: Option<&str>, port: u16) -> Value {
        let mut new = json!({
            "display_name": "Shop", "database_type": "postgresql", "host": "127.0.0.1", "port": port,
        });
        if let Some(region) = region {
            new["region"] = json!(region);
        }
        let operator = self.default.operator();
        let answer = operator.call(Method::POST, "/data-sources").json(&new);
        answer.send().expect("an answer").json().expect("JSON")
    }
}

fn node<'a>(name: &'a str, forward_listen: &'a str) -> [&'a str; 6] {
    [
        "--node-name",
        name,
        "--peer-listen",
        "127.0.0.1:0",
        "--forward-listen",
        forward_listen,
    ]
}

fn region(server: &Server, folder: &Workspace, arguments: &[&str]) -> Finished {
    let mut command = server.command("region");
    process::run(command.args(arguments), folder.path(), "region")
}

/// Registers a key, and returns what its bastion is told.
fn enroll(server: &Server, source: &DataSource, public_key: &str) -> Value {
    let registration = json!({
        "public_key": public_key, "hostname": "bastion", "os": "Debian 13", "user": "ann",
    });
    let url = format!("{}/api/v1/enrollment/public-key", server.url);
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .timeout(LIMIT);
    let request = client.build().expect("a client").put(url);
    let answer = request.bearer_auth(token_of(source)).json(&registration);
    answer.send().expect("an answer").json().expect("JSON")
}

/// A database that answers with what it is sent, and a key.
pub fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut bytes = [0; 64];
            while let Ok(number @ 1..) = connection.read(&mut bytes) {
                if connection.write_all(&bytes[..number]).is_err() {
                    break;
                }
            }
        }
    });
    port
}

pub fn key(folder: &Workspace, name: &str) -> String {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
    keygen.arg(folder.path().join(name));
    process::run(&mut keygen, folder.path(), "ssh-keygen").expect_code(0);
    fs::read_to_string(folder.path().join(format!("{name}.pub"))).expect("a key")
}

/// ssh with this key to the server of which its bastion was told, whose host keys it pins.
pub fn connect(folder: &Workspace, name: &str, told: &Value, target: u16) -> Running {
    let server = &told["server"];
    let (host, port) = (&server["host"], server["port"].to_string());
    let host = host.as_str().expect("a host");
    let known: String = server["host_keys"]
        .as_array()
        .expect("host keys")
        .iter()
        .map(|key| format!("[{host}]:{port} {}\n", key.as_str().expect("a key")))
        .collect();
    let known_hosts = folder.path().join(format!("{name}.known_hosts"));
    fs::write(&known_hosts, known).expect("a file");
    let mut ssh = Command::new("ssh");
    ssh.args(["-NT", "-F", "/dev/null", "-i"]);
    ssh.arg(folder.path().join(name));
    ssh.arg("-o")
        .arg(format!("UserKnownHostsFile={}", known_hosts.display()));
    for option in [
        "StrictHostKeyChecking=yes",
        "ExitOnForwardFailure=yes",
        "BatchMode=yes",
    ] {
        ssh.args(["-o", option]);
    }
    let forward = format!("{}:127.0.0.1:{target}", told["remote_port"]);
    ssh.args(["-R", &forward, "-p", &port, &format!("tunnel@{host}")]);
    Running::start(&mut ssh, folder.path(), name)
}

fn is_answered(address: &str, told: &Value) -> bool {
    let port = told["remote_port"].as_u64().expect("a port");
    let place = format!("{address}:{port}").parse().expect("an address");
    let Ok(mut connection) = TcpStream::connect_timeout(&place, SOON) else {
        return false;
    };
    let mut answer = [0; 5];
    connection.set_read_timeout(Some(SOON)).expect("a time");
    let asked = connection.write_all(b"hello");
    asked.is_ok() && connection.read_exact(&mut answer).is_ok() && &answer == b"hello"
}

#[test]
fn each_region_has_its_own_servers_host_keys_and_ports() {
    let vendor = Vendor::start(None, "127.0.0.2");
    let list = region(&vendor.default, &vendor.folder, &["list", "--json"]);
    let list = list.expect_code(0).json();
    assert_eq!(
        (&list[0]["name"], &list[0]["settled"]),
        (&json!("default"), &json!(false)),
        "{list:#}"
    );
    assert_eq!(
        (&list[1]["name"], &list[1]["settled"]),
        (&json!("eu"), &json!(true)),
        "{list:#}"
    );

    let refused: Problem =
        serde_json::from_value(vendor.create(Some("mars"), 1)).expect("a problem");
    for word in ["\"mars\"", "\"default\"", "\"eu\""] {
        assert!(refused.detail.contains(word), "{}", refused.detail);
    }

    // The same port in both: each leads to the tunnel of its own region, and is listened on there alone.
    let databases = [echo(), echo()];
    let made = [None, Some("eu")].map(|region| vendor.create(region, databases[0]));
    let sources =
        made.map(|made| serde_json::from_value::<DataSource>(made).expect("a data source"));
    let names = ["default", "eu"];
    for (source, name) in sources.iter().zip(names) {
        assert_eq!(tunnel_of(source).region, name);
    }
    let keys = names.map(|name| key(&vendor.folder, name));
    let told = [
        // At the node of the other region.
        enroll(&vendor.eu, &sources[0], &keys[0]),
        enroll(&vendor.default, &sources[1], &keys[1]),
    ];
    assert_eq!(told[0]["remote_port"], told[1]["remote_port"], "{told:#?}");
    for (told, server) in told.iter().zip([&vendor.default, &vendor.eu]) {
        assert_eq!(told["server"]["port"].to_string(), server.ssh_port());
        let keys = told["server"]["host_keys"].as_array().expect("host keys");
        assert_eq!(keys.len(), 4, "the current and the next ones: {told:#}");
    }
    assert_ne!(
        told[0]["server"]["host_keys"],
        told[1]["server"]["host_keys"]
    );
    let first = connect(&vendor.folder, "default", &told[0], databases[0]);
    let evidence = || {
        format!(
            "{}\n{}\n{}",
            first.output(),
            vendor.default.log(),
            vendor.eu.log()
        )
    };
    wait::until_true("an answer in default", SOON, evidence, || {
        is_answered("127.0.0.1", &told[0])
    });
    vendor
        .eu
        .operator()
        .wait_for_state(sources[0].id, DataSourceState::Connected, SOON);
    assert!(
        !is_answered("127.0.0.2", &told[0]),
        "it is listened on in another region"
    );
    let second = connect(&vendor.folder, "eu", &told[1], databases[1]);
    let evidence = || format!("{}\n{}", second.output(), vendor.eu.log());
    wait::until_true("an answer in eu", SOON, evidence, || {
        is_answered("127.0.0.2", &told[1])
    });

    // A key opens its tunnel where that is, and nowhere else.
    let mut astray = told[1].clone();
    astray["server"] = told[0]["server"].clone();
    connect(&vendor.folder, "eu", &astray, databases[1])
        .wait(LIMIT)
        .expect_code(255);

    // Each server tells of the tunnels of its own region.
    let counted = |server| {
        let of = |state| {
            let name = format!("holistics_tunnel_tunnels{{state=\"{state}\"}}");
            metric(server, &name).expect("a number")
        };
        [of("up"), of("down")]
    };
    drop(second);
    for (server, expected) in [(&vendor.default, ["1", "0"]), (&vendor.eu, ["0", "1"])] {
        let evidence = || format!("{:?}", counted(server));
        wait::until_true("up and down", SOON, evidence, || {
            counted(server) == expected
        });
    }

    // A folder of host keys that cannot be written is not in the way of what is told of the regions.
    let former = vendor.eu.data_dir().join("ssh/former");
    fs::write(former, "no folder").expect("a file");
    let change = ["change", "default", "--ssh-host", "renamed.example"];
    region(&vendor.default, &vendor.folder, &change).expect_code(0);
    let evidence = || vendor.eu.log();
    wait::until_true("the new name", SOON, evidence, || {
        let source = vendor.eu.operator().data_source(sources[0].id);
        tunnel_of(&source).server.contains("renamed.example")
    });
}

#[test]
fn a_tunnel_that_was_set_up_by_hand_moves_with_the_keys_that_its_machine_knows() {
    let vendor = Vendor::start(None, "127.0.0.2");
    let (operator, databases) = (vendor.default.operator(), [echo(), echo()]);
    let source = operator.create("Shop", databases[0]);
    let public_key = key(&vendor.folder, "by-hand");
    fs::copy(
        vendor.folder.path().join("by-hand"),
        vendor.folder.path().join("back"),
    )
    .expect("a copy");
    let path = format!("/data-sources/{}", source.id);
    let register = || -> Value {
        let request = operator.call(Method::PUT, &format!("{path}/public-key"));
        let answer = request.json(&json!({ "public_key": public_key })).send();
        answer.expect("an answer").json().expect("JSON")
    };
    let confirm = || -> DataSource {
        let request = operator.call(Method::POST, &format!("{path}/target-applied"));
        let answer = request.send().expect("an answer");
        answer.json().expect("a data source")
    };
    register();
    let database = vendor.default.database();
    // As a connection test that went well has noted.
    database.execute("UPDATE tunnels SET applied_host = '127.0.0.1', applied_port = 1");
    operator.change_region(source.id, "eu");
    operator.change_port(source.id, databases[1]);

    // What it is told now is of the other region.
    database.execute("UPDATE known_host_keys SET fingerprints = '[]'");
    let told = register();
    assert_eq!(told["server"]["port"].to_string(), vendor.eu.ssh_port());
    let known = "SELECT fingerprints FROM known_host_keys";
    assert_eq!(database.texts(known), ["[]"]);

    let confirmed = confirm();
    let tunnel = tunnel_of(&confirmed);
    assert_eq!(tunnel.pending, None, "the new port is confirmed");
    assert!(tunnel.moving_to.is_some(), "it is not there yet");
    let moved = connect(&vendor.folder, "by-hand", &told, databases[1]);
    let evidence = || format!("{}\n{}", moved.output(), vendor.eu.log());
    wait::until_true("an answer in eu", SOON, evidence, || {
        is_answered("127.0.0.2", &told)
    });
    wait::until_true("it has moved", SOON, evidence, || {
        tunnel_of(&confirm()).region == "eu"
    });
    let mut list = vendor.default.command("host-key");
    list.args(["--region", "eu", "list", "--json"]);
    let list = process::run(&mut list, vendor.folder.path(), "host-key");
    let known = &list.expect_code(0).json()["tunnels"][0];
    assert_eq!(
        (&known["knows_current"], &known["knows_next"]),
        (&json!(true), &json!(true)),
        "{known:#}"
    );

    // Taken back when its machine has moved it, and nobody has said so: it stays, and is to move once more.
    operator.change_region(source.id, "default");
    let told = register();
    let back = connect(&vendor.folder, "back", &told, databases[1]);
    let evidence = || format!("{}\n{}", back.output(), vendor.default.log());
    wait::until_true("an answer in default", SOON, evidence, || {
        is_answered("127.0.0.1", &told)
    });
    let to_eu = operator.change_region(source.id, "eu");
    let tunnel = tunnel_of(&to_eu);
    assert_eq!(tunnel.region, "default");
    assert_eq!(told["remote_port"], json!(tunnel.remote_port));
    let next = tunnel.moving_to.as_ref().expect("where to");
    assert_eq!(next.region, "eu");
    assert!(is_answered("127.0.0.1", &told), "it goes on there");
}

#[test]
fn a_database_that_is_reached_directly_needs_no_region() {
    let Vendor {
        mut default,
        eu,
        folder,
    } = Vendor::start(None, "127.0.0.1");
    region(&eu, &folder, &["add", "us", "--ssh-host", "us.example"]).expect_code(0);
    default.stop().expect_code(0);
    region(&eu, &folder, &["remove", "default"]).expect_code(0);
    let create = |connection: &str| {
        let new = json!({
            "display_name": "Shop", "database_type": "postgresql", "host": "127.0.0.1", "port": 5432,
            "connection": connection,
        });
        let operator = eu.operator();
        let request = operator.call(Method::POST, "/data-sources").json(&new);
        request.send().expect("an answer").status().as_u16()
    };
    wait::until_true(
        "no region is assumed",
        SOON,
        || eu.log(),
        || create("reverse_tunnel") == 422,
    );
    assert_eq!(create("direct"), 201);
}

#[test]
fn a_server_of_a_region_that_nobody_has_added_or_with_other_host_keys_is_told_so() {
    let database = Postgres::server_database();
    let server = Server::start_on(&database, &["--node-name", "one"]);
    let folder = Workspace::new();
    let data = folder.path().join("data");
    fs::create_dir_all(&data).expect("a folder");
    let secret = server.data_dir().join("secret.key");
    fs::copy(secret, data.join("secret.key")).expect("the secret key");
    let serve = |arguments: &[&str]| {
        let mut serve = server.any_command("serve");
        serve.env(crate::support::database::VARIABLE, database.url());
        serve.arg("--data-dir").arg(&data);
        serve.args([
            "--node-name",
            "other",
            "--listen",
            "127.0.0.1:0",
            "--ssh-listen",
            "127.0.0.1:0",
        ]);
        serve.args(arguments);
        serve
    };
    process::run(&mut serve(&["--region", "eu"]), folder.path(), "serve")
        .expect_code(1)
        .expect_words(&["no region \"eu\"", "default", "region add eu"]);

    let name = "ssh_host_ed25519_key";
    fs::create_dir_all(data.join("ssh")).expect("a folder");
    let mut keygen = Command::new("ssh-keygen");
    keygen
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(data.join("ssh").join(name));
    process::run(&mut keygen, folder.path(), "ssh-keygen").expect_code(0);
    process::run(&mut serve(&[]), folder.path(), "serve")
        .expect_code(1)
        .expect_words(&[
            "other ones than those of the region \"default\"",
            "Move that folder away",
        ]);
    fs::remove_dir_all(data.join("ssh")).expect("it is moved away");
    let other = Running::start(&mut serve(&[]), folder.path(), "other");
    other.wait_for_output("\nready\n", LIMIT);
    let key_of =
        |data: &std::path::Path| fs::read(data.join("ssh").join(name)).expect("a host key");
    assert_eq!(
        key_of(&data),
        key_of(&server.data_dir()),
        "the region's keys"
    );

    // A command at one machine changes them at all.
    let next = fs::read(data.join("ssh/next").join(name)).expect("the next one");
    let promote = server
        .command("host-key")
        .arg("promote")
        .output()
        .expect("it runs");
    assert!(promote.status.success(), "{promote:?}");
    for data in [server.data_dir(), data.clone()] {
        wait::until_true(
            "the next key is shown",
            SOON,
            || server.log(),
            || key_of(&data) == next,
        );
    }

    let folder = &folder;
    let run = |arguments: &[&str]| region(&server, folder, arguments);
    run(&["add", "default", "--ssh-host", "x"])
        .expect_code(1)
        .expect_words(&["there already"]);
    run(&["change", "mars", "--ssh-host", "x"])
        .expect_code(1)
        .expect_words(&["mars", "default"]);
    run(&["change", "default"])
        .expect_code(1)
        .expect_words(&["--ssh-host", "--ports"]);
    run(&["remove", "default"])
        .expect_code(1)
        .expect_words(&["still used", "2 servers"]);
    run(&[
        "add",
        "us",
        "--ssh-host",
        "a.example",
        "--ssh-host",
        "b.example",
    ])
    .expect_code(0);
    run(&["list"]).expect_code(0).expect_words(&[
        "us",
        "a.example:50022 or b.example:50022",
        "20000-29999",
    ]);
    run(&["remove", "us"]).expect_code(0);
    let listed = run(&["list"]).expect_code(0);
    assert!(!listed.stdout.contains("a.example"), "{}", listed.stdout);
}

#[test]
fn a_tunnel_moves_to_another_region_by_one_command_and_goes_on_until_then() {
    let eu_ports = PortRange::claim(10);
    let Vendor {
        default,
        eu,
        folder: _folder,
    } = Vendor::start(Some(&eu_ports), "127.0.0.1");
    let lab = Lab::with(default);
    let shop = lab.active_data_source("Shop");
    let billing = lab.active_data_source("Billing");
    assert_eq!(tunnel_of(&shop).region, "default");
    let old_port = tunnel_of(&shop).remote_port.expect("a port");

    let moving = lab.operator.change_region(shop.id, "eu");
    let next = tunnel_of(&moving).moving_to.clone().expect("where to");
    assert_eq!(
        (next.region.as_str(), next.server.as_str()),
        ("eu", eu.ssh.as_str())
    );
    let id = tunnel_of(&shop).id.to_string();
    let command = moving.update_command.as_ref().expect("a command");
    assert!(
        command.ends_with(&format!("update-tunnel {id}")),
        "{command}"
    );
    // As long as nobody comes, and when it is taken back and asked for again: as before.
    assert_eq!(tunnel_of(&moving).remote_port, Some(old_port));
    lab.login_through(&shop).expect("the tunnel goes on");
    let back = lab.operator.change_region(shop.id, "default");
    assert_eq!(
        (&tunnel_of(&back).moving_to, &back.update_command),
        (&None, &None)
    );
    let moving = lab.operator.change_region(shop.id, "eu");
    let next = tunnel_of(&moving).moving_to.clone().expect("where to");

    let update = |more: &[&str]| {
        let mut update = lab.bastion.program(["update-tunnel", "--yes", &id]);
        lab.bastion.run(update.args(more))
    };
    let before = lab.bastion.snapshot_of_what_lasts();
    update(&["--dry-run"])
        .expect_code(0)
        .expect_words(&["region eu", &format!("the port {} there", next.remote_port)]);
    before.assert_same(&lab.bastion.snapshot_of_what_lasts());
    update(&[]).expect_code(0);
    let moved = lab.operator.data_source(shop.id);
    let tunnel = tunnel_of(&moved);
    assert_eq!(moved.state, DataSourceState::Active);
    assert_eq!(
        (tunnel.region.as_str(), tunnel.remote_port),
        ("eu", Some(next.remote_port))
    );
    assert_eq!((&tunnel.moving_to, &moved.update_command), (&None, &None));
    lab.login_through(&shop).expect("it leads to the database");
    lab.login_through(&billing).expect("the sibling goes on");
    let evidence = || lab.server.log();
    wait::until_true("the old port is closed", SOON, evidence, || {
        !ports::is_open(old_port)
    });
    let moves = "SELECT kind FROM events WHERE kind = 'moved'";
    assert_eq!(lab.server.database().texts(moves).len(), 1);

    // What is pinned is the other region's, and nothing is left to do.
    let known_hosts = lab.bastion.own_folder().join("known_hosts");
    let pinned = fs::read_to_string(&known_hosts).expect("the pinned keys");
    let receipt = lab.bastion.own_folder().join("receipt.json");
    let receipt = fs::read_to_string(receipt).expect("the receipt");
    assert!(receipt.contains(&eu.ssh_port().to_owned()), "{receipt}");
    assert_eq!(
        pinned.lines().count(),
        8,
        "four keys of each region: {pinned}"
    );
    update(&[])
        .expect_code(0)
        .expect_words(&["already as in the browser"]);
    lab.bastion.service("restart").expect_code(0);
    // Until its old session's end is seen, "up" may be what it was before.
    let doctor = || lab.bastion.run(&mut lab.bastion.program(["doctor", &id]));
    wait::until_true(
        "a doctor who finds nothing",
        SERVICE_LIMIT,
        || doctor().to_string(),
        || doctor().code == 0,
    );
    // The port of before is nobody's, and rests.
    let resting = "SELECT region FROM former_ports ORDER BY region";
    assert_eq!(lab.server.database().texts(resting), ["default", "eu"]);
    lab.remove(&shop).expect_code(0);
}

#[test]
#[ignore = "takes two minutes: what does not come up is waited for before the way back is gone"]
fn a_tunnel_that_does_not_come_up_in_the_other_region_goes_on_where_it_was() {
    let eu_ports = PortRange::claim(10);
    let vendor = Vendor::start(Some(&eu_ports), "127.0.0.1");
    let (lab, mut eu) = (Lab::with(vendor.default), vendor.eu);
    let shop = lab.active_data_source("Shop");
    let id = tunnel_of(&shop).id.to_string();
    lab.operator.change_region(shop.id, "eu");
    eu.stop().expect_code(0);

    let update = || {
        let mut update = lab.bastion.program(["update-tunnel", "--yes", &id]);
        lab.bastion.start(&mut update).wait(4 * LIMIT)
    };
    let known_hosts = lab.bastion.own_folder().join("known_hosts");
    let pinned = fs::read(&known_hosts).expect("the pinned keys");
    update()
        .expect_code(3)
        .expect_words(&["is not up after", "up again as before"]);
    lab.operator
        .wait_for_state(shop.id, DataSourceState::Active, SERVICE_LIMIT);
    lab.login_through(&shop).expect("it leads to the database");
    let now = lab.operator.data_source(shop.id);
    let (now, before) = (tunnel_of(&now), tunnel_of(&shop));
    assert_eq!(
        (&now.region, now.remote_port),
        (&before.region, before.remote_port)
    );
    assert!(now.moving_to.is_some(), "it is still to move");
    assert_eq!(fs::read(&known_hosts).expect("the pinned keys"), pinned);

    eu.start_again();
    update().expect_code(0);
    assert_eq!(tunnel_of(&lab.operator.data_source(shop.id)).region, "eu");
}
