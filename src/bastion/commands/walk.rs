//! The life of a tunnel on a host in memory, with one fault at each of its steps: setup, another target, a
//! new key, the removal. After any single failure, Ctrl-C or kill, the same command again ends where an
//! undisturbed run ends; and so it does where that was killed, too.

mod former;
mod moved;
mod packages;
mod world;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value, json};

use super::in_memory::{parse, put_debian, said};
use super::{rotate_key, setup, uninstall, update_tunnel};
use crate::bastion::cli::Command;
use crate::bastion::failure::Exit;
use crate::bastion::host::scripted::{Listener, ScriptedHost};
use crate::bastion::host::{self, Authority, Files as _, HostExt as _, Output};
use crate::bastion::ui::Ui;
use world::{World, plain, public};

/// What ssh says of a server that takes it for a stranger without a key.
const UP_TO_THE_LOGIN: &str = "debug1: Remote protocol version 2.0, remote software version lab\n\
                               debug1: Authentications that can continue: publickey\n";
/// And of a host whose key it knows.
const LOGGED_IN: &str = "debug1: Remote protocol version 2.0, remote software version lab\n\
                         Authenticated to tunnel.example.com ([10.0.0.2]:50022) using \"publickey\".\n";
const OWN: &str = "/home/ada/.holistics";
const KEY: &str = "/home/ada/.holistics/id_ed25519";
/// How the names of tunnels' units begin.
const TUNNEL: &str = "h_autossh@";

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
    /// A call to the control plane is done, and neither it nor any later one gets an answer.
    LostAnswers(usize),
    /// Ctrl-C while a call is done.
    InterruptedCall(usize),
    /// kill -9.
    Death(usize),
    /// The same, between the two halves of what writes a file.
    TornWrite(usize),
}

impl Fault {
    fn is_death(self) -> bool {
        matches!(self, Fault::Death(_) | Fault::TornWrite(_))
    }
}

struct Bastion {
    host: ScriptedHost,
    world: Rc<World>,
}

