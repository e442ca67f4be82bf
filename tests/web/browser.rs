//! The same journey in Chromium, as a person goes through it, with a look at every page.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thirtyfour::ChromiumLikeCapabilities;
use thirtyfour::common::capabilities::chrome::ChromeCapabilities;
use thirtyfour::prelude::*;
use tokio::runtime::Runtime;

use crate::runs_the_command;
use crate::support::bastion::SETUP_LIMIT;
use crate::support::lab::{Lab, SERVICE_LIMIT};
use crate::support::postgres::Postgres;
use crate::support::process::Running;
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;
use crate::visitor::login_link;

const SOON: Duration = Duration::from_secs(20);

/// Name, width and height of the screens on which every page is looked at.
const SCREENS: [(&str, u32, u32); 2] = [("phone", 390, 844), ("desktop", 1280, 900)];

/// Chromium on an empty profile. Dropped, it ends with its driver.
struct Browser {
    runtime: Runtime,
    driver: Option<WebDriver>,
    screenshots: PathBuf,
    _chromedriver: Running,
    _workspace: Workspace,
}

impl Browser {
    fn start() -> Self {
        let workspace = Workspace::new();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", workspace.path());
        let chromedriver = Running::start(&mut command, workspace.path(), "chromedriver");
        let started = "started successfully on port ";
        chromedriver.wait_for_output(started, SOON);
        let output = chromedriver.output();
        let port = output.split(started).nth(1).expect("a port");
        let port = port.trim_start().split('.').next().expect("a port");
        let profile = workspace.folder("profile");
        let runtime = Runtime::new().expect("a runtime");
        let url = format!("http://127.0.0.1:{port}");
        let driver = runtime
            .block_on(WebDriver::new(url, capabilities(&profile)))
            .expect("Chromium starts");
        let screenshots = screenshots_folder();
        std::fs::create_dir_all(&screenshots).expect("a folder for screenshots");
        Browser {
            runtime,
            driver: Some(driver),
            screenshots,
            _chromedriver: chromedriver,
            _workspace: workspace,
        }
    }

    fn driver(&self) -> &WebDriver {
        self.driver.as_ref().expect("it runs")
    }

    #[track_caller]
    fn go(&self, url: &str) {
        self.runtime
            .block_on(self.driver().goto(url))
            .expect("the page comes");
    }

    #[track_caller]
    fn find(&self, css: &str) -> WebElement {
        let found = self.runtime.block_on(self.driver().find(By::Css(css)));
        found.unwrap_or_else(|error| panic!("{css}: {error}\n{}", self.text()))
    }

    #[track_caller]
    fn click(&self, css: &str) {
        let element = self.find(css);
        self.runtime
            .block_on(element.click())
            .unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    #[track_caller]
    fn fill(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.runtime.block_on(element.clear()).expect("an input");
        self.runtime
            .block_on(element.send_keys(text))
            .expect("an input");
    }

    #[track_caller]
    fn run(&self, script: &str) -> Value {
        let result = self
            .runtime
            .block_on(self.driver().execute(script, Vec::new()));
        result.expect("the script runs").json().clone()
    }

    /// What the page shows.
    fn text(&self) -> String {
        self.run("return document.querySelector('main').innerText")
            .as_str()
            .unwrap_or("")
            .to_owned()
    }

    #[track_caller]
    fn wait_for(&self, text: &str, limit: Duration) {
        let what = format!("the page to show {text:?}");
        wait::until_true(&what, limit, || self.text(), || self.text().contains(text));
    }

    #[track_caller]
    fn wait_until_gone(&self, text: &str, limit: Duration) {
        let what = format!("the page to show {text:?} no longer");
        wait::until_true(&what, limit, || self.text(), || !self.text().contains(text));
    }

    /// Takes the page's picture on every screen, and looks for what can be told without eyes.
    #[track_caller]
    fn look(&self, name: &str) {
        let unlabelled = self.run(
            "return [...document.querySelectorAll('input:not([type=hidden]), select')]
                 .filter(input => !input.labels.length).map(input => input.outerHTML)",
        );
        assert_eq!(unlabelled, json!([]), "{name}: fields without a label");
        for (screen, width, height) in SCREENS {
            self.tell("Emulation.setDeviceMetricsOverride", json!({
                "width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone",
            }));
            let overflow = self.run("return document.documentElement.scrollWidth - innerWidth");
            assert!(
                overflow.as_i64() <= Some(0),
                "{name} is wider than a {screen} by {overflow}"
            );
            self.shoot(&format!("{name}-{screen}"));
        }
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.tell("Emulation.setEmulatedMedia", dark);
        self.shoot(&format!("{name}-desktop-dark"));
        self.tell("Emulation.setEmulatedMedia", json!({ "features": [] }));
        self.tell("Emulation.clearDeviceMetricsOverride", json!({}));
    }

    fn shoot(&self, name: &str) {
        let picture = self.tell(
            "Page.captureScreenshot",
            json!({ "format": "png", "captureBeyondViewport": true }),
        );
        let picture = STANDARD.decode(picture["data"].as_str().expect("a picture"));
        let path = self.screenshots.join(format!("{name}.png"));
        std::fs::write(path, picture.expect("base64")).expect("a file");
    }

    #[track_caller]
    fn tell(&self, command: &str, arguments: Value) -> Value {
        let tools = self.driver().cdp();
        let result = self.runtime.block_on(tools.send_raw(command, arguments));
        result.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // It may have ended already, with the test's failure.
            let _ = self.runtime.block_on(driver.quit());
        }
    }
}

