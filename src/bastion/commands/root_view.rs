//! root on a host in memory that has tunnels of ada and of bob, who have a vendor each and share a number.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use clap::{CommandFactory as _, FromArgMatches as _};
use reqwest::Method;
use serde_json::json;

use super::{others, status, tunnels, uninstall};
use crate::bastion::cli::{Cli, Command, Which};
use crate::bastion::doctor::{self, Check, Outcome, Target, Watcher};
use crate::bastion::failure::{Exit, advice_of, exit_of};
use crate::bastion::host::http::{HttpError, Request, Response};
use crate::bastion::host::scripted::ScriptedHost;
use crate::bastion::host::{Authority, HostExt as _, Output};
use crate::bastion::receipt::{EnrolledRecord, HostIdentity, Receipt, TunnelRecord};
use crate::bastion::service::{self, ServiceTunnel};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;
use crate::protocol::{DataSourceId, TunnelId, TunnelServerAddress};

const ADAS: &str = "bi.example.com-7";
const BOBS: &str = "other.example-7";

/// The vendors' side, and what the service runs.
#[derive(Default)]
struct World {
    running: RefCell<BTreeSet<String>>,
    /// Processes that do not end with their service.
    stubborn: RefCell<BTreeSet<String>>,
    /// The tunnels that the vendors have, as `HOST TOKEN`.
    known: RefCell<BTreeSet<String>>,
    /// Whoever was asked something.
    asked: RefCell<Vec<String>>,
}

struct Bastion {
    host: ScriptedHost,
    world: Rc<World>,
}

impl Bastion {
    /// As root finds it.
    fn new() -> Self {
        let host = ScriptedHost::as_root();
        for dir in [
            "/etc",
            "/etc/systemd",
            "/etc/systemd/system",
            "/run",
            "/run/systemd",
            "/run/systemd/system",
            "/var",
            "/var/run",
        ] {
            make_dir(&host, dir);
        }
        let release = b"ID=debian\nVERSION_ID=12\n";
        let path = Path::new("/etc/os-release");
        host.write(path, release, 0o644, Authority::Root).unwrap();
        host.install("systemctl");
        host.install("ps");
        let bastion = Bastion {
            host,
            world: Rc::default(),
        };
        bastion.answer();
        bastion
    }

    fn of_two() -> Self {
        let bastion = Self::new();
        bastion.set_up("ada", ADAS, "https://bi.example.com");
        bastion.set_up("bob", BOBS, "https://other.example");
        bastion
    }

    /// What a setup of this user's leaves.
    fn set_up(&self, user: &str, slug: &str, vendor: &str) {
        let (host, name) = (&self.host, slug.parse::<TunnelName>().unwrap());
        let home = format!("/home/{user}");
        for dir in [
            &home,
            &format!("{home}/.holistics"),
            &format!("{home}/.holistics/logs"),
        ] {
            make_dir(host, dir);
        }
        let layout = others::layout(host);
        make_dir(host, "/etc/h_autossh");
        make_dir(
            host,
            &format!("/etc/systemd/system/h_autossh@{slug}.service.d"),
        );
        let tunnel = ServiceTunnel {
            id: name,
            user: user.to_owned(),
            log: format!("{home}/.holistics/logs/tunnel-{slug}.log").into(),
            ..service::example(&home)
        };
        let manager = others::manager(host).unwrap();
        for (path, content) in manager.files(host, &layout, &tunnel).unwrap() {
            host.write(&path, content.as_bytes(), 0o644, Authority::Root)
                .unwrap();
        }
        host.write(&tunnel.log, b"hello\n", 0o600, Authority::User)
            .unwrap();
        self.write_receipt(user, name, vendor);
        self.world.running.borrow_mut().insert(slug.to_owned());
        let vendor = vendor.trim_start_matches("https://");
        let known = format!("{vendor} htt_of_{user}");
        self.world.known.borrow_mut().insert(known);
    }

