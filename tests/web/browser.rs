//! Chromium, and a look at its pages: their pictures, and what can be told without eyes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use thirtyfour::ChromiumLikeCapabilities;
use thirtyfour::common::capabilities::chrome::ChromeCapabilities;
use thirtyfour::error::WebDriverError;
use thirtyfour::prelude::*;
use tokio::runtime::Runtime;

use crate::support::process::Running;
use crate::support::wait;
use crate::support::workspace::Workspace;

/// How long a page may take to show what it has been told, and a script of ours to look at it.
pub const SOON: Duration = Duration::from_secs(60);

/// Name, width and height of the screens on which every page is looked at.
const SCREENS: [(&str, u32, u32); 2] = [("phone", 360, 780), ("desktop", 1280, 900)];

/// Lists the texts whose contrast is too low.
const CONTRAST: &str = include_str!("contrast.js");

/// Has axe-core look at the page.
const AXE: &str = include_str!("axe.js");

/// Chromium on an empty profile. Dropped, it ends with its driver.
pub struct Browser {
    runtime: Runtime,
    driver: Option<WebDriver>,
    screenshots: PathBuf,
    /// The library axe-core.
    axe: String,
    _chromedriver: Running,
    _workspace: Workspace,
}

impl Browser {
    /// Starts it. Its pictures go to a folder of this name.
    pub fn start(name: &str) -> Self {
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
        runtime
            .block_on(driver.set_script_timeout(SOON))
            .expect("a limit for scripts");
        let screenshots = target_folder().join("screenshots").join(name);
        std::fs::create_dir_all(&screenshots).expect("a folder for screenshots");
        Browser {
            runtime,
            driver: Some(driver),
            screenshots,
            axe: axe(),
            _chromedriver: chromedriver,
            _workspace: workspace,
        }
    }

    fn driver(&self) -> &WebDriver {
        self.driver.as_ref().expect("it runs")
    }

    #[track_caller]
    pub fn go(&self, url: &str) {
        self.runtime
            .block_on(self.driver().goto(url))
            .expect("the page comes");
    }

    /// Opens a page in a tab of its own, and looks at that.
    #[track_caller]
    pub fn open_tab(&self, url: &str) -> WindowHandle {
        let opened = self.runtime.block_on(async {
            let tab = self.driver().new_tab().await?;
            self.driver().switch_to_window(tab.clone()).await?;
            self.driver().goto(url).await?;
            Ok::<_, WebDriverError>(tab)
        });
        opened.expect("the page comes in its tab")
    }

    /// Looks at another tab.
    #[track_caller]
    pub fn look_at(&self, tab: &WindowHandle) {
        let looked = self.driver().switch_to_window(tab.clone());
        self.runtime.block_on(looked).expect("the tab is there");
    }

    #[track_caller]
    pub fn find(&self, css: &str) -> WebElement {
        let found = self.runtime.block_on(self.driver().find(By::Css(css)));
        found.unwrap_or_else(|error| panic!("{css}: {error}\n{}", self.text()))
    }

    #[track_caller]
    pub fn click(&self, css: &str) {
        let element = self.find(css);
        self.runtime
            .block_on(element.click())
            .unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    #[track_caller]
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.runtime.block_on(element.clear()).expect("an input");
        self.runtime
            .block_on(element.send_keys(text))
            .expect("an input");
    }

    /// Has the screen of a phone from now on, or until the next look.
    pub fn be_a_phone(&self) {
        let (screen, width, height) = SCREENS[0];
        self.be(screen, width, height);
    }

