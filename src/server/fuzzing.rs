//! Doors to what the server reads from the wire, for the fuzzers in `fuzz/`, which are a crate of their own.
//!
//! This is compiled with `--cfg fuzzing` alone, as `scripts/fuzz` does: nothing has to be public for programs and tests
//! that only a fuzzer calls. What is right and what is wrong is said in `fuzz/`, and not here.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::cluster::holders::CertificateHash;
use super::cluster::peer_link::identity::Identity;
use super::cluster::peer_link::tls;
use super::cluster::peer_link::wire::Request;
use super::tunnel_server::proxy_header;

/// What is made of the beginning of a proxy's connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// More is to come.
    Incomplete,
    /// Whose connection it is, if that was said, and what follows.
    Read(Option<SocketAddr>, Vec<u8>),
    /// The connection is ended.
    Broken,
}

/// Reads these bytes as the first ones of a trusted proxy.
pub fn proxy_header(bytes: &[u8]) -> ProxyHeader {
    match proxy_header::parse(&mut BytesMut::from(bytes)) {
        Ok(Some(beginning)) => ProxyHeader::Read(beginning.client, beginning.rest.to_vec()),
        Ok(None) => ProxyHeader::Incomplete,
        Err(_) => ProxyHeader::Broken,
    }
}

/// How one node asks another, and by which name.
pub fn peer_tls(
    own: &Identity,
    other: CertificateHash,
) -> anyhow::Result<(Arc<ClientConfig>, ServerName<'static>)> {
    Ok((tls::client(own, other)?, tls::name()))
}

/// What a node asks.
pub fn peer_request(request: &Request) -> Vec<u8> {
    request.bytes().to_vec()
}
