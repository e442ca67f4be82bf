//! The host, its two vendors, and what its service runs.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use reqwest::Method;
use serde_json::json;

use crate::bastion::cli::{Command, Which};
use crate::bastion::commands::in_memory::{answer, make_dir, parse, problem, put_debian, said};
use crate::bastion::commands::{others, tunnels, uninstall};
use crate::bastion::doctor::{self, Check, Target, Watcher};
use crate::bastion::failure::Exit;
use crate::bastion::host::http::{HttpError, Request, Response};
use crate::bastion::host::scripted::ScriptedHost;
use crate::bastion::host::{Authority, Output};
use crate::bastion::receipt::{EnrolledRecord, Receipt, TunnelRecord};
use crate::bastion::service::{self, ServiceTunnel};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::Ui;
use crate::protocol::{DataSourceId, TunnelId, TunnelServerAddress};

pub(super) const ADAS: &str = "bi.example.com-7";
pub(super) const BOBS: &str = "other.example-7";

/// The vendors' side, and what the service runs.
#[derive(Default)]
pub(super) struct World {
    pub running: RefCell<BTreeSet<String>>,
    /// Processes that do not end with their service.
    pub stubborn: RefCell<BTreeSet<String>>,
    /// The tunnels that the vendors have, as `HOST TOKEN`.
    pub known: RefCell<BTreeSet<String>>,
    /// Whoever was asked something.
    pub asked: RefCell<Vec<String>>,
}

pub(super) struct Bastion {
    pub host: ScriptedHost,
    pub world: Rc<World>,
}

impl Bastion {
    /// As root finds it.
    pub fn new() -> Self {
        let host = ScriptedHost::as_root();
        put_debian(&host);
        host.install("systemctl");
        host.install("ps");
        let bastion = Bastion {
            host,
            world: Rc::default(),
        };
        bastion.answer();
        bastion
    }

    pub fn of_two() -> Self {
        let bastion = Self::new();
        bastion.set_up("ada", ADAS, "https://bi.example.com");
        bastion.set_up("bob", BOBS, "https://other.example");
        bastion
    }

    /// What a setup of this user's leaves.
    pub fn set_up(&self, user: &str, slug: &str, vendor: &str) {
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

    pub fn write_receipt(&self, user: &str, name: TunnelName, vendor: &str) {
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
                    other_host: None,
                    host: "tunnel.example.com".to_owned(),
                    port: 50022,
                    user: "tunnel".to_owned(),
                    host_keys: Vec::new(),
                },
                former_servers: Vec::new(),
                tunnel_token: format!("htt_of_{user}"),
            }),
            steps: Vec::new(),
        };
        receipt.tunnels.insert(name, record);
        let path = format!("/home/{user}/.holistics/receipt.json");
        receipt.save(&self.host, Path::new(&path)).unwrap();
    }

    /// The user's account and home are gone.
    pub fn delete_home(&self, user: &str) {
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
            let is_active = running.iter().any(|slug| is_it(&slug));
            said(if is_active { "active\n" } else { "inactive\n" }, "")
        });
        on("systemctl is-enabled", |_, _| said("enabled\n", ""));
        on("id -u -- bob", |_, _| said("1001\n", ""));
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
            said(
                &running.union(&stubborn).map(process).collect::<String>(),
                "",
            )
        });
        on("LC_ALL=C df", |_, _| {
            said("Filesystem\n/dev/sda1 100 50 9000000 50% /\n", "")
        });
        let world = Rc::clone(&self.world);
        self.host.serve(move |_, request| world.http(request));
    }

    pub fn run(&self, words: &[&str]) -> anyhow::Result<Exit> {
        let ui = Ui::new(false, true, true);
        match parse(words) {
            Command::UninstallTunnel(command) => uninstall::run(&self.host, &ui, &command),
            other => panic!("{other:?}"),
        }
    }

    /// The tunnels that root sees.
    pub fn seen(&self) -> Vec<String> {
        let tunnels = others::tunnels(&self.host, None).unwrap();
        tunnels.iter().map(|tunnel| tunnel.name.slug()).collect()
    }

    pub fn doctor(&self, id: Option<TunnelId>) -> Vec<Check> {
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
            return Ok(answer(404, &problem("not-found", 404)));
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
