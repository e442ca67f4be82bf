//! The shortest way of a channel's data from the packet to the handler: by far the most packets are of
//! this kind, and russh copies their bytes twice on the way.

use bytes::Bytes;

use crate::compression::Decompress;
use crate::server::{Handler, Session};
use crate::session::EncryptedState;
use crate::sshbuffer::{IncomingSshPacket, SSHBuffer};
use crate::{ChannelId, msg};

/// What stands before the payload of a packet: its length and the length of its padding.
const PACKET_HEAD: usize = 5;

/// What stands before the bytes of a CHANNEL_DATA: the message's number, the channel's number, and how
/// many bytes there are.
const DATA_HEAD: usize = 1 + 4 + 4;

impl Session {
    /// The packet that was read, without its head, unless it is compressed. The caller has seen that it
    /// is as long as that.
    pub(crate) fn take_packet(&self, buffer: &mut SSHBuffer) -> Option<IncomingSshPacket> {
        let is_plain = self
            .common
            .encrypted
            .as_ref()
            .is_none_or(|encrypted| matches!(encrypted.decompress, Decompress::None));
        is_plain.then(|| IncomingSshPacket {
            buffer: Bytes::from(std::mem::take(&mut buffer.buffer)).split_off(PACKET_HEAD),
            seqn: buffer.seqn,
        })
    }

    /// Hands a channel's data to the handler, and says whether that was what the packet held. Whatever
    /// is not as it should be is left to russh's own way.
    pub(crate) async fn takes_data<H: Handler + Send>(
        &mut self,
        handler: &mut H,
        packet: &Bytes,
    ) -> Result<bool, H::Error> {
        let Some((channel, data)) = channel_data(packet) else {
            return Ok(false);
        };
        let Some(encrypted) = self.common.encrypted.as_mut() else {
            return Ok(false);
        };
        if !matches!(encrypted.state, EncryptedState::Authenticated)
            || !encrypted.channels.get(&channel).is_some_and(|c| c.confirmed)
        {
            return Ok(false);
        }
        encrypted.debit_window(channel, &data, 0)?;
        handler.data(channel, &data, self).await?;
        Ok(true)
    }
}

/// The channel and the bytes of a CHANNEL_DATA (RFC 4254, section 5.2).
fn channel_data(packet: &Bytes) -> Option<(ChannelId, Bytes)> {
    let (head, data) = packet.split_at_checked(DATA_HEAD)?;
    let number = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    if *head.first()? != msg::CHANNEL_DATA || usize::try_from(number(5)?).ok()? != data.len() {
        return None;
    }
    Some((ChannelId(number(1)?), packet.slice(DATA_HEAD..)))
}
