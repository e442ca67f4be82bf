//! Tunnels that a person sets up by hand, through the API and by forms alone; and who enrolled.

use std::time::Duration;

use holistics_tunnel::protocol::{
    DataSource, DataSourceId, DataSourceState, EnrolledBy, Problem, ProblemKind, TunnelByHand,
};
use reqwest::Method;
use reqwest::blocking::Response;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::support::lab::{Lab, token_of, tunnel_of};
use crate::support::process::Running;
use crate::support::server::{Operator, Server};
use crate::visitor::{Page, Visitor};

const SOON: Duration = Duration::from_secs(30);

/// `PUT /data-sources/{id}/public-key`
fn register(operator: &Operator, id: DataSourceId, body: &Value) -> Response {
    let path = format!("/data-sources/{id}/public-key");
    let request = operator.call(Method::PUT, &path).json(body);
    request.send().expect("the server answers")
}

#[track_caller]
fn registered(operator: &Operator, id: DataSourceId, public_key: &str) -> TunnelByHand {
    let response = register(operator, id, &json!({ "public_key": public_key }));
    let status = response.status();
    let body = response.text().expect("a body");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("the answer")
}

#[track_caller]
fn refused(response: Response, kind: ProblemKind) -> String {
    let problem: Problem = response.json().expect("a problem");
    assert_eq!(problem.kind, kind, "{}", problem.detail);
    problem.detail
}

/// A key pair of this name in the machine's folder; its public half.
fn key_pair(machine: &Machine, name: &str) -> String {
    let keygen = format!("ssh-keygen -q -t ed25519 -N '' -C {name} -f {name}");
    machine.types(&keygen).expect_code(0);
    machine.reads(&format!("{name}.pub")).trim().to_owned()
}

/// The ssh that the answer names, with this key.
fn opens(machine: &Machine, tunnel: &TunnelByHand, key: &str) -> Running {
    let pins = tunnel.known_hosts.join("\n");
    let folder = machine.file(".holistics");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("known_hosts"), pins).expect("a file");
    let key = format!("{} ", machine.file(key).display());
    machine.starts(&tunnel.ssh_command.replace("~/.holistics/id_rsa ", &key))
}

fn enrolled_by(source: &DataSource) -> &EnrolledBy {
    tunnel_of(source)
        .enrolled_by
        .as_ref()
        .expect("it is enrolled")
}

#[test]
fn each_wrong_key_is_refused_with_its_own_reason_and_no_private_key_is_kept() {
    let server = Server::start_talkative();
    let operator = server.operator();
    let machine = Machine::new();
    let source = operator.create("Shop", 5432);
    let good = key_pair(&machine, "good");
    let (kind, rest) = good.split_once(' ').expect("a type");
    machine
        .types(
            "ssh-keygen -q -t ed25519 -N secret-words -f encrypted
             ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -f old
             ssh-keygen -q -t rsa -b 1024 -N '' -f short
             ssh-keygen -q -t ed25519 -N '' -f authority
             ssh-keygen -q -s authority -I me good.pub
             ssh-keygen -lf good.pub >fingerprint
             ssh-keygen -e -f good.pub >ssh2
             ssh-keygen -e -m PKCS8 -f old.pub >pkcs8
             ssh-keygen -e -m PEM -f old.pub >pem",
        )
        .expect_code(0);
    let file = |name: &str| machine.reads(name);
    for (sent, reason) in [
        (String::new(), "no key was given"),
        (file("good"), "this is a private key"),
        (file("encrypted"), "this is a private key"),
        (file("old"), "this is a private key"),
        (
            format!("{kind} {}\n{}", &rest[..20], &rest[20..]),
            "broken over several lines",
        ),
        (format!("{good}\n{}", file("short.pub")), "several keys"),
        (format!("command=\"id\" {good}"), "something before the key"),
        (file("fingerprint"), "this is the key's fingerprint"),
        (file("ssh2"), "ssh-keygen -i -f FILE"),
        (file("pkcs8"), "ssh-keygen -i -m PKCS8 -f FILE"),
        (file("pem"), "ssh-keygen -i -m PEM -f FILE"),
        (file("good-cert.pub"), "this is a certificate"),
        (file("short.pub"), "this RSA key has 1024 bits"),
        (format!("ssh-dss {rest}"), "DSA keys are too weak"),
        (
            format!("sk-ssh-ed25519@openssh.com {rest}"),
            "touch a device",
        ),
        (format!("{kind} {}", &rest[..40]), "damaged or cut off"),
        ("good.pub".to_owned(), "not a public key of OpenSSH"),
    ] {
        let response = register(&operator, source.id, &json!({ "public_key": sent }));
        let detail = refused(response, ProblemKind::InvalidRequest);
        assert!(detail.contains(reason), "{sent}: {detail}");
    }
    assert_eq!(
        operator.data_source(source.id).state,
        DataSourceState::Draft
    );

    let visitor = Visitor::signed_in(&server);
    let form = visitor.get(&page_of(&source, "/by-hand")).form("/by-hand");
    let page = visitor.submit(&form, &[("public_key", &file("encrypted"))]);
    assert_eq!(page.status, 422);
    page.expect(&["This is a private key"]);
    let mistyped = visitor.submit(&form, &[("public_key", "ssh-ed25519 AAAA")]);
    mistyped.expect(&["This key is damaged"]);
    assert_eq!(mistyped.element("public_key"), "ssh-ed25519 AAAA");

    // What the reasons advise is taken, and what was sent in their place is nowhere.
    let converted = machine.types("ssh-keygen -i -f ssh2").expect_code(0).stdout;
    registered(&operator, source.id, &converted);
    let secrets = ["good", "encrypted", "old"].map(|name| {
        let private = file(name);
        private.lines().nth(3).expect("a line of it").to_owned()
    });
    let kept = std::fs::read_dir(server.data_dir()).expect("the data folder");
    let kept = kept
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path()).ok());
    let kept: Vec<_> = kept
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
    for secret in secrets {
        assert!(!page.body.contains(&secret), "on the page");
        assert!(!server.log().contains(&secret), "in the log");
        assert!(
            !kept.iter().any(|kept| kept.contains(&secret)),
            "in the data folder"
        );
    }
}