    fn write_receipt(&self, user: &str, name: TunnelName, vendor: &str) {
        let mut receipt = Receipt::new(Path::new("/"));
        let record = TunnelRecord {
            control_plane: vendor.parse().unwrap(),
            data_source_id: DataSourceId(3),
            display_name: "Shop".to_owned(),
            database_type: None,
            target_host: "db.internal".to_owned(),
            target_port: 5432,
            reach: Default::default(),
            token_sha256: String::new(),
            proxy_command: None,
            enrolled: Some(EnrolledRecord {
                remote_port: 20001,
                server: TunnelServerAddress {
                    host: "tunnel.example.com".to_owned(),
                    port: 50022,
                    user: "tunnel".to_owned(),
                    host_keys: Vec::new(),
                },
                tunnel_token: format!("htt_of_{user}"),
            }),
            steps: Vec::new(),
        };
        receipt.tunnels.insert(name, record);
        let path = format!("/home/{user}/.holistics/receipt.json");
        receipt.save(&self.host, Path::new(&path)).unwrap();
    }

    /// The user's account and home are gone.
    fn delete_home(&self, user: &str) {
        let own = format!("/home/{user}/.holistics");
        for file in ["receipt.json", &format!("logs/tunnel-{ADAS}.log")] {
            let path = Path::new(&own).join(file);
            self.host.remove_file(&path, Authority::User).unwrap();
        }
        for dir in [format!("{own}/logs"), own, format!("/home/{user}")] {
            self.host
                .remove_dir(Path::new(&dir), Authority::User)
                .unwrap();
        }
    }

    fn answer(&self) {
        let on = |begins: &str, act: fn(&World, &[String]) -> Output| {
            let world = Rc::clone(&self.world);
            self.host
                .on(begins, move |_, command| act(&world, &command.args));
        };
        on("sudo systemctl", |world, words| {
            let slug = words
                .get(1)
                .and_then(|unit| unit.strip_prefix("h_autossh@")?.strip_suffix(".service"));
            if let (Some("stop"), Some(slug)) = (words.first().map(String::as_str), slug) {
                world.running.borrow_mut().remove(slug);
            }
            Output::default()
        });
        on("systemctl is-active", |world, words| {
            let running = world.running.borrow();
            let is_it = |slug: &&String| words[1] == format!("h_autossh@{slug}.service");
            said(if running.iter().any(|slug| is_it(&slug)) {
                "active\n"
            } else {
                "inactive\n"
            })
        });
        on("systemctl is-enabled", |_, _| said("enabled\n"));
        on("id -u -- bob", |_, _| said("1001\n"));
        on("id -u -- ada", |_, _| Output {
            status: 1,
            ..Output::default()
        });
        on("ps -A", |world, _| {
            let (running, stubborn) = (world.running.borrow(), world.stubborn.borrow());
            let process = |slug: &String| {
                let user = if slug == ADAS { "ada" } else { "bob" };
                let words = format!(
                    "-E /home/{user}/.holistics/logs/x -R 127.0.0.1:20001:db tunnel@tunnel.example.com"
                );
                format!("  8 /usr/bin/autossh {words}\n  9 /usr/bin/ssh {words}\n")
            };
            said(&running.union(&stubborn).map(process).collect::<String>())
        });
        on("LC_ALL=C df", |_, _| {
            said("Filesystem\n/dev/sda1 100 50 9000000 50% /\n")
        });
        let world = Rc::clone(&self.world);
        self.host.serve(move |_, request| world.http(request));
    }

    fn run(&self, words: &[&str]) -> anyhow::Result<Exit> {
        let ui = Ui::new(false, true, true);
        match parse(words) {
            Command::UninstallTunnel(command) => uninstall::run(&self.host, &ui, &command),
            other => panic!("{other:?}"),
        }
    }

    /// The tunnels that root sees.
    fn seen(&self) -> Vec<String> {
        let tunnels = others::tunnels(&self.host, None).unwrap();
        tunnels.iter().map(|tunnel| tunnel.name.slug()).collect()
    }

