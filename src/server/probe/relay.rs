//! A way for drivers that connect by themselves: a port of loopback that leads to a connection made here, so that
//! theirs, too, is checked and counted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tracing::instrument::WithSubscriber;

use super::allowance::Socket;
use super::contact;
use super::driver::Place;
use super::report::Failure;

/// Such a port. It takes one connection, and that ends with it.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    task: AbortOnDropHandle<()>,
}

impl Relay {
    /// A port that leads to the database.
    pub(super) async fn to(place: &Place) -> Result<Self, Failure> {
        let database = contact::connect(place).await?;
        Self::between(database).await.map_err(|error| {
            Failure::new(
                format!("this server cannot connect to a port of its own loopback: {error}"),
                "Look at this server's firewall and its limits.",
            )
        })
    }

    async fn between(mut database: Socket) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let lead = async move {
            // Should somebody else on this machine be first, he gets what he can have without it, a connection
            // without a login, and the driver none.
            let Ok((mut driver, _)) = listener.accept().await else {
                return;
            };
            drop(listener);
            // Costs nothing, and without it small messages may wait for each other.
            let _ = driver.set_nodelay(true);
            // Either end tells the driver itself.
            let _ = copy_bidirectional(&mut driver, &mut database).await;
        };
        let task = tokio::spawn(lead.with_current_subscriber());
        Ok(Relay {
            address,
            task: AbortOnDropHandle::new(task),
        })
    }

    /// Waits until the database has heard the driver's last word. The caller bounds the time.
    pub(super) async fn end(self) {
        let _ = self.task.await;
    }

    /// What the driver is to connect to.
    pub(super) fn host(&self) -> String {
        self.address.ip().to_string()
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }
}
