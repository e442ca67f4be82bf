//! The life of a tunnel on a host in memory, with one fault at each of its steps: setup, another target, a
//! new key, the removal. After any single failure or Ctrl-C, the same command again ends where an
//! undisturbed run ends.

mod former;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::{CommandFactory as _, FromArgMatches as _};
use reqwest::Method;
use serde_json::{Value, json};

use super::{rotate_key, setup, uninstall, update_tunnel};
use crate::bastion::cli::{Cli, Command};
use crate::bastion::failure::Exit;
use crate::bastion::host::http::{HttpError, Request, Response};
use crate::bastion::host::scripted::{Listener, ScriptedHost};
use crate::bastion::host::{self, Authority, Files as _, HostExt as _, Output};
use crate::bastion::ui::Ui;

const HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
/// What ssh says of a server that takes it for a stranger without a key.
const UP_TO_THE_LOGIN: &str = "debug1: Remote protocol version 2.0, remote software version lab\n\
                               debug1: Authentications that can continue: publickey\n";
const OWN: &str = "/home/ada/.holistics";
const KEY: &str = "/home/ada/.holistics/id_ed25519";
/// How the names of tunnels' units begin.
const TUNNEL: &str = "h_autossh@";

/// The vendor's side and what runs on the host.
#[derive(Default)]
struct World {
    is_saved: Cell<bool>,
    is_removed: Cell<bool>,
    registered: RefCell<Option<String>>,
    announced: RefCell<Option<String>>,
    target: RefCell<(String, u16)>,
    /// The key with which the temporary tunnel runs.
    master: RefCell<Option<String>>,
    /// The key with which the service runs the tunnel.
    service: RefCell<Option<String>>,
    /// The units that do so, and those that do at boot.
    units: RefCell<BTreeSet<String>>,
    at_boot: RefCell<BTreeSet<String>>,
    /// The unit whose ssh the tunnel server does not let in.
    shut_out: RefCell<Option<String>>,
    /// How often the service's tunnel was started.
    starts: Cell<i64>,
    calls: Cell<usize>,
    /// The call that gets no answer.
    lost_call: Cell<usize>,
}

/// Where a fault is put.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// A command or a change of a file fails.
    Failure(usize),
    /// Ctrl-C.
    Interrupt(usize),
    /// A call to the control plane gets no answer.
    LostCall(usize),
    /// kill -9.
    Death(usize),
}

struct Bastion {
    host: ScriptedHost,
    world: Rc<World>,
}