    fn doctor(&self, id: Option<TunnelId>) -> Vec<Check> {
        let which = Which { id, server: None };
        let all = others::tunnels(&self.host, None).unwrap();
        let asked = tunnels::meant_of_all(&self.host, None, all, &which).unwrap();
        let privilege = self.host.privilege();
        let target = Target::new(
            &self.host,
            privilege,
            Ok(None),
            asked.own,
            asked.others,
            Default::default(),
        );
        doctor::examine(&self.host, &Nobody, &target).unwrap()
    }
}

struct Nobody;

impl Watcher for Nobody {
    fn begins(&self, _: &str) {}
    fn ends(&self, _: &Check) {}
}

impl World {
    fn http(&self, request: &Request) -> Result<Response, HttpError> {
        let vendor = request.url.host_str().unwrap().to_owned();
        self.asked.borrow_mut().push(vendor.clone());
        let token = request.bearer.clone().unwrap();
        let tunnel = format!("{vendor} {token}");
        assert_eq!(request.url.path(), "/api/v1/tunnels/7");
        if !self.known.borrow().contains(&tunnel) {
            let problem =
                json!({"type": "/problems/not-found", "title": "x", "status": 404, "detail": "x"});
            return Ok(answer(404, &problem));
        }
        if request.method == Method::DELETE {
            self.known.borrow_mut().remove(&tunnel);
            return Ok(answer(200, &json!(null)));
        }
        Ok(answer(
            200,
            &json!({
                "id": 7, "display_name": "Shop", "host": "db", "port": 5432, "remote_port": 20001,
                "status": "up", "state": "active", "session": null,
            }),
        ))
    }
}

fn answer(status: u16, body: &serde_json::Value) -> Response {
    Response {
        status,
        date: None,
        body: serde_json::to_vec(body).unwrap(),
    }
}

fn said(stdout: &str) -> Output {
    Output {
        stdout: stdout.to_owned(),
        ..Output::default()
    }
}

fn make_dir(host: &ScriptedHost, dir: &str) {
    let dir = Path::new(dir);
    if !host.exists(dir) {
        host.create_dir(dir, 0o755, Authority::Root).unwrap();
    }
}

fn parse(words: &[&str]) -> Command {
    let words = std::iter::once("holistics-tunnel").chain(words.iter().copied());
    let matches = Cli::command().try_get_matches_from(words).unwrap();
    Cli::from_arg_matches(&matches).unwrap().command
}

const REMOVE_ADAS: [&str; 5] = [
    "uninstall-tunnel",
    "7",
    "--server",
    "https://bi.example.com",
    "--yes",
];

#[test]
fn root_removes_one_user_s_tunnel_and_nothing_of_another_s() {
    let bastion = Bastion::of_two();
    let bobs = Bastion::new();
    bobs.set_up("bob", BOBS, "https://other.example");
    let unlocked = bastion.host.changed_unlocked();
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Done);
    assert_eq!(bastion.seen(), [BOBS]);
    assert_eq!(*bastion.world.running.borrow(), [BOBS.to_owned()].into());
    assert_eq!(
        *bastion.world.known.borrow(),
        ["other.example htt_of_bob".to_owned()].into()
    );
    // What is ada's own stays.
    let mut left = bastion.host.paths();
    left.retain(|path| !path.contains("/home/ada"));
    let mut expected = bobs.host.paths();
    expected.retain(|path| !path.contains("/home/ada"));
    assert_eq!(left, expected);
    assert_eq!(
        bastion.host.changed_unlocked(),
        unlocked,
        "without the host's lock"
    );
}

#[test]
fn the_service_goes_with_the_last_tunnel_of_anybody() {
    let bastion = Bastion::of_two();
    assert_eq!(
        bastion
            .run(&["uninstall-tunnel", "--all", "--yes"])
            .unwrap(),
        Exit::Done
    );
    assert!(bastion.world.running.borrow().is_empty() && bastion.world.known.borrow().is_empty());
    let mut left = bastion.host.paths();
    left.retain(|path| !path.contains("/home/"));
    let mut before = Bastion::new().host.paths();
    before.retain(|path| !path.contains("/home/"));
    assert_eq!(left, before);
}