    fn be(&self, screen: &str, width: u32, height: u32) {
        self.tell("Emulation.setDeviceMetricsOverride", json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone",
        }));
    }

    /// Goes by the Tab key from where the keyboard is to an element, past the page's end to its begin.
    #[track_caller]
    pub fn tab_to(&self, css: &str) {
        const LONGEST_WAY: usize = 200;
        let is_there = format!("return document.activeElement.matches({})", json!(css));
        for _ in 0..LONGEST_WAY {
            if self.run(&is_there) == true {
                return;
            }
            self.press(Key::Tab);
        }
        panic!("the keyboard does not come to {css}:\n{}", self.text());
    }

    /// Goes to a link or button and presses Enter.
    #[track_caller]
    pub fn enter(&self, css: &str) {
        self.tab_to(css);
        self.press(Key::Enter);
    }

    /// Goes to a field and types.
    #[track_caller]
    pub fn type_into(&self, css: &str, text: &str) {
        self.tab_to(css);
        self.press(text);
    }

    /// Presses keys, wherever the keyboard leads.
    #[track_caller]
    pub fn press(&self, keys: impl Into<TypingData>) {
        let pressed = async {
            let keyboard = self.driver().action_chain();
            keyboard.send_keys(keys).perform().await
        };
        self.runtime.block_on(pressed).expect("keys");
    }

    /// Waits until an element's text is this.
    #[track_caller]
    pub fn wait_until(&self, css: &str, text: &str) {
        let own = format!("return document.querySelector({}).textContent", json!(css));
        let what = format!("{css} to be {text:?}");
        wait::until_true(&what, SOON, || self.text(), || self.run(&own) == text);
    }

    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        let result = self
            .runtime
            .block_on(self.driver().execute(script, Vec::new()));
        result.expect("the script runs").json().clone()
    }

    /// What the page shows.
    pub fn text(&self) -> String {
        self.run("return document.querySelector('main').innerText")
            .as_str()
            .unwrap_or("")
            .to_owned()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str, limit: Duration) {
        let what = format!("the page to show {text:?}");
        wait::until_true(&what, limit, || self.text(), || self.text().contains(text));
    }

    #[track_caller]
    pub fn wait_until_gone(&self, text: &str, limit: Duration) {
        let what = format!("the page to show {text:?} no longer");
        wait::until_true(&what, limit, || self.text(), || !self.text().contains(text));
    }

    /// Reloads the page in another time zone.
    pub fn travel_to(&self, zone: &str) {
        self.tell(
            "Emulation.setTimezoneOverride",
            json!({ "timezoneId": zone }),
        );
        let reload = self.driver().refresh();
        self.runtime.block_on(reload).expect("the page comes again");
    }

    /// Takes the page's picture on every screen, and looks for what can be told without eyes.
    #[track_caller]
    pub fn look(&self, name: &str) {
        let unlabelled = self.run(
            "return [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
                 .filter(input => !input.labels.length).map(input => input.outerHTML)",
        );
        assert_eq!(unlabelled, json!([]), "{name}: fields without a label");
        let headings = self.run("return document.querySelectorAll('h1').length");
        assert_eq!(headings, 1, "{name}: one heading of the first level");
        let doubled = self.run(
            "const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
             return ids.filter((id, index) => ids.indexOf(id) !== index)",
        );
        assert_eq!(doubled, json!([]), "{name}: two elements of one id");
        self.check_contrast(name);
        for (screen, width, height) in SCREENS {
            self.be(screen, width, height);
            self.check_accessibility(&format!("{name} on a {screen}"));
            let overflow = self.run("return document.documentElement.scrollWidth - innerWidth");
            assert!(
                overflow.as_i64() <= Some(0),
                "{name} is wider than a {screen} by {overflow}"
            );
            self.shoot(&format!("{name}-{screen}"));
        }
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.tell("Emulation.setEmulatedMedia", dark);
        self.check_contrast(&format!("{name}, dark"));
        for (screen, width, height) in SCREENS {
            self.be(screen, width, height);
            self.shoot(&format!("{name}-{screen}-dark"));
        }
        self.tell("Emulation.setEmulatedMedia", json!({ "features": [] }));
        self.tell("Emulation.clearDeviceMetricsOverride", json!({}));
    }

    /// Every text against what is behind it, as WCAG 2.1 has it for level AA (1.4.3).
    #[track_caller]
    fn check_contrast(&self, name: &str) {
        let faint = self.run(CONTRAST);
        assert_eq!(faint, json!([]), "{name}: texts that are hard to read");
    }

    /// What axe-core has to say: the rules of WCAG 2.2 up to level AA, and good practice.
    #[track_caller]
    pub fn inaccessible(&self) -> Value {
        if self.run("return typeof axe") == "undefined" {
            self.run(&self.axe);
        }
        self.run(AXE)
    }

    #[track_caller]
    fn check_accessibility(&self, name: &str) {
        let found = self.inaccessible();
        assert_eq!(found, json!([]), "{name}: what axe-core has found");
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

/// `scripts/axe` has put it there.
fn axe() -> String {
    let file = target_folder().join("axe/axe.min.js");
    std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/axe", file.display()))
}

fn target_folder() -> PathBuf {
    // The programs under test lie in `debug` or `release` of the target folder.
    let program = Path::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    let target = program.parent().and_then(Path::parent);
    target.expect("a target folder").to_owned()
}