impl Bastion {
    fn new() -> Self {
        let host = ScriptedHost::new();
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
            host.create_dir(Path::new(dir), 0o755, Authority::Root)
                .unwrap();
        }
        let release = b"ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n";
        host.write(
            Path::new("/etc/os-release"),
            release,
            0o644,
            Authority::Root,
        )
        .unwrap();
        for program in [
            "ssh",
            "ssh-keygen",
            "curl",
            "autossh",
            "apt-get",
            "systemctl",
            "ps",
        ] {
            host.install(program);
        }
        host.name("tunnel.example.com", "10.0.0.2");
        let greeting = Listener::Says(b"SSH-2.0-lab\r\n".to_vec());
        host.listen("10.0.0.2:50022", greeting);
        let world = Rc::new(World::default());
        *world.target.borrow_mut() = ("db.internal".to_owned(), 5432);
        let bastion = Bastion { host, world };
        bastion.answer_commands();
        let world = Rc::clone(&bastion.world);
        bastion.host.serve(move |_, request| world.answer(request));
        bastion
    }

    /// A host from which a proxy alone leads out, with a login.
    fn behind_a_proxy() -> Self {
        const PROXY: &str = "10.0.0.9:3128";
        let bastion = Bastion::new();
        let host = &bastion.host;
        host.listen("10.0.0.2:50022", Listener::HangsUp(Vec::new()));
        let through = b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-lab\r\n";
        host.listen(PROXY, Listener::Says(through.to_vec()));
        host.set_env("all_proxy", &format!("http://ada:hunter2@{PROXY}"));
        host.set_env("no_proxy", "bi.example.com");
        host.install("ncat");
        host.on("SHELL=/bin/sh ssh -v", |host, _| {
            let has = |begins: &str| {
                let begins = format!("600 {OWN}/{begins}");
                host.paths().iter().any(|path| path.contains(&begins))
            };
            match has("ssh_config-") && has("proxy-") {
                true => said("", UP_TO_THE_LOGIN),
                false => failed(),
            }
        });
        bastion
    }

    fn answer_commands(&self) {
        let on = |begins: &str, act: fn(&World, &ScriptedHost, &host::Command) -> Output| {
            let world = Rc::clone(&self.world);
            self.host
                .on(begins, move |host, command| act(&world, host, command));
        };
        on("ssh -V", |_, _, _| said("", "OpenSSH_9.2p1, OpenSSL 3"));
        on("ssh -Q cipher", |_, _, _| {
            said("aes128-ctr\naes128-gcm@openssh.com\n", "")
        });
        on("ssh -Q key", |_, _, _| said("ssh-ed25519\n", ""));
        on("ssh -G", |_, _, _| said("user tunnel\n", ""));
        on("ssh -v", |_, _, _| said("", UP_TO_THE_LOGIN));
        on("ssh-keygen -q", |_, host, command| {
            let path = PathBuf::from(command.args.last().unwrap());
            if path.starts_with("/dev/null") {
                return said("", "Saving key failed");
            }
            let content = format!("key {}", path.file_name().unwrap().display());
            let line = format!("{}\n", public(&content));
            let files = [
                (path.clone(), content, 0o600),
                (path.with_extension("pub"), line, 0o644),
            ];
            for (file, content, mode) in files {
                if host
                    .write(&file, content.as_bytes(), mode, Authority::User)
                    .is_err()
                {
                    return failed();
                }
            }
            Output::default()
        });
        on("ssh-keygen -y", |_, host, command| {
            match host.read_if_present(Path::new(command.args.last().unwrap())) {
                Ok(Some(key)) => said(&public(&String::from_utf8(key).unwrap()), ""),
                _ => failed(),
            }
        });
        let start_master = |world: &World, host: &ScriptedHost, command: &host::Command| {
            let socket = command.args.iter().position(|word| word == "-S").unwrap();
            let socket = Path::new(&command.args[socket + 1]);
            let _ = host.write(socket, b"", 0o600, Authority::User);
            *world.master.borrow_mut() = key_in_place(host);
            Output::default()
        };
        on("ssh -f", start_master);
        on("SHELL=/bin/sh ssh -f", start_master);
        on("ssh -F none -S", |world, host, command| {
            let is_alive = world.master.borrow().is_some();
            if command.args.iter().any(|word| word == "exit") {
                world.master.take();
                let _ = host.remove_file(Path::new(&command.args[3]), Authority::User);
            }
            if is_alive {
                Output::default()
            } else {
                failed()
            }
        });
        on("sudo systemctl", |world, host, command| {
            let [action, unit, ..] = &command.args[..] else {
                return Output::default();
            };
            if !unit.starts_with(TUNNEL) {
                return Output::default();
            }
            let (mut units, mut at_boot) = (world.units.borrow_mut(), world.at_boot.borrow_mut());
            match action.as_str() {
                "restart" | "start" => {
                    *world.service.borrow_mut() = key_in_place(host);
                    world.starts.set(world.starts.get() + 1);
                    units.insert(unit.clone());
                }
                "stop" => {
                    units.remove(unit);
                    if units.is_empty() {
                        world.service.take();
                    }
                }
                "enable" => drop(at_boot.insert(unit.clone())),
                "disable" => drop(at_boot.remove(unit)),
                _ => {}
            }
            Output::default()
        });
        on("systemctl show", |_, _, _| said("ExecMainStatus=0\n", ""));
        on("systemctl is-active", |world, _, command| {
            match world.units.borrow().contains(&command.args[1]) {
                true => said("active\n", ""),
                false => said("inactive\n", ""),
            }
        });
        on("ps -A", |world, _, _| {
            let runs = world.service.borrow().is_some() || world.master.borrow().is_some();
            let line =
                format!("  9 ssh -i {KEY} -R 127.0.0.1:20001:db tunnel@tunnel.example.com\n");
            said(if runs { &line } else { "" }, "")
        });
    }

    fn run(&self, words: &[&str], fault: Fault) -> Result<Exit, String> {
        let (host, world) = (&self.host, &self.world);
        let (effects, calls) = (host.effects(), world.calls.get());
        host.fail_at(0);
        host.interrupt_at(0);
        host.die_at(0);
        world.lost_call.set(0);
        match fault {
            Fault::None => {}
            Fault::Failure(n) => host.fail_at(effects + n),
            Fault::Interrupt(n) => host.interrupt_at(effects + n),
            Fault::LostCall(n) => world.lost_call.set(calls + n),
            Fault::Death(n) => host.die_at(effects + n),
        }
        let words = std::iter::once("holistics-tunnel").chain(words.iter().copied());
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        let ui = Ui::new(false, true, true);
        let result = match Cli::from_arg_matches(&matches).unwrap().command {
            Command::Setup(command) => setup::run(host, &ui, &command),
            Command::UpdateTunnel(command) => update_tunnel::run(host, &ui, &command),
            Command::RotateKey(command) => rotate_key::run(host, &ui, &command),
            Command::UninstallTunnel(command) => uninstall::run(host, &ui, &command),
            other => panic!("{other:?}"),
        };
        result.map_err(|error| format!("{error:#}"))
    }

    /// As a removal leaves it that is killed right before its last act, without a receipt that knows of it.
    fn is_empty_but_for_its_folder(&self) -> bool {
        let own = format!("{OWN}/");
        let paths = self.host.paths();
        let mut own = paths.iter().filter(|path| path.contains(&own));
        self.world.is_removed.get() && own.all(|path| path.ends_with(".holistics/"))
    }

    /// Everything that lasts: files, what runs with which key, and what the vendor has.
    fn end(&self) -> String {
        let mut lines = Vec::new();
        for path in self.host.paths() {
            let (_, name) = path.split_once(' ').unwrap();
            if name.starts_with(&format!("{OWN}/logs/")) {
                continue;
            }
            let content = match self.host.read(Path::new(name)) {
                Ok(content) if name.ends_with("receipt.json") => in_order(&content),
                Ok(content) => String::from_utf8(content).unwrap(),
                Err(_) => String::new(),
            };
            lines.push(format!("{path}\n{content}"));
        }
        let world = &self.world;
        lines.push(format!(
            "service {:?} by {:?}, at boot {:?}, temporary {:?}, registered {:?}, target {:?}, removed {}",
            world.service,
            world.units,
            world.at_boot,
            world.master,
            world.registered,
            world.target,
            world.is_removed.get()
        ));
        lines.join("\n")
    }
}

