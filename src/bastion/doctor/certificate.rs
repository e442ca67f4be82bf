//! Why a certificate was not accepted, told from every other reason for no answer.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody this host trusts has signed it: a private authority, or something that looks into TLS.
    UnknownAuthority,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is another server's.
    WrongName,
    /// Something else.
    Other,
}

/// What rustls found wrong, wherever in the chain of causes it stands; nothing where the reason is not
/// the certificate.
pub fn trouble(error: &anyhow::Error) -> Option<Trouble> {
    error.chain().find_map(find).map(|error| match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        _ => Trouble::Other,
    })
}

fn find<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    // An I/O error gives the source of what it wraps, and not that itself; and it may wrap another.
    let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
    find(inner)
}

fn of_certificate(error: &CertificateError) -> Trouble {
    match error {
        // An authority that was renewed under its old name has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            Trouble::UnknownAuthority
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Trouble::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Trouble::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Trouble::WrongName
        }
        _ => Trouble::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_inside_an_io_error() {
        let error = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let inside = io::Error::other(io::Error::other(error));
        let wrapped = anyhow::Error::new(inside).context("sending the request");
        assert_eq!(trouble(&wrapped), Some(Trouble::UnknownAuthority));
        let refused = anyhow::Error::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(trouble(&refused), None);
    }
}
