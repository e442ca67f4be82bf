//! A certificate authority of the lab's own and what it signs.

use std::path::{Path, PathBuf};
use std::process::Command;

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
    openssl(
        folder,
        "-subj /CN=Lab -keyout authority.key -out authority.pem",
    );
    openssl(
        folder,
        &format!(
            "-subj /CN={name} -addext subjectAltName=DNS:{name} -addext basicConstraints=CA:FALSE \
             -CA authority.pem -CAkey authority.key -keyout server.key -out server.pem"
        ),
    );
    Certified {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        authority: folder.join("authority.pem"),
    }
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