impl Bastion {
    fn new() -> Self {
        let host = ScriptedHost::new();
        put_debian(&host);
        for program in [
            "ssh",
            "ssh-keygen",
            "curl",
            "autossh",
            "apt-get",
            "systemctl",
            "systemd-run",
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
            if has("ssh_config-") && has("proxy-") {
                said("", UP_TO_THE_LOGIN)
            } else {
                failed()
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
        on("ssh -v", |world, host, command| {
            let key = command.args.iter().position(|word| word == "-i");
            let key = key.map(|place| Path::new(&command.args[place + 1]));
            let key = key.and_then(|key| host.read(key).ok());
            let key = key.map(|key| plain(&public(&String::from_utf8(key).unwrap())));
            let offers_it = !command
                .args
                .iter()
                .any(|word| word == "PubkeyAuthentication=no");
            let is_known = [&world.registered, &world.announced]
                .iter()
                .any(|known| *known.borrow() == key);
            if offers_it && key.is_some() && is_known {
                said("", LOGGED_IN)
            } else {
                said("", UP_TO_THE_LOGIN)
            }
        });
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
            let Some(unit) = command.args.iter().find(|unit| unit.starts_with(TUNNEL)) else {
                return Output::default();
            };
            let action = &command.args[0];
            let (mut units, mut at_boot) = (world.units.borrow_mut(), world.at_boot.borrow_mut());
            match action.as_str() {
                "restart" | "start" => {
                    *world.service.borrow_mut() = key_in_place(host);
                    world.service_port.set(port_in_file(host, unit));
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
        on("systemctl --version", |_, _, _| {
            said("systemd 252 (x)\n", "")
        });
        on("sudo systemd-run", |_, _, _| Output::default());
        on("systemctl show", |_, _, _| said("ExecMainStatus=0\n", ""));
        on("systemctl is-active", |world, _, command| {
            if world.units.borrow().contains(&command.args[1]) {
                said("active\n", "")
            } else {
                said("inactive\n", "")
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
        world.last_call.set(0);
        world.interrupted_call.set(0);
        match fault {
            Fault::None => {}
            Fault::Failure(n) => host.fail_at(effects + n),
            Fault::Interrupt(n) => host.interrupt_at(effects + n),
            Fault::LostCall(n) => world.lost_call.set(calls + n),
            Fault::LostAnswers(n) => world.last_call.set(calls + n),
            Fault::InterruptedCall(n) => world.interrupted_call.set(calls + n),
            Fault::Death(n) => host.die_at(effects + n),
            Fault::TornWrite(n) => host.die_torn_at(effects + n),
        }
        let ui = Ui::new(false, true, true);
        let result = match parse(words) {
            Command::Setup(command) => setup::run(host, &ui, &command),
            Command::UpdateTunnel(command) => update_tunnel::run(host, &ui, &command),
            Command::RotateKey(command) => rotate_key::run(host, &ui, &command),
            Command::UninstallTunnel(command) => uninstall::run(host, &ui, &command),
            other => panic!("{other:?}"),
        };
        result.map_err(|error| format!("{error:#}"))
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
            "service {:?} by {:?}, at boot {:?}, temporary {:?}, registered {:?}, target {:?}, removed {}, \
             moved {}",
            world.service,
            world.units,
            world.at_boot,
            world.master,
            world.registered,
            world.target,
            world.is_removed.get(),
            world.has_moved.get()
        ));
        lines.join("\n")
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

fn failed() -> Output {
    Output {
        status: 255,
        ..Output::default()
    }
}

/// The key that ssh would use now, as the tunnel server knows it.
fn key_in_place(host: &ScriptedHost) -> Option<String> {
    let key = host.read(Path::new(KEY)).ok()?;
    Some(plain(&public(&String::from_utf8(key).unwrap())))
}

/// The port of the tunnel server in a tunnel's file; 0 where there is none.
fn port_in_file(host: &ScriptedHost, unit: &str) -> u16 {
    let name = unit.trim_start_matches(TUNNEL).trim_end_matches(".service");
    let file = host.read(Path::new(&format!("/etc/h_autossh/{name}.env")));
    let file = String::from_utf8(file.unwrap_or_default()).unwrap();
    let mut ports = file
        .lines()
        .filter_map(|line| line.strip_prefix("H_AUTOSSH_REMOTE_PORT="));
    ports.next().map_or(0, |port| port.parse().unwrap())
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

/// A command that nothing disturbs.
struct Undisturbed {
    end: String,
    effects: usize,
    calls: usize,
}

impl Undisturbed {
    fn of(host: &dyn Fn() -> Bastion, command: &[&str]) -> Self {
        let bastion = host();
        let (effects, calls) = (bastion.host.effects(), bastion.world.calls.get());
        assert_eq!(bastion.run(command, Fault::None), Ok(Exit::Done));
        let effects = bastion.host.effects() - effects;
        let calls = bastion.world.calls.get() - calls;
        assert!(effects > 5 && calls > 0, "{effects} effects, {calls} calls");
        println!("{command:?}: {effects} effects, {calls} calls");
        let end = bastion.end();
        Undisturbed {
            end,
            effects,
            calls,
        }
    }

    /// The command again, at most so often, comes to the same end.
    fn is_reached_by(&self, bastion: &Bastion, command: &[&str], times: usize, after: &str) {
        for _ in 0..times {
            if bastion.end() != self.end {
                let again = bastion.run(command, Fault::None);
                assert!(again.is_ok(), "{command:?}, {after}: {again:?}");
            }
        }
        let end = bastion.end();
        let differing: Vec<_> = end
            .lines()
            .zip(self.end.lines())
            .filter(|(this, that)| this != that)
            .take(3)
            .collect();
        assert!(end == self.end, "{command:?}, {after}: {differing:#?}");
    }
}

/// Kills a command on such a host twice, each time anywhere, before it is let go on to its end.
fn killed_twice(host: &dyn Fn() -> Bastion, command: &[&str]) {
    // Not each pair of places: with each first one come some second ones, near and far.
    const SHARES: [usize; 3] = [1, 13, 31];
    let undisturbed = Undisturbed::of(host, command);
    for first in 1..=undisturbed.effects {
        for share in SHARES {
            let second = 1 + (first * share) % undisturbed.effects;
            let bastion = host();
            let deaths = [first, second].map(|n| bastion.run(command, Fault::Death(n)));
            let after = format!("killed at {first} and {second}: {deaths:?}");
            undisturbed.is_reached_by(&bastion, command, 1, &after);
        }
    }
}

/// Puts every fault into a command on such a host, looks at what that leaves, and runs the command again.
fn walk_from(host: &dyn Fn() -> Bastion, last: &[&str], look: &dyn Fn(&Bastion, Fault)) {
    let undisturbed = Undisturbed::of(host, last);
    let calls = undisturbed.calls;
    let faults = (1..=undisturbed.effects)
        .flat_map(|n| {
            [
                Fault::Failure(n),
                Fault::Interrupt(n),
                Fault::Death(n),
                Fault::TornWrite(n),
            ]
        })
        .chain((1..=calls).map(Fault::LostCall))
        .chain((1..=calls).map(Fault::LostAnswers))
        .chain((1..=calls).map(Fault::InterruptedCall));
    for fault in faults {
        let bastion = host();
        let first = bastion.run(last, fault);
        look(&bastion, fault);
        // What a failed run could not undo may need one more.
        let times = if fault.is_death() { 1 } else { 2 };
        undisturbed.is_reached_by(
            &bastion,
            last,
            times,
            &format!("{fault:?}, after {first:?}"),
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

#[test]
fn a_removal_that_keeps_the_key_and_one_without_the_vendor_come_to_the_same_end_after_any_fault() {
    walk(&[SETUP, &["uninstall-tunnel", "7", "--yes", "--keep-keys"]]);
    walk(&[SETUP, UPDATE, &["uninstall-tunnel", "--all", "--yes"]]);
}

#[test]
fn a_command_that_is_killed_twice_comes_to_the_same_end() {
    killed_twice(&Bastion::new, SETUP);
    killed_twice(&|| after(&[SETUP]), UPDATE);
    killed_twice(&|| after(&[SETUP]), ROTATE);
    killed_twice(&|| after(&[SETUP]), REMOVE);
}

/// What systemd-run says of a unit that ended so.
fn ended(status: i32) -> Output {
    Output {
        status,
        stderr: format!(
            "Running as unit: x.service\nFinished with result: exit-code\nMain processes terminated with: \
             code=exited/status={status}\n"
        ),
        ..Output::default()
    }
}

#[test]
fn a_tunnel_that_could_not_be_started_here_is_told_before_the_vendor_has_a_key() {
    let bastion = Bastion::new();
    let before = bastion.end();
    bastion.host.on("sudo systemd-run", |_, _| ended(203));
    let error = bastion.run(SETUP, Fault::None).unwrap_err();
    assert!(error.contains("exit status 203"), "{error}");
    assert_eq!(bastion.end(), before);
}

#[test]
fn a_host_that_can_start_it_only_without_mounts_has_it_so_from_the_first_start_on() {
    let bastion = Bastion::new();
    bastion.host.on("sudo systemd-run", |_, command| {
        let has_mounts = command
            .args
            .iter()
            .any(|word| word == "ProtectSystem=strict");
        if has_mounts {
            ended(226)
        } else {
            Output::default()
        }
    });
    assert_eq!(bastion.run(SETUP, Fault::None), Ok(Exit::Done));
    assert!(bastion.end().contains("ProtectSystem=no"));
    assert_eq!(bastion.world.starts.get(), 1);
}

#[test]
fn a_rehearsal_that_cannot_be_held_keeps_nobody_from_a_tunnel() {
    let bastion = Bastion::new();
    bastion.host.on("sudo systemd-run", |_, _| Output {
        status: 1,
        stderr: "Failed to start transient service unit: busy\n".to_owned(),
        ..Output::default()
    });
    assert_eq!(bastion.run(SETUP, Fault::None), Ok(Exit::Done));
    assert!(!bastion.end().contains("ProtectSystem=no"));
}

#[test]
fn a_tunnel_without_a_service_goes_from_a_host_without_root() {
    let bastion = Bastion::new();
    let setup: Vec<&str> = SETUP.iter().copied().chain(["--init", "none"]).collect();
    assert_eq!(bastion.run(&setup, Fault::None), Ok(Exit::Done));
    bastion.host.refuse_root();
    assert_eq!(bastion.run(REMOVE, Fault::None), Ok(Exit::Done));
    assert!(!bastion.host.exists(Path::new(OWN)));
}
