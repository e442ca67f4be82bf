//! Accepting connections, also where the system has no room for another at this moment.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long is waited after a failure. Out of file descriptors, most likely: trying again at once would not help.
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection, or nothing when it is stopped. Each failure is told on the way.
pub(super) async fn accept(
    listener: &TcpListener,
    stop: &CancellationToken,
    failed: impl Fn(&io::Error),
) -> Option<(TcpStream, SocketAddr)> {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => failed(&error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        accepted = accepting => Some(accepted),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// One that the system lets accept nothing.
    fn unable() -> TcpListener {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        TcpListener::from_std(socket.into()).unwrap()
    }

    #[tokio::test]
    async fn failures_are_told_and_followed_by_a_pause_until_it_is_stopped() {
        let (listener, failures) = (unable(), Cell::new(0));
        let (stop, started) = (CancellationToken::new(), Instant::now());
        let failed = |_: &_| {
            failures.set(failures.get() + 1);
            if failures.get() == 3 {
                stop.cancel();
            }
        };
        assert!(accept(&listener, &stop, failed).await.is_none());
        assert_eq!(failures.get(), 3);
        assert!(started.elapsed() >= PAUSE * 2);
    }
}
