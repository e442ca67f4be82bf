//! What an SSH server says first (RFC 4253, 4.2), and what others say in its place.

use crate::bastion::host::Connection;
use crate::bastion::host::exchange::{End, exchange};

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeting {
    /// `SSH-2.0-…`.
    Ssh(String),
    /// The beginning of something else.
    Other(String),
    /// The end, without a word.
    HungUp,
    /// Nothing within the connection's time.
    Silence,
}

/// Waits for it, as long as the connection's time allows.
pub fn read(connection: &mut dyn Connection) -> Greeting {
    let is_enough = |said: &[u8]| version_line(said).is_some();
    let (said, end) = exchange(connection, &[], is_enough);
    match (version_line(&said), said.is_empty(), end) {
        (Some(version), ..) => Greeting::Ssh(version),
        (None, false, _) => {
            Greeting::Other(String::from_utf8_lossy(&said[..said.len().min(60)]).into_owned())
        }
        (None, true, End::HungUp) => Greeting::HungUp,
        (None, true, _) => Greeting::Silence,
    }
}

/// `SSH-2.0-…`, on a line of its own, once it is whole.
pub fn version_line(said: &[u8]) -> Option<String> {
    let whole = &said[..said.iter().rposition(|byte| *byte == b'\n')?];
    whole
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(b"SSH-"))
        .map(|line| String::from_utf8_lossy(line).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bastion::host::Net as _;
    use crate::bastion::host::scripted::{Listener, ScriptedHost};

    fn greeting_of(listener: Listener) -> Greeting {
        let host = ScriptedHost::new();
        let address = "10.0.0.1:50022";
        host.listen(address, listener);
        let second = Duration::from_secs(1);
        let mut connection = host.connect(address.parse().unwrap(), second).unwrap();
        read(connection.as_mut())
    }

    #[test]
    fn ssh_is_told_from_silence_and_from_a_web_server() {
        let ssh = greeting_of(Listener::Says(b"hello\r\nSSH-2.0-x\r\n".to_vec()));
        assert_eq!(ssh, Greeting::Ssh("SSH-2.0-x".to_owned()));
        let web = greeting_of(Listener::HangsUp(b"HTTP/1.1 400 Bad Request\r\n".to_vec()));
        assert!(
            matches!(&web, Greeting::Other(said) if said.contains("HTTP/1.1 400")),
            "{web:?}"
        );
        assert_eq!(greeting_of(Listener::Says(Vec::new())), Greeting::Silence);
        assert_eq!(greeting_of(Listener::HangsUp(Vec::new())), Greeting::HungUp);
    }

    #[test]
    fn an_endless_banner_is_not_read_for_ever() {
        let endless = greeting_of(Listener::Says(vec![b'x'; 1_000_000]));
        assert!(matches!(endless, Greeting::Other(_)), "{endless:?}");
    }
}
