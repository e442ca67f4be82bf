//! A tunnel that is set up by hand, in Chromium on a phone's screen, by the keyboard alone, with plain ssh.

use thirtyfour::Key;

use crate::browser::{Browser, SOON};
use crate::machine::Machine;
use crate::support::postgres::Postgres;
use crate::support::process::Running;
use crate::support::server::Server;
use crate::visitor::login_link;

#[test]
fn a_tunnel_is_set_up_by_hand_with_plain_ssh_by_keyboard_on_a_phone() {
    let server = Server::start();
    let (first, second) = (Postgres::start(), Postgres::start());
    let machine = Machine::new();
    let browser = Browser::start("by-hand");
    browser.go(&login_link(&server));
    browser.click("main button");
    browser.wait_for("Set a password", SOON);
    let source = server.operator().create("Shop", first.port());
    browser.go(&format!("{}/data-sources/{}", server.url, source.id));
    browser.be_a_phone();

    registers_the_key(&browser, &machine);
    let ssh = opens_the_tunnel(&browser, &machine);
    sees_who_enrolled_before_a_login_is_typed(&browser, &machine);
    tests_and_saves(&browser, &first);
    let ssh = leads_it_elsewhere(&browser, &machine, ssh, second.port());
    tests_with_the_password_typed_again(&browser, &second);
    removes_it(&browser, ssh);
}

fn registers_the_key(browser: &Browser, machine: &Machine) {
    browser.tab_to("main a[href$='/by-hand']");
    browser.press(Key::Enter);
    browser.wait_for("Public key", SOON);
    browser.look("01-by-hand");
    for system in ["windows", "linux"] {
        browser.be_a_phone();
        browser.tab_to(&format!("#guide-{system} > summary"));
        browser.press(Key::Enter);
        browser.look(&format!("02-guide-{system}"));
        browser.press(Key::Enter);
    }
    browser.be_a_phone();
    let keygen = typed_with(browser, "ssh-keygen");
    machine.types(&keygen).expect_code(0);

    browser.tab_to("#public_key");
    browser.press(machine.reads(".holistics/id_rsa"));
    browser.tab_to("main form button");
    browser.press(Key::Enter);
    browser.wait_for("This is a private key", SOON);
    // The Enter that sent the form may reach the field of the page that comes.
    let left = browser.run("return document.getElementById('public_key').value.trim()");
    assert_eq!(left, "", "the private key is in the page");
    browser.look("03-private-key");
    browser.be_a_phone();

    browser.tab_to("#public_key");
    browser.press(machine.reads(".holistics/id_rsa.pub"));
    browser.tab_to("main form button");
    browser.press(Key::Enter);
    browser.wait_for("Waiting for ssh", SOON);
    browser.look("04-registered");
    browser.be_a_phone();
}

/// What the guide for Linux gives to be typed that has this in it.
#[track_caller]
fn typed_with(browser: &Browser, text: &str) -> String {
    let typed = browser
        .run("return [...document.querySelectorAll('#guide-linux pre')].map(p => p.textContent)");
    let typed = typed.as_array().expect("a list").iter();
    let mut typed = typed.map(|typed| typed.as_str().expect("a text").to_owned());
    let found = typed.find(|typed| typed.contains(text));
    found.unwrap_or_else(|| panic!("nothing with {text:?} is given to be typed"))
}

/// Returns the ssh that holds it, exactly as the page has it.
fn opens_the_tunnel(browser: &Browser, machine: &Machine) -> Running {
    browser.run("window.neverReloaded = true");
    browser.tab_to("#guide-linux > summary");
    browser.press(Key::Enter);
    browser.tab_to("[data-copy=value-port]");
    browser.press(Key::Enter);
    browser.wait_until("[data-copy=value-port]", "Copied");
    machine
        .types(&typed_with(browser, "known_hosts"))
        .expect_code(0);
    let ssh = machine.starts(&typed_with(browser, "ssh -F none"));
    browser.wait_for("Tunnel up, not saved", SOON);
    assert_eq!(browser.run("return window.neverReloaded"), true);
    browser.look("05-up");
    browser.be_a_phone();
    ssh
}