fn page_of(source: &DataSource, rest: &str) -> String {
    format!("/data-sources/{}{rest}", source.id)
}

#[test]
fn a_key_that_opens_another_tunnel_is_named_and_shared_if_that_is_meant() {
    let server = Server::start();
    let operator = server.operator();
    let machine = Machine::new();
    let key = key_pair(&machine, "key");
    let (shop, stock) = (
        operator.create("Shop", 5432),
        operator.create("Stock", 3306),
    );
    let first = registered(&operator, shop.id, &key);
    // The same key again is the same registration.
    assert_eq!(
        registered(&operator, shop.id, &key).remote_port,
        first.remote_port
    );

    let response = register(&operator, stock.id, &json!({ "public_key": key }));
    let detail = refused(response, ProblemKind::KeyConflict);
    for named in [
        &format!("\"Shop\" (data source {})", shop.id),
        "\"shared\": true",
    ] {
        assert!(detail.contains(named), "{detail}");
    }
    assert_eq!(operator.data_source(stock.id).state, DataSourceState::Draft);

    let visitor = Visitor::signed_in(&server);
    let path = page_of(&stock, "/by-hand");
    let asked = visitor.submit(
        &visitor.get(&path).form("/by-hand"),
        &[("public_key", &key)],
    );
    assert_eq!(asked.status, 409);
    asked.expect(&[
        "This key already opens the tunnel of \"Shop\"",
        "The same machine holds these",
    ]);
    let fields = [("public_key", key.as_str()), ("shared", "yes")];
    let page = visitor.submit(&asked.form("/by-hand"), &fields);
    page.expect(&["Waiting for the tunnel"]);

    // One ssh holds both.
    let second = tunnel_of(&operator.data_source(stock.id))
        .remote_port
        .expect("a port");
    let mut both = registered(&operator, shop.id, &key);
    let more = format!("-R 127.0.0.1:{second}:127.0.0.1:3306 tunnel@");
    both.ssh_command = both.ssh_command.replace("tunnel@", &more);
    let _ssh = opens(&machine, &both, "key");
    for id in [shop.id, stock.id] {
        operator.wait_for_state(id, DataSourceState::Connected, SOON);
    }
}

