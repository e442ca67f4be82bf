//! A server that may die at any moment, and what others have of it: they ask until there is an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use holistics_tunnel::protocol::API_BASE;
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::{LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use super::super::regions::connect;
use crate::support::process::{self, Finished, Running};
use crate::support::server::{DEATHS, KILLED, Server};
use crate::support::wait;
use crate::support::workspace::Workspace;

pub const LIMIT: Duration = Duration::from_secs(60);

/// More often nothing has to be asked.
pub const MOST: usize = 100;

/// When a server is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mortality {
    None,
    AtEachMoment,
    InEachStep,
}

/// A vendor whose server may be killed at any moment, and what others have of it.
pub struct Vendor<'k> {
    keys: &'k Workspace,
    // The order of the fields is the order of the end.
    pub bastions: Vec<Bastion>,
    pub server: Server,
    mortality: Mortality,
    pub folder: Workspace,
    pub http: Client,
    pub token: String,
    cookies: BTreeMap<String, String>,
    pub deaths: u32,
    /// Those of former steps.
    former: BTreeSet<String>,
}

/// ssh to the server, which comes again.
pub struct Bastion {
    key: &'static str,
    pub told: Value,
    pub target: u16,
    ssh: Running,
}

/// A page as it arrived.
pub struct Page {
    pub status: u16,
    pub to: Option<String>,
    pub body: String,
}

impl<'k> Vendor<'k> {
    pub fn new(keys: &'k Workspace, mortality: Mortality) -> Self {
        let folder = Workspace::new();
        let deaths = folder.path().join("deaths");
        let mut server = Server::still_to_be_started();
        if mortality != Mortality::None {
            server.be_mortal(&deaths);
        }
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .timeout(LIMIT)
            // A connection to one that has died is no use to anybody.
            .pool_max_idle_per_host(0);
        Vendor {
            keys,
            bastions: Vec::new(),
            server,
            mortality,
            folder,
            http: http.build().expect("a client"),
            token: String::new(),
            cookies: BTreeMap::new(),
            deaths: 0,
            former: BTreeSet::new(),
        }
    }

    fn deaths_file(&self) -> PathBuf {
        self.folder.path().join("deaths")
    }

    /// The moments at which it has died.
    pub fn moments(&self) -> BTreeSet<String> {
        let now = fs::read_to_string(self.deaths_file()).unwrap_or_default();
        let now = now.lines().map(str::to_owned);
        now.chain(self.former.iter().cloned()).collect()
    }

