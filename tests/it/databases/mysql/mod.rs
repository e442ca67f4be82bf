//! MySQL 8, which Debian does not have: in its place a peer speaks the part of its protocol in which it
//! differs from MariaDB, `caching_sha2_password` and its own refusals.

mod protocol;

use holistics_tunnel::protocol::{ConnectionTestResult, DatabaseType, TlsMode};

use crate::databases::peer::Peer;
use crate::databases::{as_user, expect_failure, expect_success, with_password};
use crate::support::hosts::certificate;
use crate::support::sql::Login;
use crate::support::workspace::Workspace;
use protocol::Server;

/// One that knows the password's hash already, and asks for nothing more.
fn start(offers_tls: bool, knows_password: bool) -> Peer {
    let workspace = Workspace::new();
    let settings = certificate::server_settings("db.example", workspace.path());
    let server = Server {
        tls: offers_tls.then_some(settings),
        knows_password,
    };
    Peer::serving(move |stream| {
        // A client that has seen enough hangs up in the middle.
        let _ = server.serve(stream);
    })
}

fn login() -> Login {
    Login {
        database: "shop".into(),
        username: "reader".into(),
        password: protocol::PASSWORD.into(),
    }
}

fn test(peer: &Peer, login: &Login, tls: TlsMode) -> ConnectionTestResult {
    crate::databases::test(DatabaseType::Mysql, peer.port(), login, tls)
}

#[test]
fn a_password_whose_hash_the_server_remembers_is_proved_without_being_sent() {
    let peer = start(false, true);
    for tls in [TlsMode::Disable, TlsMode::Prefer] {
        let result = test(&peer, &login(), tls);
        expect_success(&result, "not encrypted", "MySQL 8.4.0");
    }
}

#[test]
fn a_password_that_the_server_must_see_goes_through_tls() {
    let peer = start(true, false);
    for tls in [TlsMode::Prefer, TlsMode::Require] {
        let result = test(&peer, &login(), tls);
        expect_success(&result, "TLS 1.3 (TLS13_", "MySQL 8.4.0");
    }
}

#[test]
fn a_wrong_password_is_refused_in_both_ways() {
    for (offers_tls, knows_password) in [(false, true), (true, false)] {
        let peer = start(offers_tls, knows_password);
        let login = with_password(&login(), "guessed badly");
        let result = test(&peer, &login, TlsMode::Prefer);
        expect_failure(&result, "login", "Access denied", "user name and password");
        assert!(!format!("{result:?}").contains("guessed"), "{result:?}");
    }
}

#[test]
fn a_server_that_wants_tls_for_every_login_says_so() {
    let peer = start(true, true);
    let guarded = as_user(&login(), protocol::GUARDED);
    let result = test(&peer, &guarded, TlsMode::Disable);
    expect_failure(&result, "login", "(3159)", "TLS mode `require`");
}
