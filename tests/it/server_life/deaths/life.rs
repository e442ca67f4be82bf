//! All that an operator and bastions do with a server, step by step.

use std::collections::{BTreeMap, BTreeSet};

use holistics_tunnel::protocol::API_BASE;
use reqwest::Method;
use serde_json::json;

use super::super::regions::echo;
use super::kept::{assert_whole, kept, names_below};
use super::vendor::{Mortality, Vendor, new_source, text};
use crate::support::workspace::Workspace;

const PASSWORD: &str = "correct horse battery";

/// The keys that bastions have, in both lives.
pub const KEYS: [&str; 6] = ["first", "second", "third", "hand", "new-hand", "leaving"];

/// What came of it.
pub struct Life {
    /// What is kept in the end.
    pub end: BTreeMap<&'static str, Vec<String>>,
    pub moments: BTreeSet<String>,
    pub deaths: u32,
    pub is_on_postgres: bool,
}

impl Life {
    pub fn lead(keys: &Workspace, mortality: Mortality) -> Self {
        let mut vendor = Vendor::new(keys, mortality);
        vendor.step("it is started for the first time");
        vendor.deaths += vendor.server.live_again() - 1;
        vendor.step("an operator has a token");
        vendor.token = vendor.new_token("operator");
        vendor.server.let_in(&vendor.token);
        vendor.signs_in();
        vendor.creates();
        vendor.sets_a_tunnel_up();
        vendor.changes_its_key();
        vendor.sets_one_up_by_hand();
        vendor.removes();
        vendor.uses_commands();
        if vendor.server.is_on_postgres() {
            vendor.is_one_of_several();
        } else {
            vendor.is_restored();
        }
        vendor.step("names that an older version wrote are folded");
        let database = vendor.server.database();
        database.execute("UPDATE data_sources SET folded_name = NULL");
        vendor.restart(&[]);
        let database = vendor.server.database();
        assert_whole(&database);
        let mut end = kept(&database);
        end.insert("files", names_below(&vendor.server.data_dir()));
        Life {
            end,
            deaths: vendor.deaths,
            moments: vendor.moments(),
            is_on_postgres: vendor.server.is_on_postgres(),
        }
    }
}