/// Puts every fault into the removal of the last tunnel, and runs it again.
#[test]
fn a_removal_by_root_comes_to_the_same_end_after_any_fault() {
    let one = || {
        let bastion = Bastion::new();
        bastion.set_up("ada", ADAS, "https://bi.example.com");
        bastion
    };
    let end = |bastion: &Bastion| {
        let world = &bastion.world;
        (
            bastion.host.paths(),
            world.running.borrow().clone(),
            world.known.borrow().clone(),
        )
    };
    let remove = ["uninstall-tunnel", "7", "--yes"];
    let smooth = one();
    let begun = smooth.host.effects();
    assert_eq!(smooth.run(&remove).unwrap(), Exit::Done);
    let effects = smooth.host.effects() - begun;
    assert!(effects > 10, "{effects}");
    for number in 1..=effects {
        for is_interrupted in [false, true] {
            let bastion = one();
            let at = bastion.host.effects() + number;
            if is_interrupted {
                bastion.host.interrupt_at(at);
            } else {
                bastion.host.fail_at(at);
            }
            let first = bastion.run(&remove);
            let is_at_its_end = end(&bastion) == end(&smooth);
            if !is_at_its_end {
                let again = bastion.run(&remove);
                assert!(
                    again.is_ok(),
                    "effect {number}, {is_interrupted}, {first:?}: {again:?}"
                );
            }
            assert_eq!(
                end(&bastion),
                end(&smooth),
                "effect {number}, {is_interrupted}, {first:?}"
            );
        }
    }
}

#[test]
fn a_tunnel_whose_owner_is_gone_is_removed_and_the_vendor_is_to_be_told_in_the_browser() {
    for (more, exit) in [
        (None, Exit::Partly),
        (Some("--force"), Exit::Done),
        (Some("--local-only"), Exit::Done),
    ] {
        let bastion = Bastion::of_two();
        bastion.delete_home("ada");
        assert_eq!(bastion.seen(), [ADAS, BOBS]);
        let words: Vec<&str> = REMOVE_ADAS.into_iter().chain(more).collect();
        assert_eq!(bastion.run(&words).unwrap(), exit, "{more:?}");
        assert_eq!(bastion.seen(), [BOBS]);
        assert!(!bastion.host.exists(Path::new("/root/.holistics")));
        assert!(bastion.world.asked.borrow().is_empty());
    }
}

#[test]
fn the_removal_command_from_the_browser_tells_the_vendor_where_the_owner_s_token_is_gone() {
    let bastion = Bastion::of_two();
    bastion.delete_home("ada");
    let token = Path::new("/root/token");
    bastion
        .host
        .write(token, b"htt_of_ada\n", 0o600, Authority::User)
        .unwrap();
    let words: Vec<&str> = REMOVE_ADAS
        .into_iter()
        .chain(["--token-file", "/root/token"])
        .collect();
    assert_eq!(bastion.run(&words).unwrap(), Exit::Done);
    assert_eq!(bastion.seen(), [BOBS]);
    let known = bastion.world.known.borrow();
    assert_eq!(*known, ["other.example htt_of_bob".to_owned()].into());
    assert!(!bastion.host.exists(token));
}

#[test]
fn on_a_copy_of_a_machine_root_is_asked_before_the_original_s_tunnel_ends() {
    let bastion = Bastion::of_two();
    let path = Path::new("/home/ada/.holistics/receipt.json");
    let mut receipt = Receipt::load(&bastion.host, path).unwrap().unwrap();
    receipt.host = Some(HostIdentity {
        name: "original".to_owned(),
        machine_id: None,
    });
    receipt.save(&bastion.host, path).unwrap();
    let error = bastion.run(&REMOVE_ADAS).unwrap_err();
    assert!(error.to_string().contains("copy of original"), "{error}");
    assert_eq!(bastion.seen(), [ADAS, BOBS]);
}

