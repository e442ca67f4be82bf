//! The link's TLS: version 1.3, a certificate on both sides, each known by its hash and by nothing else.
//!
//! Sessions are resumed, since a connection of its own for each that is passed on costs mostly its signatures. What
//! the other side once proved lets nobody in who is no longer known: its certificate stays with its session, and the
//! [`listener`](super::listener) judges it anew with every connection and every request.

use std::sync::Arc;

use anyhow::Context;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ServerSessionMemoryCache;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::identity::{Identity, hash};
use crate::server::cluster::holders::{CertificateHash, Holders};
use crate::server::tls::{Judge, JudgedBy, PROVIDER};

/// How many sessions are remembered for all other nodes; each is good for one connection, and a node keeps eight.
const SESSIONS: usize = 2048;

/// How this node asks the one that is known by this.
pub fn client(identity: &Identity, expected: CertificateHash) -> anyhow::Result<Arc<ClientConfig>> {
    client_of_version(&TLS13, identity, expected)
}

fn client_of_version(
    version: &'static SupportedProtocolVersion,
    identity: &Identity,
    expected: CertificateHash,
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(JudgedBy(Only(expected))))
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .context("cannot use this node's certificate for the link to other nodes")?;
    config.enable_sni = false;
    // It is asked nothing else, so that no other's sessions are among them.
    config.resumption = Resumption::in_memory_sessions(1);
    Ok(Arc::new(config))
}

/// What every node is called there, since a name is needed: nobody looks at it.
pub fn name() -> ServerName<'static> {
    ServerName::from(std::net::IpAddr::from([0, 0, 0, 0]))
}

/// How this node answers others.
pub(super) fn server(identity: &Identity, holders: Holders) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(JudgedBy(Known(holders))))
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .context("cannot use this node's certificate for the link to other nodes")?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    // One for the one that was used.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// Accepts one certificate.
#[derive(Debug)]
struct Only(CertificateHash);

impl Judge for Only {
    fn accepts(&self, certificate: &CertificateDer<'_>) -> bool {
        hash(certificate) == self.0
    }
}

/// Accepts those of the nodes that there are at this moment.
#[derive(Debug)]
struct Known(Holders);

impl Judge for Known {
    fn accepts(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.knows(&hash(certificate))
    }
}

#[cfg(test)]
mod tests {
    use rustls::version::TLS12;

    use super::super::test_node::TestNode;
    use super::*;

    #[tokio::test]
    async fn a_known_node_that_speaks_an_older_version_is_not_let_in() {
        let node = TestNode::start().await;
        let of_today = node.asked_by(&node.known);
        node.connect(&of_today).await.unwrap();
        let older = client_of_version(&TLS12, &node.known, node.certificate).unwrap();
        let refusal = node.connect(&older).await.unwrap_err();
        assert!(refusal.to_string().contains("ProtocolVersion"), "{refusal}");
    }
}