#[test]
fn its_states_are_what_the_tunnel_server_sees_and_its_removal_takes_effect_at_once() {
    let lab = Lab::new();
    let operator = &lab.operator;
    let machine = Machine::new();
    let (old, new) = (key_pair(&machine, "old"), key_pair(&machine, "new"));
    let source = lab.data_source("Shop");
    let token = token_of(&source);
    let tunnel = registered(operator, source.id, &old);
    assert_eq!(lab.state(&source), DataSourceState::Enrolled);
    let save = operator.call(Method::POST, &format!("/data-sources/{}/save", source.id));
    let detail = refused(save.send().expect("an answer"), ProblemKind::WrongState);
    assert!(detail.contains("as the guide says"), "{detail}");

    let ssh = opens(&machine, &tunnel, "old");
    operator.wait_for_state(source.id, DataSourceState::Connected, SOON);
    let tested = operator.test(source.id, &lab.postgres.login());
    assert!(tested.ok, "{tested:?}");
    assert_eq!(operator.save(source.id).state, DataSourceState::Active);
    // The command has nothing left to do.
    let used = visitor_with(&lab.server, "/api/v1/enrollment", token);
    assert_eq!(
        refused(used, ProblemKind::TokenUsed).split(':').next(),
        Some("this command has done its work")
    );

    drop(ssh);
    operator.wait_for_state(source.id, DataSourceState::Down, SOON);
    let tested = operator.test(source.id, &lab.postgres.login());
    let remedy = tested.stages[0].remedy.as_deref().expect("a remedy");
    assert!(!remedy.contains("h_autossh"), "{remedy}");
    let _ssh = opens(&machine, &tunnel, "old");
    operator.wait_for_state(source.id, DataSourceState::Active, SOON);

    // Where it leads, nobody reports.
    let changed = operator.change_port(source.id, 6432);
    assert_eq!(changed.update_command, None);
    assert_eq!(
        tunnel_of(&changed).pending.as_ref().map(|to| to.port),
        Some(6432)
    );
    let applied = format!("/data-sources/{}/target-applied", source.id);
    let answer = operator
        .call(Method::POST, &applied)
        .send()
        .expect("an answer");
    let confirmed: DataSource = answer.json().expect("the data source");
    assert_eq!(tunnel_of(&confirmed).pending, None);

    // Another key takes the place of the first one, which is out at once.
    registered(operator, source.id, &new);
    operator.wait_for_state(source.id, DataSourceState::Down, SOON);
    let ssh = opens(&machine, &tunnel, "new");
    operator.wait_for_state(source.id, DataSourceState::Active, SOON);

    let removal = operator.call(Method::DELETE, &format!("/data-sources/{}", source.id));
    assert_eq!(removal.send().expect("an answer").status(), 204);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    ssh.wait(SOON).expect_code(255);
    Visitor::signed_in(&lab.server)
        .get(&page_of(&source, ""))
        .expect(&[
            "What is left on its machine",
            "systemctl disable --now h_tunnel-",
        ]);
}

fn visitor_with(server: &Server, path: &str, token: &str) -> Response {
    let request = Visitor::new(server).request(Method::GET, path);
    request.bearer_auth(token).send().expect("an answer")
}

#[test]
fn a_bastion_that_enrolled_by_its_command_keeps_its_key() {
    let lab = Lab::new();
    let source = lab.active_data_source("Shop");
    let key = key_pair(&Machine::new(), "key");
    let response = register(&lab.operator, source.id, &json!({ "public_key": key }));
    let detail = refused(response, ProblemKind::KeyConflict);
    assert!(detail.contains("rotate-key"), "{detail}");
    let applied = format!("/data-sources/{}/target-applied", source.id);
    let answer = lab
        .operator
        .call(Method::POST, &applied)
        .send()
        .expect("an answer");
    let detail = refused(answer, ProblemKind::WrongState);
    assert!(detail.contains("update-tunnel"), "{detail}");
    assert_eq!(lab.state(&source), DataSourceState::Active);
    let by_hand = Visitor::signed_in(&lab.server).get(&page_of(&source, "/by-hand"));
    assert_eq!(by_hand.status, 409);
}

/// What the page gives to be typed on Linux.
fn typed_on_linux(page: &Page) -> Vec<String> {
    let parts = page.body.split("id=\"guide-linux-").skip(1);
    let numbers = parts.map(|part| part.split('"').next().expect("a number"));
    numbers
        .map(|number| page.element(&format!("guide-linux-{number}")))
        .collect()
}

/// The one of these that has this in it.
#[track_caller]
fn with<'t>(typed: &'t [String], text: &str) -> &'t str {
    let found = typed.iter().find(|typed| typed.contains(text));
    found.unwrap_or_else(|| panic!("no {text:?} in {typed:#?}"))
}

#[test]
fn the_guide_registers_with_the_token_alone_and_the_page_says_who_it_was() {
    let server = Server::start_with(10, &["--trusted-proxy", "127.0.0.1/32"]);
    let operator = server.operator();
    let machine = Machine::new();
    let source = operator.create("Shop", 5432);
    let visitor = Visitor::signed_in(&server);
    let guide = typed_on_linux(&visitor.get(&page_of(&source, "/by-hand")));
    machine.types(with(&guide, "ssh-keygen")).expect_code(0);
    let curl = with(&guide, "curl -fsS");
    let curl = curl.replace("-X PUT", "-H 'X-Forwarded-For: 203.0.113.7' -X PUT");
    let token = token_of(&source);
    machine
        .types(&format!("TOKEN={token}\n{curl}"))
        .expect_code(0);

    let now = operator.data_source(source.id);
    assert_eq!(now.state, DataSourceState::Enrolled);
    assert!(tunnel_of(&now).set_up_by_hand);
    let by = enrolled_by(&now).clone();
    let shell = machine.types("uname -n; id -un; ssh-keygen -lf ~/.holistics/id_rsa.pub");
    let said: Vec<_> = shell.stdout.lines().collect();
    assert_eq!(by.hostname.as_deref(), Some(said[0]));
    assert_eq!(by.user.as_deref(), Some(said[1]));
    assert_eq!(by.key_fingerprint.as_deref(), said[2].split(' ').nth(1));
    assert_eq!((by.os.as_deref(), by.operator), (Some("Linux"), None));
    assert_eq!(by.address.as_deref(), Some("203.0.113.7"));

    // It stands above the fields for the login.
    let page = visitor.get(&page_of(&source, ""));
    let place = |text: &str| page.body.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(place("id=\"enrolled-by\"") < place("id=\"username\""));
    let fingerprint = by.key_fingerprint.expect("a key");
    page.expect(&["Who enrolled", "203.0.113.7", said[0], &fingerprint]);
}

