//! systemd, where it runs the server: it is told when the server serves and when it ends.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The server serves.
pub const READY: &str = "READY=1";

/// The server has begun to end.
pub const STOPPING: &str = "STOPPING=1";

/// The end may take this long, whatever its settings say.
pub fn wait_for(time: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", time.as_micros())
}

/// Tells it, if it asked for that (`Type=notify`, sd_notify(3)).
pub fn tell(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::error!(
            "cannot tell the service manager {state} by NOTIFY_SOCKET {}: {error}",
            socket.display()
        );
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address(socket)?)?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    match socket.as_encoded_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(socket),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_time_in_microseconds() {
        assert_eq!(
            wait_for(Duration::from_secs(733)),
            "EXTEND_TIMEOUT_USEC=733000000"
        );
    }

    #[test]
    fn it_is_told_by_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), READY).unwrap();
        let mut said = [0; 32];
        let bytes = manager.recv(&mut said).unwrap();
        assert_eq!(&said[..bytes], b"READY=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_told_by_a_socket_without_a_file() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("holistics-tunnel-test-{}", std::process::id());
        let own = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&own).unwrap();
        send(OsStr::new(&format!("@{name}")), STOPPING).unwrap();
        let mut said = [0; 32];
        let bytes = manager.recv(&mut said).unwrap();
        assert_eq!(&said[..bytes], b"STOPPING=1");
    }
}