fn capabilities(profile: &Path) -> ChromeCapabilities {
    let mut capabilities = DesiredCapabilities::chrome();
    let profile = format!("--user-data-dir={}", profile.display());
    for argument in [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-proxy-server",
        &profile,
    ] {
        capabilities.add_arg(argument).expect("an argument");
    }
    capabilities
}

fn screenshots_folder() -> PathBuf {
    // The programs under test lie in `debug` or `release` of the target folder.
    let program = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    let target = program.parent().and_then(Path::parent);
    target.expect("a target folder").join("screenshots")
}

#[test]
fn the_whole_journey_in_a_browser() {
    let lab = Lab::new();
    let browser = Browser::start();
    signs_in(&browser, &lab);
    creates_a_data_source(&browser, &lab);
    let setup = sees_the_tunnel_come_up(&browser, &lab);
    tests_and_saves(&browser, &lab);
    setup.wait(SETUP_LIMIT).expect_code(0);
    browser.wait_for("connected now", SERVICE_LIMIT);
    browser.wait_until_gone("Saved, service being set up", SERVICE_LIMIT);
    browser.look("08-up");
    browser.go(&format!("{}/data-sources", lab.server.url));
    browser.look("09-list");
    browser.click("a.row");
    sees_it_go_down_and_up(&browser, &lab);
    edits_the_port(&browser, &lab);
    deletes_it(&browser, &lab);
    looks_at_the_rest(&browser, &lab);
}

fn signs_in(browser: &Browser, lab: &Lab) {
    browser.go(&lab.server.url);
    browser.wait_for("Sign in", SOON);
    browser.look("01-sign-in");
    browser.go(&format!("{}/login/none", lab.server.url));
    browser.look("01-link-that-is-over");
    browser.go(&login_link(&lab.server));
    browser.look("02-link");
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    browser.look("02-account");
    browser.fill("#password", "correct horse battery");
    browser.fill("#again", "correct horse battery");
    browser.click("main button");
    browser.wait_for("The password is set", SOON);
    browser.click("nav a");
    browser.wait_for("No data source yet", SOON);
    browser.look("03-no-data-source");
}

fn creates_a_data_source(browser: &Browser, lab: &Lab) {
    browser.click("main a.button");
    let usual = || browser.run("return document.getElementById('port').placeholder");
    browser.run(
        "const type = document.getElementById('database_type'); type.value = 'mariadb';
                 type.dispatchEvent(new Event('change'))",
    );
    assert_eq!(usual(), "3306");
    browser.run(
        "const type = document.getElementById('database_type'); type.value = 'postgresql';
                 type.dispatchEvent(new Event('change'))",
    );
    assert_eq!(usual(), "5432");
    browser.look("04-new");
    browser.fill("#display_name", "Sales, Europe");
    browser.fill("#host", "-oProxyCommand=id");
    browser.fill("#port", &lab.postgres.port().to_string());
    browser.click("main form button");
    browser.wait_for("Host must be", SOON);
    browser.look("04-new-refused");
    browser.fill("#host", "127.0.0.1");
    browser.click("main form button");
    browser.wait_for("Waiting for the bastion", SOON);
    browser.look("05-command");
    browser.click("[data-copy=setup-command]");
    let button = "return document.querySelector('[data-copy=setup-command]').textContent";
    wait::until_true("the copy button to answer", SOON, String::new, || {
        browser.run(button) != "Copy"
    });
}