impl World {
    fn answer(&self, request: &Request) -> Result<Response, HttpError> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == self.lost_call.get() {
            return Err(HttpError::NoAnswer(anyhow::anyhow!("the line was cut")));
        }
        let body: Value = request
            .json
            .as_deref()
            .map_or(Value::Null, |json| serde_json::from_slice(json).unwrap());
        let path = request.url.path().trim_start_matches("/api/v1");
        let key = || body["public_key"].as_str().map(plain);
        let (status, answer) = match (request.method.clone(), path) {
            (Method::GET, "/enrollment") => (200, self.enrollment()),
            (Method::PUT, "/enrollment/public-key") => {
                self.registered
                    .borrow_mut()
                    .get_or_insert_with(|| key().unwrap());
                (200, enrolled())
            }
            _ if self.is_removed.get() => (404, problem("not-found", 404)),
            (Method::POST, "/enrollment/tunnel-up") if self.session().is_some() => {
                (200, json!({"status": "up", "state": "connected"}))
            }
            (Method::POST, "/enrollment/tunnel-up") => (409, problem("tunnel-down", 409)),
            (Method::GET, "/enrollment/data-source") => {
                self.is_saved.set(true);
                (200, json!({"status": "saved"}))
            }
            (Method::GET, "/tunnels/7") => (200, self.tunnel()),
            (Method::PATCH, "/tunnels/7") => {
                if let Some(target) = body.get("target") {
                    let host = target["host"].as_str().unwrap().to_owned();
                    let port = u16::try_from(target["port"].as_u64().unwrap()).unwrap();
                    *self.target.borrow_mut() = (host, port);
                }
                (200, self.tunnel())
            }
            (Method::DELETE, "/tunnels/7") => {
                self.is_removed.set(true);
                (200, Value::Null)
            }
            (Method::PUT, "/tunnels/7/public-key") => {
                *self.announced.borrow_mut() =
                    key().filter(|key| Some(key) != self.registered.borrow().as_ref());
                (200, json!({"public_key": key(), "former_accepted": true}))
            }
            (Method::POST, "/tunnels/7/public-key/confirm") => {
                *self.registered.borrow_mut() = key();
                self.announced.take();
                (200, json!({"public_key": key(), "former_accepted": false}))
            }
            (method, path) => panic!("nobody answers {method} {path}"),
        };
        let body = serde_json::to_vec(&answer).unwrap();
        Ok(Response {
            status,
            date: None,
            body,
        })
    }

    /// The key of the session that the tunnel server sees.
    fn session(&self) -> Option<String> {
        let is_shut_out = |unit| self.shut_out.borrow().as_ref() == Some(unit);
        if self.units.borrow().iter().any(is_shut_out) {
            return None;
        }
        let running = self
            .service
            .borrow()
            .clone()
            .or(self.master.borrow().clone())?;
        let is_accepted = [&self.registered, &self.announced]
            .iter()
            .any(|known| known.borrow().as_ref() == Some(&running));
        is_accepted.then_some(running)
    }

    fn enrollment(&self) -> Value {
        let (host, port) = self.target.borrow().clone();
        let state = if self.is_saved.get() {
            "saved"
        } else {
            "draft"
        };
        json!({
            "data_source_id": 3, "tunnel_id": 7, "display_name": "Shop", "database_type": "postgresql",
            "host": host, "port": port, "state": state, "server": server(),
        })
    }

    fn tunnel(&self) -> Value {
        let (host, port) = self.target.borrow().clone();
        let session = self.session();
        let since = jiff::Timestamp::from_second(self.starts.get()).unwrap();
        json!({
            "id": 7, "display_name": "Shop", "host": host, "port": port, "remote_port": 20001,
            "status": if session.is_some() { "up" } else { "down" }, "state": "active",
            "session": session.map(|key| json!({"since": since, "public_key": key})),
        })
    }
}