fn sees_who_enrolled_before_a_login_is_typed(browser: &Browser, machine: &Machine) {
    let above = browser.run(
        "const login = document.getElementById('username').getBoundingClientRect();
         const who = document.getElementById('enrolled-by');
         return who.getBoundingClientRect().bottom <= login.top ? who.innerText : null",
    );
    let above = above
        .as_str()
        .expect("it stands above the login")
        .to_owned();
    let key = machine.types("ssh-keygen -lf ~/.holistics/id_rsa.pub");
    let fingerprint = key.stdout.split(' ').nth(1).expect("a fingerprint");
    for shown in ["admin", fingerprint] {
        assert!(above.contains(shown), "no {shown} in {above}");
    }
}

fn tests_and_saves(browser: &Browser, postgres: &Postgres) {
    let login = postgres.login();
    for (field, text) in [
        ("#database", &login.database),
        ("#username", &login.username),
        ("#password", &login.password),
    ] {
        browser.tab_to(field);
        browser.press(text);
    }
    browser.tab_to("button[data-busy]");
    browser.press(Key::Enter);
    browser.wait_for("The connection works", SOON);
    browser.tab_to("button[data-whole]");
    browser.press(Key::Enter);
    browser.wait_for("connected now", SOON);
    browser.wait_for("A password is saved", SOON);
    let state = browser.run("return document.querySelector('.title-row .pill').textContent");
    assert_eq!(state, "Up", "nobody waits for a service");
    browser.look("06-saved");
    browser.be_a_phone();
}

fn leads_it_elsewhere(browser: &Browser, machine: &Machine, ssh: Running, port: u16) -> Running {
    let before = typed_with(browser, "ssh -F none");
    browser.tab_to("main a[href$='/edit']");
    browser.press(Key::Enter);
    browser.wait_for("one line has to be changed", SOON);
    browser.fill("#port", &port.to_string());
    browser.tab_to("main form button");
    browser.press(Key::Enter);
    browser.wait_for("One line to change", SOON);
    browser.look("07-line-to-change");
    browser.be_a_phone();
    let line = |id: &str| {
        let text = browser.run(&format!(
            "return document.getElementById('{id}').textContent"
        ));
        text.as_str().expect("a text").to_owned()
    };
    let after = before.replace(&line("line-before"), &line("line-after"));
    assert_ne!(before, after);
    assert_eq!(
        after,
        typed_with(browser, "ssh -F none"),
        "the guide has it, too"
    );
    drop(ssh);
    browser.wait_for("The tunnel is down", SOON);
    browser.look("08-down");
    browser.be_a_phone();
    let ssh = machine.starts(&after);
    browser.wait_until_gone("The tunnel is down", SOON);
    browser.tab_to("form[action$='/target-applied'] button");
    browser.press(Key::Enter);
    browser.wait_until_gone("One line to change", SOON);
    ssh
}

fn tests_with_the_password_typed_again(browser: &Browser, postgres: &Postgres) {
    browser.tab_to("#password");
    browser.press(&postgres.login().password);
    browser.tab_to("button[data-busy]");
    browser.press(Key::Enter);
    browser.wait_for("The connection works", SOON);
}

fn removes_it(browser: &Browser, ssh: Running) {
    browser.tab_to("main a[href$='/delete']");
    browser.press(Key::Enter);
    browser.wait_for("takes effect at once", SOON);
    browser.look("09-delete");
    browser.be_a_phone();
    browser.tab_to("button[value=now]");
    browser.press(Key::Enter);
    browser.wait_for("What is left on its machine", SOON);
    browser.look("10-removed");
    ssh.wait(SOON).expect_code(255);
}