#[test]
fn a_number_that_two_vendors_have_is_not_guessed() {
    let bastion = Bastion::of_two();
    let error = bastion
        .run(&["uninstall-tunnel", "7", "--yes"])
        .unwrap_err();
    assert_eq!(exit_of(&error), Exit::Usage);
    for words in [ADAS, BOBS, "ada", "bob"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(advice_of(&error).unwrap().contains("--server"));
    let Command::Status(mut command) = parse(&["status", "7"]) else {
        panic!()
    };
    assert_eq!(
        exit_of(&status::run(&bastion.host, &command).unwrap_err()),
        Exit::Usage
    );
    command.which.server = Some("https://other.example".to_owned());
    assert_eq!(
        status::run(&bastion.host, &command).unwrap(),
        Exit::CannotTell
    );
    assert_eq!(bastion.seen(), [ADAS, BOBS]);
}

#[test]
fn without_a_terminal_a_removal_by_root_wants_its_yes() {
    let bastion = Bastion::of_two();
    let before = bastion.host.snapshot();
    let error = bastion.run(&REMOVE_ADAS[..4]).unwrap_err();
    assert_eq!(exit_of(&error), Exit::Usage);
    bastion.host.answer(false);
    bastion.run(&REMOVE_ADAS[..4]).unwrap_err();
    assert_eq!(bastion.host.snapshot(), before);
}

#[test]
fn root_sends_no_request_to_where_a_user_s_receipt_alone_says() {
    let bastion = Bastion::of_two();
    bastion.write_receipt("ada", ADAS.parse().unwrap(), "https://metadata.internal");
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Partly);
    assert!(bastion.world.asked.borrow().is_empty());
    assert_eq!(bastion.seen(), [BOBS]);
}

#[test]
fn a_receipt_that_is_no_receipt_keeps_root_from_nothing() {
    let bastion = Bastion::of_two();
    let path = Path::new("/home/ada/.holistics/receipt.json");
    let huge = vec![b' '; 5 << 20];
    for content in [&b"{\"version\": 9999}"[..], b"root:x:0:0", &huge] {
        bastion
            .host
            .write(path, content, 0o600, Authority::User)
            .unwrap();
        assert!(
            others::receipt(
                &bastion.host,
                &others::tunnels(&bastion.host, None).unwrap()[0]
            )
            .is_err()
        );
    }
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Partly);
    assert_eq!(bastion.seen(), [BOBS]);
}

#[test]
fn a_process_that_does_not_end_is_told_and_the_tunnel_is_found_again() {
    let bastion = Bastion::of_two();
    bastion.world.stubborn.borrow_mut().insert(ADAS.to_owned());
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Partly);
    assert_eq!(bastion.seen(), [ADAS, BOBS]);
    bastion.world.stubborn.borrow_mut().clear();
    assert_eq!(bastion.run(&REMOVE_ADAS).unwrap(), Exit::Done);
    assert_eq!(bastion.seen(), [BOBS]);
}

#[test]
fn doctor_shows_root_what_can_be_told_of_another_s_tunnel_and_why_the_rest_cannot() {
    let bastion = Bastion::of_two();
    let checks = bastion.doctor(None);
    let outcome = |user: &str, name: &str| {
        let is_it =
            |check: &&Check| check.name == name && check.subject.contains(&format!("of {user}"));
        let check = checks
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{name} of {user}"));
        (
            check.outcome,
            format!("{} {:?}", check.detail, check.remedy),
        )
    };
    let (found, said) = outcome("ada", "account");
    assert_eq!(found, Outcome::Fail);
    assert!(said.contains("uninstall-tunnel 7"), "{said}");
    assert_eq!(outcome("bob", "account").0, Outcome::Pass);
    for name in ["files", "service", "service-boot", "processes", "log"] {
        assert_eq!(
            outcome("bob", name).0,
            Outcome::Pass,
            "{name}: {}",
            outcome("bob", name).1
        );
    }
    for name in ["setup", "server-key", "target", "tunnel"] {
        let (found, said) = outcome("bob", name);
        assert_eq!(found, Outcome::Skip);
        assert!(said.contains("as bob"), "{said}");
    }
}