/// A receipt with the steps that have changed something, by name: when and in which order they came to their
/// end does not matter.
fn in_order(receipt: &[u8]) -> String {
    let mut receipt: Value = serde_json::from_slice(receipt).unwrap();
    let by_name = |steps: &mut Value| {
        let steps = steps.as_array_mut().unwrap();
        for step in steps.iter_mut() {
            step.as_object_mut().unwrap().remove("at");
        }
        steps.retain(|step| step["changes"] != json!([]));
        steps.sort_by_key(|step| step["step"].to_string());
    };
    by_name(&mut receipt["steps"]);
    for tunnel in receipt["tunnels"].as_object_mut().unwrap().values_mut() {
        by_name(&mut tunnel["steps"]);
    }
    format!("{receipt:#}")
}

fn enrolled() -> Value {
    json!({
        "tunnel_id": 7, "remote_port": 20001, "tunnel_token": "htt_0123456789abcdef",
        "server": server(),
    })
}

fn server() -> Value {
    json!({
        "host": "tunnel.example.com", "port": 50022, "user": "tunnel",
        "host_keys": [HOST_KEY],
    })
}

fn problem(slug: &str, status: u16) -> Value {
    json!({"type": format!("/problems/{slug}"), "title": slug, "status": status, "detail": slug})
}

fn said(stdout: &str, stderr: &str) -> Output {
    Output {
        status: 0,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    }
}

fn failed() -> Output {
    Output {
        status: 255,
        ..Output::default()
    }
}

fn public(private: &str) -> String {
    format!("ssh-ed25519 {} ada@bastion", private.replace(' ', "-"))
}

