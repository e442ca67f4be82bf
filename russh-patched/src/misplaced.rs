//! Messages about channels that no honest client sends. russh passes over them; here they end the
//! session, so that its owner sees that something is wrong, and they are counted.

use crate::parsing::ChannelOpenConfirmation;
use crate::server::Session;
use crate::{ChannelParams, Error, msg};

impl Session {
    /// # Errors
    /// The message is about a channel that never was. One that was and is closed is another matter: what
    /// the client sent before it knew of that arrives late, and is passed over.
    pub(crate) fn check_channel(&self, packet: &[u8]) -> Result<(), Error> {
        let (Some(encrypted), Some((kind, rest))) = (&self.common.encrypted, packet.split_first())
        else {
            return Ok(());
        };
        if !(msg::CHANNEL_OPEN_CONFIRMATION..=msg::CHANNEL_FAILURE).contains(kind) {
            return Ok(());
        }
        let number = rest.first_chunk().ok_or(Error::Inconsistent)?;
        let ahead = u32::from_be_bytes(*number).wrapping_sub(encrypted.last_channel_id.0);
        // Numbers are given in their order, and begin again after the largest.
        if ahead.cast_signed() > 0 || u32::from_be_bytes(*number) == 0 {
            return Err(Error::Inconsistent);
        }
        Ok(())
    }
}

impl ChannelParams {
    /// # Errors
    /// It is confirmed already, or the client takes packets that hold nothing.
    pub(crate) fn confirm_once(&mut self, c: &ChannelOpenConfirmation) -> Result<(), Error> {
        if self.confirmed || c.maximum_packet_size == 0 {
            return Err(Error::Inconsistent);
        }
        self.confirm(c);
        Ok(())
    }
}
