//! Signing in by a password while others try to: they cost the server no memory, and nobody their account.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::server::Server;
use crate::visitor::{Form, Page, Visitor};

const PASSWORD: &str = "correct horse battery";
const LIMIT: Duration = Duration::from_secs(120);
/// Fewer than are taken from one address, or for one account, in a while.
const UNNOTICED: usize = 9;

#[test]
fn a_thousand_wrong_passwords_leave_the_memory_as_it_was() {
    let server = Server::start();
    let before = server.memory();
    fail_to_sign_in(&server, 1, 30);
    let after_some = server.memory();
    for round in 2..=8 {
        fail_to_sign_in(&server, round, 140);
    }
    let after_all = server.memory();
    eprintln!(
        "MEASURED: memory at first {before} KiB, after 30 failed sign-ins {after_some} KiB, after 1,010 {after_all} KiB"
    );
    // What one password takes is 19 MiB, which may stay.
    assert!(after_some < before + (30 << 10), "{before} to {after_some}");
    assert!(
        after_all < after_some + (5 << 10),
        "{after_some} to {after_all}"
    );
}

#[test]
fn strangers_who_guess_at_an_account_keep_nobody_out_of_it() {
    let server = Server::start();
    let owner = owner(&server);
    for number in 0..40 {
        let stranger = stranger(&server, 9, number);
        attempt(&stranger, "admin", "a wrong passphrase");
    }
    let refused = attempt(&stranger(&server, 9, 99), "admin", PASSWORD);
    assert_eq!(refused.status, 429, "guessing is slowed down");
    refused.expect(&["a browser that has signed in before"]);
    // Nobody's account answers in the same way.
    for number in 0..11 {
        attempt(&stranger(&server, 10, number), "nobody", PASSWORD);
    }
    let nobody = attempt(&stranger(&server, 10, 99), "nobody", PASSWORD);
    assert_eq!(nobody.status, 429);

    let signed_in = attempt(&owner, "admin", PASSWORD);
    assert_eq!(signed_in.status, 303, "{}", signed_in.text());
    // Who got in once and guesses on does not guess for ever.
    owner.submit(&owner.get("/account").form("/sign-out"), &[]);
    for _ in 0..10 {
        assert_eq!(attempt(&owner, "admin", "a wrong passphrase").status, 401);
    }
    assert_eq!(attempt(&owner, "admin", PASSWORD).status, 429);
}

#[test]
fn who_comes_while_too_many_sign_in_is_told_so_at_once() {
    let server = Server::start();
    let busy = AtomicBool::new(false);
    let until = Instant::now() + LIMIT;
    thread::scope(|scope| {
        for number in 0..40 {
            let (server, busy) = (&server, &busy);
            scope.spawn(move || {
                let visitor = stranger(server, 11, number);
                let form = visitor.get("/sign-in").form("/sign-in");
                let mut round = 0;
                while !busy.load(Ordering::Relaxed) && Instant::now() < until && round < 25 {
                    round += 1;
                    let name = format!("nobody-{number}-{round}");
                    let page = send(&visitor, &form, &name, "a wrong passphrase");
                    if page.status == 401 {
                        continue;
                    }
                    assert_eq!(page.status, 503, "{}", page.text());
                    let wait = page.headers["retry-after"].to_str().expect("a number");
                    assert!(wait.parse::<u32>().is_ok_and(|wait| wait > 0), "{wait}");
                    page.expect(&["Too many people are signing in"]);
                    busy.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(busy.into_inner(), "nobody was turned away");
    let owner = owner(&server);
    assert_eq!(attempt(&owner, "admin", PASSWORD).status, 303);
}

/// A browser that has signed in, has set a password, and has signed out.
fn owner(server: &Server) -> Visitor {
    let owner = Visitor::signed_in(server);
    let account = owner.get("/account");
    let form = account.form("/account");
    owner
        .submit(&form, &[("password", PASSWORD), ("again", PASSWORD)])
        .expect(&["The password is set"]);
    owner.submit(&account.form("/sign-out"), &[]);
    owner
}

/// Each of these addresses is somebody else's.
fn stranger(server: &Server, network: u8, number: u8) -> Visitor {
    let address = Ipv4Addr::new(127, 1, network, number + 1);
    Visitor::from_address(server, IpAddr::V4(address))
}

fn attempt(visitor: &Visitor, name: &str, password: &str) -> Page {
    let form = visitor.get("/sign-in").form("/sign-in");
    send(visitor, &form, name, password)
}

fn send(visitor: &Visitor, form: &Form, name: &str, password: &str) -> Page {
    visitor.post(form, &[("name", name), ("password", password)], &[])
}

/// This many times, four at a time, for accounts and from addresses that are not noticed.
fn fail_to_sign_in(server: &Server, network: u8, times: usize) {
    let addresses = u8::try_from(times.div_ceil(UNNOTICED)).expect("few");
    thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for address in (part..addresses).step_by(4) {
                    let visitor = stranger(server, network, address);
                    let form = visitor.get("/sign-in").form("/sign-in");
                    let left = times - usize::from(address) * UNNOTICED;
                    for _ in 0..left.min(UNNOTICED) {
                        let name = format!("nobody-{network}-{address}");
                        let page = send(&visitor, &form, &name, "a wrong passphrase");
                        assert_eq!(page.status, 401, "{}", page.text());
                    }
                }
            });
        }
    });
}