/// Runs the command that the page shows, and never reloads the page.
fn sees_the_tunnel_come_up(browser: &Browser, lab: &Lab) -> Running {
    browser.run("window.neverReloaded = true");
    let command = browser.run("return document.getElementById('setup-command').textContent");
    let setup = runs_the_command(lab, command.as_str().expect("a command"));
    browser.wait_for("Tunnel up, not saved", SETUP_LIMIT);
    assert_eq!(browser.run("return window.neverReloaded"), true);
    browser.look("06-tunnel-up");
    setup
}

fn tests_and_saves(browser: &Browser, lab: &Lab) {
    let login = lab.postgres.login();
    browser.fill("#database", &login.database);
    browser.fill("#username", &login.username);
    browser.fill("#password", "not the password");
    browser.click("button[data-busy]");
    browser.wait_for("The connection does not work", SOON);
    browser.wait_for("Check user name and password", SOON);
    browser.look("07-test-failed");
    let typed = browser.run("return document.getElementById('password').value");
    assert_eq!(
        typed, "not the password",
        "what was typed is kept in the browser"
    );
    browser.fill("#password", &login.password);
    browser.click("button[data-busy]");
    browser.wait_for("The connection works", SOON);
    browser.look("07-test-passed");
    browser.click("button[data-whole]");
    browser.wait_for("Saved", SOON);
}

fn sees_it_go_down_and_up(browser: &Browser, lab: &Lab) {
    browser.wait_for("connected now", SOON);
    browser.run("window.neverReloaded = true");
    lab.bastion.service("stop").expect_code(0);
    browser.wait_for("The tunnel is down", SERVICE_LIMIT);
    browser.look("10-down");
    lab.bastion.service("start").expect_code(0);
    browser.wait_until_gone("The tunnel is down", SERVICE_LIMIT);
    assert_eq!(browser.run("return window.neverReloaded"), true);
}

fn edits_the_port(browser: &Browser, lab: &Lab) {
    let other = Postgres::start();
    browser.click("main a[href$='/edit']");
    browser.look("11-edit");
    browser.fill("#port", &other.port().to_string());
    browser.click("main form button");
    browser.wait_for("One command to run", SOON);
    browser.look("12-update-command");
    let command = browser.run("return document.getElementById('update-command').textContent");
    let words = command.as_str().expect("a command").split(' ').skip(1);
    lab.bastion
        .run(lab.bastion.program(words).arg("--yes"))
        .expect_code(0);
    browser.wait_until_gone("One command to run", SERVICE_LIMIT);
}

fn deletes_it(browser: &Browser, lab: &Lab) {
    browser.click("main a[href$='/delete']");
    browser.look("13-delete");
    browser.click("button[value=command]");
    browser.wait_for("Being removed", SOON);
    browser.look("14-removing");
    let command = browser.run("return document.getElementById('removal-command').textContent");
    let mut shell = lab.bastion.any_program("sh");
    let command = command.as_str().expect("a command");
    lab.bastion.run(shell.args(["-c", command])).expect_code(0);
    browser.wait_for("Its key is refused", SOON);
    browser.look("15-removed");
}

fn looks_at_the_rest(browser: &Browser, lab: &Lab) {
    let url = &lab.server.url;
    browser.go(&format!("{url}/api-tokens"));
    browser.fill("#name", "nightly-sync");
    browser.click("main form button");
    browser.wait_for("it is not shown again", SOON);
    browser.look("16-api-tokens");
    browser.go(&format!("{url}/audit"));
    browser.wait_for("API token made", SOON);
    browser.look("17-audit");
    browser.go(&format!("{url}/data-sources/4711"));
    browser.look("18-not-found");
}

#[test]
fn the_apis_description_is_read_on_every_screen() {
    let server = Server::start();
    let browser = Browser::start();
    browser.go(&login_link(&server));
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    browser.go(&format!("{}/api-tokens", server.url));
    browser.click("main a[href$='/api/docs']");
    browser.wait_for("Creates a data source", SOON);
    browser.look("19-api");
    browser.click("#create_data_source summary");
    browser.wait_for("Sales, Europe", SOON);
    browser.click("#delete_data_source summary");
    browser.look("19-api-open");
    let dangling = browser.run(
        "return [...document.querySelectorAll('main a[href^=\"#\"]')]
             .map(link => link.getAttribute('href').slice(1)).filter(id => !document.getElementById(id))",
    );
    assert_eq!(dangling, json!([]), "links to nothing");
    let twice = browser.run(
        "const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
         return ids.filter((id, at) => ids.indexOf(id) !== at)",
    );
    assert_eq!(twice, json!([]), "names that are not unique");
}
