//! Why a connection ended before its login.

use russh::Error;

use super::limits::AUTHENTICATION_ATTEMPTS;
use super::opening::{FirstBytes, Opening, quote};

/// Why, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    NothingSent,
    ProxyLine,
    Http,
    Tls,
    OtherProtocol,
    HungUp,
    NoCommonAlgorithm,
    SecondExchange,
    BadMessage,
    TooManyAttempts,
    Late,
    MadeRoom,
}

impl Why {
    pub(super) const ALL: [(Why, &'static str); 12] = [
        (Why::NothingSent, "nothing_sent"),
        (Why::ProxyLine, "proxy_line"),
        (Why::Http, "http"),
        (Why::Tls, "tls"),
        (Why::OtherProtocol, "other_protocol"),
        (Why::HungUp, "hung_up"),
        (Why::NoCommonAlgorithm, "no_common_algorithm"),
        (Why::SecondExchange, "second_exchange"),
        (Why::BadMessage, "bad_message"),
        (Why::TooManyAttempts, "too_many_attempts"),
        (Why::Late, "late"),
        (Why::MadeRoom, "made_room"),
    ];
}

/// Of a connection that has ended by itself: why, and the same for the log. `None` if its refused
/// logins have said it already.
pub(super) fn why(ended: Result<(), Error>, opening: &Opening) -> Option<(Why, String)> {
    if let Some(too_many) = too_many_attempts(opening) {
        return Some(too_many);
    }
    let line = match opening.first_bytes() {
        FirstBytes::Ssh(line) => line,
        FirstBytes::Nothing => {
            let text = "it hung up and had sent nothing";
            return Some((Why::NothingSent, text.to_owned()));
        }
        other => return Some(not_ssh(other)),
    };
    Some(match ended {
        Err(Error::NoCommonAlgo { kind, theirs, .. }) => (
            Why::NoCommonAlgorithm,
            format!(
                "nothing that it offers is accepted here ({kind:?}: {}); it is {line}",
                quote(theirs.join(",").as_bytes())
            ),
        ),
        Err(Error::NotAuthenticated) => (
            Why::SecondExchange,
            format!("it wanted to exchange keys again without logging in; it is {line}"),
        ),
        Ok(()) | Err(Error::IO(_) | Error::HUP | Error::Disconnect) => {
            if opening.refused_logins() > 0 {
                return None;
            }
            (
                Why::HungUp,
                format!("it hung up after its identification {line}"),
            )
        }
        Err(e) => (
            Why::BadMessage,
            format!("{}; it is {line}", quote(e.to_string().as_bytes())),
        ),
    })
}

/// Of a connection that was ended here, since time had passed.
pub(super) fn late(opening: &Opening) -> (Why, String) {
    // It was told to go, and did not.
    if let Some(too_many) = too_many_attempts(opening) {
        return too_many;
    }
    match opening.first_bytes() {
        FirstBytes::Nothing => (Why::NothingSent, "nothing was sent".to_owned()),
        FirstBytes::Ssh(line) => (Why::Late, format!("it took too long; it is {line}")),
        other => not_ssh(other),
    }
}

fn too_many_attempts(opening: &Opening) -> Option<(Why, String)> {
    let is_so = opening.refused_logins() >= AUTHENTICATION_ATTEMPTS;
    is_so.then(|| (Why::TooManyAttempts, "it tried too many keys".to_owned()))
}

fn not_ssh(first: FirstBytes) -> (Why, String) {
    match first {
        FirstBytes::ProxyLine => (
            Why::ProxyLine,
            "it sent a PROXY protocol line, and is not trusted to: name the load balancer with \
             --trusted-proxy, or turn that off there"
                .to_owned(),
        ),
        FirstBytes::Http => (Why::Http, "it speaks HTTP and not SSH".to_owned()),
        FirstBytes::Tls => (Why::Tls, "it speaks TLS and not SSH".to_owned()),
        FirstBytes::Other(bytes) | FirstBytes::Ssh(bytes) => (
            Why::OtherProtocol,
            format!("it does not speak SSH: {bytes}"),
        ),
        FirstBytes::Nothing => (Why::NothingSent, "nothing was sent".to_owned()),
    }
}