fn plain(public: &str) -> String {
    public.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The key that ssh would use now, as the tunnel server knows it.
fn key_in_place(host: &ScriptedHost) -> Option<String> {
    let key = host.read(Path::new(KEY)).ok()?;
    Some(plain(&public(&String::from_utf8(key).unwrap())))
}

const SETUP: &[&str] = &[
    "setup",
    "--server",
    "https://bi.example.com",
    "--token",
    "hte_0123456789abcdef",
    "--key-type",
    "ed25519",
    "--yes",
];
const UPDATE: &[&str] = &["update-tunnel", "7", "--port", "6432", "--yes"];
const ROTATE: &[&str] = &["rotate-key", "--yes"];
const REMOVE: &[&str] = &["uninstall-tunnel", "7", "--yes"];

/// A host on which these commands have run.
fn after(commands: &[&[&str]]) -> Bastion {
    having_run(Bastion::new(), commands)
}

fn having_run(bastion: Bastion, commands: &[&[&str]]) -> Bastion {
    for command in commands {
        assert_eq!(
            bastion.run(command, Fault::None),
            Ok(Exit::Done),
            "{command:?}"
        );
    }
    bastion
}

/// Puts every fault into the last of these commands, and runs it again.
fn walk(commands: &[&[&str]]) {
    let (last, before) = commands.split_last().unwrap();
    walk_from(&|| after(before), last, &|_, _| {});
}

/// Puts every fault into a command on such a host, looks at what that leaves, and runs the command again.
fn walk_from(host: &dyn Fn() -> Bastion, last: &[&str], look: &dyn Fn(&Bastion, Fault)) {
    let undisturbed = host();
    let (effects, calls) = (undisturbed.host.effects(), undisturbed.world.calls.get());
    assert_eq!(undisturbed.run(last, Fault::None), Ok(Exit::Done));
    let end = undisturbed.end();
    let effects = undisturbed.host.effects() - effects;
    let calls = undisturbed.world.calls.get() - calls;
    assert!(effects > 5 && calls > 0, "{effects} effects, {calls} calls");
    let faults = (1..=effects)
        .flat_map(|n| [Fault::Failure(n), Fault::Interrupt(n), Fault::Death(n)])
        .chain((1..=calls).map(Fault::LostCall));
    for fault in faults {
        let bastion = host();
        let first = bastion.run(last, fault);
        look(&bastion, fault);
        if bastion.is_empty_but_for_its_folder() {
            continue;
        }
        // What a failed run could not undo may need one more.
        for _ in 0..2 {
            if bastion.end() != end {
                let again = bastion.run(last, Fault::None);
                assert!(
                    again.is_ok(),
                    "{last:?}, {fault:?}, after {first:?}: {again:?}"
                );
            }
        }
        let this_end = bastion.end();
        let differing: Vec<_> = this_end
            .lines()
            .zip(end.lines())
            .filter(|(this, that)| this != that)
            .take(3)
            .collect();
        assert!(
            this_end == end,
            "{last:?}, {fault:?}, after {first:?}: {differing:#?}"
        );
    }
}

#[test]
fn a_setup_comes_to_the_same_end_after_any_fault() {
    walk(&[SETUP]);
}

#[test]
fn a_setup_and_a_removal_behind_a_proxy_come_to_the_same_end_after_any_fault() {
    walk_from(&Bastion::behind_a_proxy, SETUP, &|_, _| {});
    let set_up = || having_run(Bastion::behind_a_proxy(), &[SETUP]);
    let end = set_up().end();
    // The password is in one file alone.
    assert_eq!(end.matches("hunter2").count(), 1, "{end}");
    walk_from(&set_up, REMOVE, &|_, _| {});
}

#[test]
fn a_new_target_comes_to_the_same_end_after_any_fault() {
    walk(&[SETUP, UPDATE]);
}

#[test]
fn a_new_key_comes_to_the_same_end_after_any_fault() {
    walk(&[SETUP, ROTATE]);
}

#[test]
fn a_removal_comes_to_the_same_end_after_any_fault() {
    walk(&[SETUP, REMOVE]);
}
