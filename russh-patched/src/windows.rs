//! A channel's receive window, opened by the application and by nothing else; and the tables of
//! channels, from which a closed one has to go.

use crate::server::Session;
use crate::session::Encrypted;
use crate::{ChannelId, Error, msg};

impl Encrypted {
    pub(crate) fn grant_window(&mut self, channel: ChannelId, bytes: u32) {
        let Some(channel) = self.channels.get_mut(&channel) else {
            return;
        };
        channel.sender_window_size = channel.sender_window_size.saturating_add(bytes);
        let mut packet = vec![msg::CHANNEL_WINDOW_ADJUST];
        packet.extend(channel.recipient_channel.to_be_bytes());
        packet.extend(bytes.to_be_bytes());
        self.write.extend((packet.len() as u32).to_be_bytes());
        self.write.extend(packet);
    }

    /// Takes received data off the window that the client was given, and opens none. In place of a
    /// function of russh's with these parameters and this answer.
    ///
    /// # Errors
    /// The client sent more than its window allows (RFC 4254, section 5.2).
    pub(crate) fn debit_window(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _target: u32,
    ) -> Result<bool, Error> {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.sender_window_size = u32::try_from(data.len())
                .ok()
                .and_then(|received| channel.sender_window_size.checked_sub(received))
                .ok_or(Error::Inconsistent)?;
        }
        Ok(false)
    }
}

impl Session {
    /// There are two tables of channels. russh takes a channel that is closed from here out of the
    /// first at once, and then never out of the second: what arrives for a channel that the first
    /// does not know is ignored, the client's own close included.
    pub(crate) fn forget_closed(&mut self, channel: ChannelId) {
        let is_open = self
            .common
            .encrypted
            .as_ref()
            .is_some_and(|encrypted| encrypted.channels.contains_key(&channel));
        if !is_open {
            self.channels.remove(&channel);
        }
    }
}

/// What of a packet that arrives during a key exchange counts towards russh's bound of such packets:
/// nothing of a channel's data, since that is bounded by the windows, which may be larger.
pub(crate) fn counted(packet: &[u8]) -> u32 {
    match packet.first() {
        Some(&(msg::CHANNEL_DATA | msg::CHANNEL_EXTENDED_DATA)) => 0,
        _ => packet.len() as u32,
    }
}
