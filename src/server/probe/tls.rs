//! TLS between the server and the database, inside the tunnel: agreed on, done, and told in words.
//!
//! Certificates are not verified: `require` is PostgreSQL's `sslmode=require`, which keeps listeners out
//! and not somebody who stands between. Databases in closed networks have certificates that nobody
//! outside can verify; what is shown of theirs is what they say.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::allowance::Socket;
use super::driver::Place;
use super::report::Failure;
use crate::protocol::TlsMode;
use crate::server::tls::{Judge, JudgedBy, PROVIDER};

/// How long a goodbye may take.
const CLOSING: Duration = Duration::from_secs(2);

/// What was agreed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    Encrypted,
    /// Not to; with the words for it.
    Plain(String),
}

/// What a TLS mode and the database's offer make together. `how` is how such a database comes to offer it.
pub(super) fn agree(mode: TlsMode, is_offered: bool, how: &str) -> Result<Agreement, Failure> {
    match (mode, is_offered) {
        (TlsMode::Prefer | TlsMode::Require, true) => Ok(Agreement::Encrypted),
        (TlsMode::Disable, true) => Ok(Agreement::Plain(
            "not encrypted by TLS, as the TLS mode `disable` asks; the database offers it"
                .to_owned(),
        )),
        (mode, false) => without_offer(mode, how).map(Agreement::Plain),
    }
}

/// The words for a connection that is not encrypted since the database does not offer it, where the TLS
/// mode allows that.
pub(super) fn without_offer(mode: TlsMode, how: &str) -> Result<String, Failure> {
    match mode {
        TlsMode::Disable => {
            Ok("not encrypted by TLS, as the TLS mode `disable` asks".to_owned())
        }
        TlsMode::Prefer => Ok(
            "not encrypted by TLS: the database does not offer it, and the TLS mode `prefer` allows that"
                .to_owned(),
        ),
        TlsMode::Require => Err(Failure::new(
            "the database does not offer TLS, and the TLS mode is `require`",
            format!("Turn TLS on at the database ({how}), or choose the TLS mode `prefer`."),
        )),
    }
}

/// Encrypts a connection with any version of TLS that is not broken.
pub(super) async fn encrypt<S>(stream: S, place: &Place) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    encrypt_with(stream, place, rustls::ALL_VERSIONS).await
}

/// Encrypts a connection with one of these versions of TLS.
pub(super) async fn encrypt_with<S>(
    stream: S,
    place: &Place,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(JudgedBy(Anybody)))
        .with_no_client_auth();
    // The database's own name: some choose their certificate, or themselves, by it.
    let name = ServerName::try_from(place.host().to_owned())
        .unwrap_or_else(|_| ServerName::from(place.address.ip()));
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Encrypts a connection only to see what is agreed on, and ends it.
pub(super) async fn trial(stream: Socket, place: &Place) -> Result<String, Failure> {
    let encrypted = encrypt(stream, place).await;
    let mut stream = encrypted.map_err(|error| failure(&error))?;
    let said = describe(stream.get_ref().1);
    // Whether the other side takes note changes nothing.
    let _ = timeout(CLOSING, stream.shutdown()).await;
    Ok(said)
}

/// Whether it was the other side, by the rules of TLS, that ended a handshake.
pub(super) fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

/// The failure of a handshake.
pub(super) fn failure(error: &io::Error) -> Failure {
    Failure::new(
        format!("the database offers TLS, but it could not be agreed on: {error}"),
        "Let the database offer TLS 1.2 or 1.3 with a certificate of its own, or choose the TLS mode `disable`.",
    )
}

/// What was agreed on, in words.
pub(super) fn describe(connection: &ClientConnection) -> String {
    let version = connection.protocol_version().map_or("TLS", name);
    let cipher = connection
        .negotiated_cipher_suite()
        .map_or_else(String::new, |suite| format!(" ({:?})", suite.suite()));
    let certificate = connection
        .peer_certificates()
        .and_then(|certificates| of_certificate(certificates.first()?));
    match certificate {
        Some(certificate) => format!("encrypted with {version}{cipher}; {certificate}"),
        None => format!("encrypted with {version}{cipher}; the certificate is not verified"),
    }
}

fn name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLS 1.2",
        ProtocolVersion::TLSv1_3 => "TLS 1.3",
        _ => "TLS",
    }
}

fn of_certificate(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let certificate = certificate.tbs_certificate();
    let end = certificate.validity().not_after.to_date_time();
    let is_over = end.to_system_time() < SystemTime::now();
    let verb = if is_over { "ended" } else { "ends" };
    Some(format!(
        "the certificate, which is not verified, is for {}, is from {}, and {verb} on {:04}-{:02}-{:02}",
        certificate.subject(),
        certificate.issuer(),
        end.year(),
        end.month(),
        end.day(),
    ))
}

/// Accepts every certificate, also one that is not understood, and so whatever it signs.
#[derive(Debug)]
struct Anybody;

impl Judge for Anybody {
    const WANTS_PROOF: bool = false;

    fn accepts(&self, _: &CertificateDer<'_>) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_require_insists_on_tls_and_only_disable_refuses_it() {
        for mode in [TlsMode::Prefer, TlsMode::Require] {
            assert_eq!(agree(mode, true, "x").unwrap(), Agreement::Encrypted);
        }
        for (mode, is_offered) in [
            (TlsMode::Disable, true),
            (TlsMode::Disable, false),
            (TlsMode::Prefer, false),
        ] {
            let Agreement::Plain(said) = agree(mode, is_offered, "x").unwrap() else {
                panic!("{mode:?} {is_offered} is not encrypted");
            };
            assert!(said.contains("not encrypted"), "{said}");
        }
        let failure = agree(TlsMode::Require, false, "`ssl = on`").unwrap_err();
        assert!(failure.remedy.contains("`ssl = on`"), "{failure:?}");
    }
}
