//! SQL Server, in whose place a peer speaks the part of its protocol that a test needs.

mod encryption;
mod protocol;

use std::net::TcpStream;
use std::sync::Arc;

use holistics_tunnel::protocol::{ConnectionTestResult, DatabaseType, TlsMode};
use rustls::ServerConfig;

use crate::databases::peer::Peer;
use crate::databases::{as_user, expect_failure, expect_success, to_database, with_password};
use crate::support::hosts::certificate;
use crate::support::sql::Login;
use crate::support::workspace::Workspace;
use protocol::{answer_prelogin, converse};

pub use protocol::Encryption;

/// A peer that says this about encryption, and does it.
pub fn start(encryption: Encryption) -> Peer {
    let workspace = Workspace::new();
    let tls = certificate::server_settings("db.example", workspace.path());
    Peer::serving(move |stream| {
        // A client that has seen enough hangs up in the middle.
        let _ = serve(stream, encryption, &tls);
    })
}

fn serve(
    mut stream: TcpStream,
    encryption: Encryption,
    tls: &Arc<ServerConfig>,
) -> std::io::Result<()> {
    let agreed = answer_prelogin(&mut stream, encryption)?;
    match agreed {
        Encryption::NotSupported => converse(&mut stream),
        _ => converse(&mut encryption::accept(stream, tls)?),
    }
}

/// The login that the peer accepts.
pub fn login() -> Login {
    Login {
        database: "shop".into(),
        username: "reader".into(),
        password: protocol::PASSWORD.into(),
    }
}

fn test(peer: &Peer, login: &Login, tls: TlsMode) -> ConnectionTestResult {
    crate::databases::test(DatabaseType::Sqlserver, peer.port(), login, tls)
}

#[test]
fn with_encryption_the_whole_session_is_encrypted_and_the_certificate_is_told() {
    for encryption in [Encryption::On, Encryption::Required] {
        let peer = start(encryption);
        for tls in [TlsMode::Prefer, TlsMode::Require] {
            let result = test(&peer, &login(), tls);
            expect_success(&result, "TLS 1.2 (TLS_", "Microsoft SQL Server 2022");
            assert!(
                result.stages[1].detail.contains("2022 (16.0."),
                "{result:?}"
            );
            assert!(
                result.stages[2].detail.contains("CN=db.example"),
                "{result:?}"
            );
        }
    }
}

#[test]
fn without_encryption_only_the_mode_require_fails() {
    let peer = start(Encryption::NotSupported);
    for tls in [TlsMode::Disable, TlsMode::Prefer] {
        let result = test(&peer, &login(), tls);
        expect_success(&result, "not encrypted", "Microsoft SQL Server 2022");
    }
    let result = test(&peer, &login(), TlsMode::Require);
    expect_failure(&result, "tls", "does not offer TLS", "certificate");
}

#[test]
fn a_database_that_insists_on_encryption_says_so_to_the_mode_disable() {
    let peer = start(Encryption::Required);
    let result = test(&peer, &login(), TlsMode::Disable);
    expect_failure(&result, "tls", "insists on encryption", "`require`");
}

#[test]
fn each_refusal_is_in_the_databases_own_words_with_its_remedy() {
    for encryption in [Encryption::NotSupported, Encryption::On] {
        let peer = start(encryption);
        let prefer = |login: &Login| test(&peer, login, TlsMode::Prefer);
        let result = prefer(&with_password(&login(), "guessed badly"));
        expect_failure(
            &result,
            "login",
            "Login failed for user 'reader'. (18456)",
            "password",
        );
        assert!(!format!("{result:?}").contains("guessed"), "{result:?}");
        let result = prefer(&as_user(&login(), "nobody"));
        expect_failure(&result, "login", "(18456)", "user name");
        let result = prefer(&to_database(&login(), "nowhere"));
        expect_failure(
            &result,
            "login",
            "Cannot open database \"nowhere\"",
            "database's name",
        );
    }
}