    /// What is done next.
    pub fn step(&mut self, what: &str) {
        println!("{what}");
        if self.mortality == Mortality::InEachStep {
            self.former = self.moments();
            let _ = fs::remove_file(self.deaths_file());
        }
    }

    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{API_BASE}{path}", self.server.url);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    pub fn of_tunnel(&self, method: Method, told: &Value, rest: &str) -> RequestBuilder {
        let url = format!(
            "{}{API_BASE}/tunnels/{}{rest}",
            self.server.url, told["tunnel_id"]
        );
        self.http
            .request(method, url)
            .bearer_auth(text(&told["tunnel_token"]))
    }

    /// Asks until there is an answer, which must be one of these.
    #[track_caller]
    pub fn insist(&mut self, statuses: &[u16], request: impl Fn(&Self) -> RequestBuilder) -> Value {
        for _ in 0..MOST {
            if let Some((status, text)) = self.ask(&request) {
                assert!(
                    statuses.contains(&status),
                    "{status}: {text}\n{}",
                    self.server.log()
                );
                return serde_json::from_str(&text).unwrap_or_default();
            }
        }
        panic!("no answer comes");
    }

    /// Asks until the answer is this one, and meanwhile that one.
    #[track_caller]
    pub fn insist_until(
        &mut self,
        good: u16,
        meanwhile: u16,
        request: impl Fn(&Self) -> RequestBuilder,
    ) {
        let mut last = String::new();
        for _ in 0..MOST {
            if let Some((status, text)) = self.ask(&request) {
                if status == good {
                    return;
                }
                assert_eq!(status, meanwhile, "{text}");
                last = text;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        panic!("{last}\n{}", self.server.log());
    }

    /// Asks once. There is no answer if the server dies.
    pub fn ask(&mut self, request: impl Fn(&Self) -> RequestBuilder) -> Option<(u16, String)> {
        self.tend();
        // An answer that was cut off is none.
        let answered = request(self)
            .send()
            .and_then(|answer| Ok((answer.status().as_u16(), answer.text()?)));
        answered.map_err(|_| self.revive()).ok()
    }

    /// Starts the server again, which has died.
    fn revive(&mut self) {
        // Its connections may end a moment before it does.
        let evidence = || self.server.log();
        wait::until_true("its end", LIMIT, evidence, || !self.server.is_alive());
        self.deaths += self.server.live_again();
        self.tend();
    }

    /// Whoever was cut off connects again.
    pub fn tend(&mut self) {
        if !self.server.is_alive() {
            return;
        }
        for bastion in &mut self.bastions {
            if !bastion.ssh.is_running() {
                bastion.ssh = connect(self.keys, bastion.key, &bastion.told, bastion.target);
            }
        }
    }

    pub fn connect(&mut self, key: &'static str, told: &Value, target: u16) {
        self.bastions.push(Bastion {
            key,
            told: told.clone(),
            target,
            ssh: connect(self.keys, key, told, target),
        });
    }

    /// Waits until there is nothing of this kind.
    pub fn wait_for_none(&mut self, query: &str) {
        for _ in 0..MOST {
            if !self.server.is_alive() {
                self.revive();
            }
            self.tend();
            if self.server.database().number(query) == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("{query}\n{}", self.server.log());
    }

    /// Stops the server, until it has ended by itself.
    pub fn stop(&mut self) {
        for _ in 0..MOST {
            if !self.server.is_alive() {
                self.revive();
            }
            let ended = self.server.stop();
            if ended.code != KILLED {
                ended.expect_code(0);
                return;
            }
            self.deaths += self.server.live_again();
            self.tend();
        }
        panic!("it never ends");
    }

    pub fn restart(&mut self, arguments: &[&str]) {
        self.stop();
        self.server.be_told(arguments);
        self.deaths += self.server.live_again() - 1;
        self.tend();
    }

    /// Gives a command until it is not killed.
    #[track_caller]
    pub fn command(&mut self, arguments: &[&str]) -> Finished {
        self.give(arguments).0
    }

    /// The same, for one that may say that it was carried out already, if it was killed.
    #[track_caller]
    pub fn finish(&mut self, arguments: &[&str], carried_out: &str) {
        let (finished, was_killed) = self.give(arguments);
        if finished.code != 0 && was_killed && !carried_out.is_empty() {
            finished.expect_words(&[carried_out]);
        } else {
            finished.expect_code(0);
        }
    }

    /// Gives a command until it is not killed. Returns whether it was.
    #[track_caller]
    fn give(&mut self, arguments: &[&str]) -> (Finished, bool) {
        for number in 0..MOST {
            let mut command = self.server.command(arguments[0]);
            command.args(&arguments[1..]);
            if self.mortality != Mortality::None {
                command.env(DEATHS, self.deaths_file());
            }
            let finished = process::run(&mut command, self.folder.path(), "command");
            if finished.code != KILLED {
                return (finished, number > 0);
            }
            self.deaths += 1;
        }
        panic!("{arguments:?} does not get any further");
    }

    /// Makes an API token. One that nobody has read is revoked.
    pub fn new_token(&mut self, name: &str) -> String {
        let (made, was_killed) = self.give(&["token", "create", name]);
        if was_killed && made.code != 0 {
            made.expect_words(&["there is an API token named"]);
            self.finish(&["token", "revoke", name], "no API token named");
            return self.new_token(name);
        }
        made.expect_code(0).stdout.trim().to_owned()
    }

    /// A new data source, which is made once.
    pub fn create(&mut self, name: &str) -> Value {
        self.step(&format!("{name} is made"));
        let new = new_source(name);
        self.insist(&[200, 201], |vendor| {
            let request = vendor.call(Method::POST, "/data-sources");
            request
                .header("Idempotency-Key", format!("\"{}\"", name.replace(' ', "-")))
                .json(&new)
        })
    }

    pub fn enroll(&mut self, source: &Value, key: &str) -> Value {
        self.step("its bastion enrolls");
        let registration = json!({
            "public_key": self.public_key(key), "hostname": "bastion", "os": "Debian 12", "user": "ann",
        });
        let token = text(&source["enrollment"]["token"]).to_owned();
        let enroll = |vendor: &Self| {
            let url = format!("{}{API_BASE}/enrollment/public-key", vendor.server.url);
            vendor.http.put(url).bearer_auth(&token).json(&registration)
        };
        let told = self.insist(&[200, 201], enroll);
        assert_eq!(self.insist(&[200, 201], enroll), told, "another answer");
        told
    }

    pub fn public_key(&self, name: &str) -> String {
        let file = self.keys.path().join(format!("{name}.pub"));
        fs::read_to_string(file).expect("a key")
    }

    // -----------------------------------------------------------------------------------------
    // Pages
    // -----------------------------------------------------------------------------------------

    pub fn page(&mut self, path: &str) -> String {
        for _ in 0..MOST {
            if let Some(page) = self.browse(Method::GET, path, &[]) {
                return page.body;
            }
        }
        panic!("{path} does not come");
    }

    /// Fills in a form on a page. There is no answer if the server dies.
    pub fn send_form(&mut self, page: &str, action: &str, fields: &[(&str, &str)]) -> Option<Page> {
        let body = self.page(page);
        let token = body
            .split_once("name=\"csrf\" value=\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        let Some((token, _)) = token else {
            panic!("no form on {page}:\n{body}");
        };
        let fields = [&[("csrf", token)][..], fields].concat();
        self.browse(Method::POST, action, &fields)
    }

    pub fn insist_on_form(&mut self, page: &str, action: &str, fields: &[(&str, &str)]) {
        for _ in 0..MOST {
            // Whoever was signed out is led to the page for signing in, which has another form.
            if page != "/sign-in"
                && self
                    .browse(Method::GET, page, &[])
                    .is_some_and(|page| page.status == 303)
            {
                assert_eq!(action, "/sign-out");
                return;
            }
            if let Some(answer) = self.send_form(page, action, fields) {
                assert!(
                    [200, 303].contains(&answer.status),
                    "{}: {}",
                    answer.status,
                    answer.body
                );
                return;
            }
        }
        panic!("{action} is never answered");
    }

    fn browse(&mut self, method: Method, path: &str, fields: &[(&str, &str)]) -> Option<Page> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let form = form.finish();
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let url = format!("{}{path}", self.server.url);
        let request = self
            .http
            .request(method, url)
            .header("cookie", cookies.join("; "))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let Ok(answer) = request.send() else {
            self.revive();
            return None;
        };
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str().expect("a cookie");
            let (name, rest) = cookie.split_once('=').expect("a cookie's name");
            let value = rest.split(';').next().expect("a cookie's value");
            if cookie.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let to = answer.headers().get(LOCATION);
        let to = to.map(|to| to.to_str().expect("a location").to_owned());
        let status = answer.status().as_u16();
        let Ok(body) = answer.text() else {
            self.revive();
            return None;
        };
        Some(Page { status, to, body })
    }
}

pub fn new_source(name: &str) -> Value {
    json!({ "display_name": name, "database_type": "postgresql", "host": "db", "port": 5432 })
}

pub fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