#[test]
fn what_a_bastion_says_of_itself_is_bounded_and_escaped() {
    let server = Server::start();
    let operator = server.operator();
    let machine = Machine::new();
    let source = operator.create("Shop", 5432);
    let key = key_pair(&machine, "key");
    let sends = |field: &str, value: &str| {
        let mut body = json!({ "public_key": key, "hostname": "h", "os": "o", "user": "u" });
        body[field] = value.into();
        let request = Visitor::new(&server).request(Method::PUT, "/api/v1/enrollment/public-key");
        let request = request.bearer_auth(token_of(&source)).json(&body);
        request.send().expect("an answer")
    };
    for field in ["hostname", "os", "user"] {
        for value in ["a\u{1b}[2J", "a\nb", "a\u{202E}b", &"x".repeat(256)] {
            refused(sends(field, value), ProblemKind::InvalidRequest);
        }
    }
    assert_eq!(
        operator.data_source(source.id).state,
        DataSourceState::Draft
    );
    let markup = "<img src=x onerror=alert(1)>";
    assert_eq!(sends("hostname", markup).status(), 200);
    let now = operator.data_source(source.id);
    let by = enrolled_by(&now);
    assert_eq!(
        (by.hostname.as_deref(), by.address.as_deref()),
        (Some(markup), Some("127.0.0.1"))
    );
    let page = Visitor::signed_in(&server).get(&page_of(&source, ""));
    page.expect(&[markup, "127.0.0.1"]);
    assert!(!page.body.contains("<img"), "{}", page.body);
}

#[test]
fn what_the_guides_write_is_read_by_systemd_and_launchd_as_it_is_meant() {
    let server = Server::start();
    let operator = server.operator();
    let machine = Machine::new();
    let source = operator.create_for("Shop", "fd00::5", 5432);
    let tunnel = registered(&operator, source.id, &key_pair(&machine, "key"));
    let page = Visitor::signed_in(&server).get(&page_of(&source, ""));
    let writes = |text: &str, file: &str| {
        // What writes it is typed as it is; whoever has no root, and no such folder, has it written here.
        let lines = text.split_once("sudo tee ").expect("a file to write").0;
        machine.types(&format!("{lines} tee {file}")).expect_code(0);
        machine.reads(file)
    };
    let forward = format!("127.0.0.1:{}:[fd00::5]:5432", tunnel.remote_port);
    let guide = typed_on_linux(&page);
    let unit = writes(with(&guide, "[Unit]"), "h_tunnel.service");
    let started = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<_> = started.expect("a program").split(' ').collect();
    assert!(
        words[0].starts_with('/') && words[0].ends_with("autossh"),
        "{unit}"
    );
    assert!(words.contains(&forward.as_str()), "{unit}");
    let verified = machine.types("systemd-analyze verify --man=no ./h_tunnel.service");
    assert_eq!(verified.output(), "");

    let macos = page.body.split("id=\"guide-macos-").skip(1);
    let macos: Vec<_> = macos
        .map(|part| {
            page.element(&format!(
                "guide-macos-{}",
                part.split('"').next().expect("a number")
            ))
        })
        .collect();
    writes(with(&macos, "LaunchDaemons"), "h_tunnel.plist");
    let job = plist::Value::from_file(machine.file("h_tunnel.plist")).expect("a plist");
    let job = job.as_dictionary().expect("a dictionary");
    let words = job["ProgramArguments"].as_array().expect("words");
    assert!(
        words.iter().any(|word| word.as_string() == Some(&forward)),
        "{job:?}"
    );
    assert_eq!(job["KeepAlive"].as_boolean(), Some(true));
    let label = job["Label"].as_string().expect("a label");
    assert_eq!(label, format!("io.holistics.h_tunnel-{}", tunnel.tunnel_id));
}
