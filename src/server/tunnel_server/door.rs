//! Where bastions come in: a listener that is closed while this node drains, so that load balancers and ssh's own
//! list of addresses go on to another node.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The listener, as long as it is open.
pub(super) struct Door {
    address: SocketAddr,
    listener: Option<TcpListener>,
    is_open: watch::Receiver<bool>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, is_open: watch::Receiver<bool>) -> io::Result<Self> {
        Ok(Door {
            address: listener.local_addr()?,
            listener: Some(listener),
            is_open,
        })
    }

    /// Waits for the next connection, also for as long as it is closed. Nothing is lost if this is dropped.
    pub(super) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            if !*self.is_open.borrow_and_update() {
                self.listener = None;
                if self.is_open.changed().await.is_err() {
                    // Nobody opens it any more.
                    return std::future::pending().await;
                }
                continue;
            }
            let listener = match self.listener.take() {
                Some(listener) => listener,
                None => TcpListener::bind(self.address).await?,
            };
            let listener = self.listener.insert(listener);
            tokio::select! {
                accepted = listener.accept() => return accepted,
                Ok(()) = self.is_open.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn while_it_is_closed_nobody_is_let_in_and_afterwards_at_the_same_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_open = watch::Sender::new(true);
        let mut door = Door::new(listener, is_open.subscribe()).unwrap();
        let (came, mut comes) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((_, peer)) = door.accept().await {
                came.send(peer).unwrap();
            }
        });
        let visit = async || {
            let visitor = TcpStream::connect(address).await?;
            visitor.local_addr()
        };
        for _ in 0..2 {
            let visitor = visit().await.unwrap();
            assert_eq!(comes.recv().await, Some(visitor));

            is_open.send_replace(false);
            while visit().await.is_ok() {
                tokio::task::yield_now().await;
            }
            while comes.try_recv().is_ok() {}
            is_open.send_replace(true);
            let visitor = loop {
                match visit().await {
                    Ok(visitor) => break visitor,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            assert_eq!(comes.recv().await, Some(visitor));
        }
    }
}
