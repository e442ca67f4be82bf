//! What a session is asked from outside its own handler, and does before anything that is queued.

use tokio::sync::oneshot;

use crate::server::{Handle, Msg, Session};
use crate::{ChannelId, Error};

#[derive(Debug)]
pub enum Order {
    /// Allow the client to send so many bytes more on a channel.
    Grant { channel: ChannelId, bytes: u32 },
    /// Ask the client for a sign of life.
    Ping(oneshot::Sender<()>),
}

impl Handle {
    /// Allows the client to send so many bytes more on this channel. It does not wait, so that a
    /// channel's reader is never held up by another channel's data.
    ///
    /// # Errors
    /// The session has ended.
    pub fn grant_window(&self, channel: ChannelId, bytes: u32) -> Result<(), Error> {
        self.order(Order::Grant { channel, bytes })
    }

    /// Asks the client for a sign of life; returns when it has answered, whatever the answer.
    ///
    /// # Errors
    /// The session has ended.
    pub async fn ping(&self) -> Result<(), Error> {
        let (reply, replied) = oneshot::channel();
        self.order(Order::Ping(reply))?;
        replied.await.map_err(|_| Error::Disconnect)
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        self.priority_sender
            .send(Msg::Order(order))
            .map_err(|_| Error::SendError)
    }
}

impl Session {
    pub(crate) fn obey(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Grant { channel, bytes } => {
                if let Some(encrypted) = self.common.encrypted.as_mut() {
                    encrypted.grant_window(channel, bytes);
                }
                Ok(())
            }
            Order::Ping(reply) => self.send_ping(reply),
        }
    }
}