impl Vendor<'_> {
    fn signs_in(&mut self) {
        self.step("an operator signs in by a link");
        loop {
            // One that was used up by a request without an answer lets nobody in: there is another then.
            let link = self
                .command(&["login-link", "--name", "ann"])
                .expect_code(0);
            let path = link.stdout.trim();
            let path = path
                .strip_prefix(&self.server.url)
                .expect("a link to it")
                .to_owned();
            let page = self.send_form(&path, &path, &[]);
            if page.is_some_and(|page| page.to.as_deref() == Some("/account")) {
                break;
            }
        }
        self.step("sets a password");
        let fields = [
            ("present", PASSWORD),
            ("password", PASSWORD),
            ("again", PASSWORD),
        ];
        self.insist_on_form("/account", "/account", &fields);
        self.step("signs out");
        self.insist_on_form("/account", "/sign-out", &[]);
        self.step("signs in by password");
        self.insist_on_form(
            "/sign-in",
            "/sign-in",
            &[("name", "ann"), ("password", PASSWORD), ("next", "")],
        );
        self.step("comes again after an hour");
        let database = self.server.database();
        database.execute("UPDATE browser_sessions SET seen_at = seen_at - 3600000");
        self.page("/data-sources");
    }

    fn creates(&mut self) {
        self.step("its load balancer asks whether it is ready");
        self.insist(&[200], |vendor| {
            vendor.http.get(format!("{}/readyz", vendor.server.url))
        });
        self.step(
            "a data source is made by somebody who looks whether it is there before asking again",
        );
        let new = new_source("Plain");
        while !self
            .insist(&[200], |vendor| vendor.call(Method::GET, "/data-sources"))
            .to_string()
            .contains("Plain")
        {
            self.ask(|vendor| vendor.call(Method::POST, "/data-sources").json(&new));
        }
        self.step("another one is made under a name");
        let new = new_source("Named");
        self.insist(&[200, 201], |vendor| {
            let request = vendor.call(Method::POST, "/data-sources");
            request.header("Idempotency-Key", "order-7").json(&new)
        });
        self.step("a third one gets a new command");
        let id = self.create("Shop")["id"].clone();
        let page = format!("/data-sources/{id}");
        self.insist_on_form(&page, &format!("{page}/command"), &[]);
        self.step("it is changed");
        self.insist(&[200], |vendor| {
            let request = vendor.call(Method::PATCH, &format!("/data-sources/{id}"));
            request.json(&json!({ "display_name": "Shop 2" }))
        });
    }

    fn sets_a_tunnel_up(&mut self) {
        let source = self.create("Sales");
        self.step("a bastion enrolls");
        let target = echo();
        let told = self.enroll(&source, "first");
        self.connect("first", &told, target);
        self.step("its tunnel is up");
        self.insist_until(200, 409, |vendor| {
            let url = format!("{}{API_BASE}/enrollment/tunnel-up", vendor.server.url);
            vendor
                .http
                .post(url)
                .bearer_auth(text(&told["tunnel_token"]))
        });
        let place = format!("/data-sources/{}", source["id"]);
        let login = json!({ "database": "shop", "username": "reader", "password": "x" });
        self.step("it is saved");
        self.insist_until(200, 409, |vendor| {
            vendor
                .call(Method::POST, &format!("{place}/save"))
                .json(&login)
        });
        self.step("the connection is tested");
        self.insist_until(200, 409, |vendor| {
            vendor
                .call(Method::POST, &format!("{place}/test"))
                .json(&login)
        });
        self.step("the service is installed");
        self.insist(&[200], |vendor| {
            vendor.of_tunnel(Method::PATCH, &told, "").json(&json!({
                "service_installed": true,
                "applied": { "host": "db", "port": 5432 },
                "host_keys": told["server"]["host_keys"],
            }))
        });
        self.step("the login is forgotten");
        self.insist(&[200, 204], |vendor| {
            vendor.call(Method::DELETE, &format!("{place}/login"))
        });
    }

    fn changes_its_key(&mut self) {
        let told = self.bastions[0].told.clone();
        let target = self.bastions[0].target;
        for (name, is_confirmed) in [("second", true), ("third", false)] {
            self.step(&format!("its {name} key is announced"));
            let public_key = self.public_key(name);
            let body = json!({ "public_key": public_key });
            self.insist(&[200], |vendor| {
                vendor
                    .of_tunnel(Method::PUT, &told, "/public-key")
                    .json(&body)
            });
            self.bastions.clear();
            self.connect(name, &told, target);
            if is_confirmed {
                self.step("and confirmed");
                self.insist_until(200, 409, |vendor| {
                    vendor
                        .of_tunnel(Method::POST, &told, "/public-key/confirm")
                        .json(&body)
                });
            } else {
                self.step("and takes the place of the one before once that is over");
                self.restart(&["--key-overlap", "1s"]);
                self.wait_for_none("SELECT count(*) FROM tunnels WHERE next_key_id IS NOT NULL");
                self.restart(&[]);
            }
        }
    }

    fn sets_one_up_by_hand(&mut self) {
        let source = self.create("By hand");
        let place = format!("/data-sources/{}", source["id"]);
        for name in ["hand", "new-hand", "new-hand"] {
            self.step(&format!("the key {name} is registered by hand"));
            let body = json!({ "public_key": self.public_key(name) });
            self.insist(&[200, 201], |vendor| {
                vendor
                    .call(Method::PUT, &format!("{place}/public-key"))
                    .json(&body)
            });
        }
        self.step("where it leads is confirmed");
        self.insist(&[200], |vendor| {
            vendor.call(Method::POST, &format!("{place}/target-applied"))
        });
    }

    fn removes(&mut self) {
        let source = self.create("Leaving");
        let told = self.enroll(&source, "leaving");
        let place = format!("/data-sources/{}", source["id"]);
        self.step("its removal is asked for");
        self.insist(&[200], |vendor| vendor.call(Method::DELETE, &place));
        self.step("its bastion removes it");
        // What was removed by a request that got no answer is not there any more.
        self.insist(&[200, 204, 401, 404], |vendor| {
            vendor.of_tunnel(Method::DELETE, &told, "")
        });
        let source = self.create("Gone");
        let place = format!("/data-sources/{}?force=true", source["id"]);
        self.step("one is removed at once");
        self.insist(&[200, 204, 404], |vendor| {
            vendor.call(Method::DELETE, &place)
        });
    }

    fn uses_commands(&mut self) {
        self.step("an API token is made and revoked");
        self.new_token("ci");
        self.finish(&["token", "revoke", "ci"], "no API token named");
        self.step("an operator is disabled, enabled and removed");
        self.command(&["login-link", "--name", "bob"])
            .expect_code(0);
        for action in ["disable", "enable"] {
            self.finish(&["operator", action, "bob"], "");
        }
        self.finish(&["operator", "remove", "bob"], "no operator");
        self.step("the host key is changed");
        self.finish(
            &["host-key", "promote", "--force"],
            "there is no next host key",
        );
        self.finish(&["host-key", "drop"], "no former host key is kept");
        self.finish(&["host-key", "next"], "there is a next host key already");
    }

    fn is_one_of_several(&mut self) {
        self.step("a region is added, changed and removed");
        for name in ["eu", "us"] {
            self.finish(
                &["region", "add", name, "--ssh-host", "there.example"],
                "is there already",
            );
        }
        self.finish(&["region", "change", "eu", "--ssh-host", "eu.example"], "");
        self.finish(&["region", "remove", "us"], "is not known");
        self.step("a node drains");
        self.restart(&["--node-name", "one"]);
        self.finish(&["node", "drain", "one"], "");
        self.finish(&["node", "drain", "one", "--undo"], "");
        self.step("another one is lost and forgotten");
        let lost = self.server.start_beside(&["--node-name", "lost"]);
        drop(lost);
        self.finish(&["node", "forget", "lost"], "there is no node");
    }

    fn is_restored(&mut self) {
        self.step("a backup is brought back");
        let file = self.folder.path().join("backup.tar");
        let file = file.to_str().expect("a path").to_owned();
        // What is there is whole.
        self.finish(&["backup", &file], "already exists");
        self.stop();
        self.command(&["restore", &file, "--replace"])
            .expect_code(0);
        self.deaths += self.server.live_again() - 1;
        self.tend();
    }
}
