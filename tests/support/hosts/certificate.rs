//! A certificate authority of the lab's own and what it signs.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::process;

/// A certificate with its key and the authority that vouches for it, all PEM.
pub struct Certified {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority's certificate.
    pub authority: PathBuf,
}

/// Makes an authority and a certificate for this name, good for a day.
pub fn for_name(name: &str, folder: &Path) -> Certified {
    for_subject(name, &format!("DNS:{name}"), folder)
}

/// The same for an address.
pub fn for_address(address: Ipv4Addr, folder: &Path) -> Certified {
    for_subject(&address.to_string(), &format!("IP:{address}"), folder)
}

fn for_subject(name: &str, alternative: &str, folder: &Path) -> Certified {
    openssl(
        folder,
        "-subj /CN=Lab -keyout authority.key -out authority.pem",
    );
    openssl(
        folder,
        &format!(
            "-subj /CN={name} -addext subjectAltName={alternative} -addext basicConstraints=CA:FALSE \
             -CA authority.pem -CAkey authority.key -keyout server.key -out server.pem"
        ),
    );
    Certified {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        authority: folder.join("authority.pem"),
    }
}

/// Whether the server at this URL on loopback shows a certificate of this one's authority.
pub fn is_shown(url: &str, name: &str, of: &Certified) -> bool {
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    let address = ([127, 0, 0, 1], port.expect("a URL with a port")).into();
    let authority = std::fs::read(&of.authority).expect("the authority");
    let authority = reqwest::Certificate::from_pem(&authority).expect("a certificate");
    let client = reqwest::blocking::Client::builder()
        .no_proxy()
        .tls_certs_only([authority])
        .resolve(name, address)
        .build()
        .expect("an HTTP client");
    client.get(format!("{url}/healthz")).send().is_ok()
}

/// What a server in a test's own process encrypts with: such a certificate for this name.
pub fn server_settings(name: &str, folder: &Path) -> Arc<ServerConfig> {
    let certified = for_name(name, folder);
    let certificate = CertificateDer::from_pem_file(&certified.certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&certified.key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that go with the provider")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate with its key");
    Arc::new(settings)
}

fn openssl(folder: &Path, arguments: &str) {
    const NEW_CERTIFICATE: &str =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1";
    let mut command = Command::new("openssl");
    command
        .args(NEW_CERTIFICATE.split(' '))
        .args(arguments.split_whitespace())
        .current_dir(folder);
    process::run(&mut command, folder, "openssl").expect_code(0);
}
