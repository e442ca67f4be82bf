//! What is changed in russh's published source: each text stands there exactly once, or the build
//! stops. What the new lines call is in `src/`.

/// One replacement in one file.
pub struct Change {
    /// Under russh's `src/`.
    pub file: &'static str,
    /// For the error that says that it does not fit.
    pub why: &'static str,
    pub published: &'static str,
    pub ours: &'static str,
}

pub const ALL: &[Change] = &[
    // Windows that follow the reader ------------------------------------------------------------
    Change {
        file: "server/session.rs",
        why: "orders have a message of their own",
        published: "    Channel(ChannelId, ChannelMsg),\n",
        ours: "    Channel(ChannelId, ChannelMsg),\n    Order(crate::orders::Order),\n",
    },
    Change {
        file: "server/session.rs",
        why: "orders are carried out",
        published: "            Msg::ChannelOpenReply { pending, result } => {\n",
        ours: "            Msg::Order(order) => self.obey(order)?,\n            Msg::ChannelOpenReply { pending, result } => {\n",
    },
    Change {
        file: "server/encrypted.rs",
        why: "data that arrives opens no window",
        published: "enc.adjust_window_size(channel_num, &data, target)?",
        ours: "enc.debit_window(channel_num, &data, target)?",
    },
    Change {
        file: "server/mod.rs",
        why: "windows bound what arrives during a key exchange",
        published: "session.pending_len.saturating_add(pkt.buffer.len() as u32)",
        ours: "session.pending_len.saturating_add(crate::windows::counted(&pkt.buffer))",
    },
    Change {
        file: "server/mod.rs",
        why: "the handler gets data that it can keep without a copy",
        published: "        channel: ChannelId,\n        data: &[u8],\n        session: &mut Session,\n    ) -> impl Future<Output = Result<(), Self::Error>> + Send {\n        async { Ok(()) }\n    }\n\n    /// Called when an extended data packet",
        ours: "        channel: ChannelId,\n        data: &bytes::Bytes,\n        session: &mut Session,\n    ) -> impl Future<Output = Result<(), Self::Error>> + Send {\n        async { Ok(()) }\n    }\n\n    /// Called when an extended data packet",
    },
    // Data is handed on without a copy ----------------------------------------------------------
    Change {
        file: "sshbuffer.rs",
        why: "a packet can be kept in parts",
        published: "pub(crate) struct IncomingSshPacket {\n    pub buffer: Vec<u8>,",
        ours: "pub(crate) struct IncomingSshPacket {\n    pub buffer: Bytes,",
    },
    Change {
        file: "server/session.rs",
        why: "a packet can be kept in parts (the server's, compressed)",
        published: "                    &mut decomp,\n                )?.into(),",
        ours: "                    &mut decomp,\n                )?.to_vec().into(),",
    },
    Change {
        file: "server/session.rs",
        why: "a packet can be kept in parts (the server's)",
        published: "                buffer: buffer.buffer[5..].into(),",
        ours: "                buffer: buffer.buffer[5..].to_vec().into(),",
    },
    Change {
        file: "client/mod.rs",
        why: "a packet can be kept in parts (the client's, compressed)",
        published: "                    &mut decomp,\n                )?.into(),",
        ours: "                    &mut decomp,\n                )?.to_vec().into(),",
    },
    Change {
        file: "client/mod.rs",
        why: "a packet can be kept in parts (the client's)",
        published: "                buffer: buffer.buffer[5..].into(),",
        ours: "                buffer: buffer.buffer[5..].to_vec().into(),",
    },
    Change {
        file: "server/session.rs",
        why: "a packet is taken out of the buffer that it was read into",
        published: "let mut pkt = self.maybe_decompress(&buffer)?;",
        ours: "let mut pkt = match self.take_packet(&mut buffer) {\n                        Some(packet) => packet,\n                        None => self.maybe_decompress(&buffer)?,\n                    };",
    },
    Change {
        file: "server/encrypted.rs",
        why: "a channel's data goes to the handler at once",
        published: "        self.process_packet(handler, &pkt.buffer).await\n",
        ours: "        if self.takes_data(handler, &pkt.buffer).await? {\n            return Ok(());\n        }\n        self.process_packet(handler, &pkt.buffer).await\n",
    },
    // Channels are opened once, and forgotten when they have closed -----------------------------
    Change {
        file: "server/session.rs",
        why: "a channel that we close leaves both tables",
        published: "            enc.close(channel)\n",
        ours: "            enc.close(channel)?;\n            self.forget_closed(channel);\n            Ok(())\n",
    },
    Change {
        file: "server/encrypted.rs",
        why: "a channel that the client closes after us leaves both tables",
        published: "            msg::CHANNEL_CLOSE => {\n                let channel_num = map_err!(ChannelId::decode(r))?;\n                map_err!(ensure_end(r))?;\n                if !self.common.is_established_channel(channel_num) {\n",
        ours: "            msg::CHANNEL_CLOSE => {\n                let channel_num = map_err!(ChannelId::decode(r))?;\n                map_err!(ensure_end(r))?;\n                if !self.common.is_established_channel(channel_num) {\n                    self.forget_closed(channel_num);\n",
    },
    // Messages out of place end a session ----------------------------------------------------------
    Change {
        file: "server/mod.rs",
        why: "a message for a channel that never was ends the session",
        published: "    session.server_read_encrypted(handler, pkt).await\n",
        ours: "    session.check_channel(&pkt.buffer)?;\n    session.server_read_encrypted(handler, pkt).await\n",
    },
    Change {
        file: "server/encrypted.rs",
        why: "a channel is confirmed once, and with packets that hold something",
        published: "parameters.confirm(&msg);",
        ours: "parameters.confirm_once(&msg)?;",
    },
    Change {
        file: "server/encrypted.rs",
        why: "a channel of a kind that is never opened is refused once, by the answer that is dropped",
        published: "            ChannelType::ForwardedStreamLocal(_) => {\n                if let Some(ref mut enc) = self.common.encrypted {\n                    msg.fail(\n                        &mut enc.write,\n                        msg::SSH_OPEN_ADMINISTRATIVELY_PROHIBITED,\n                        b\"Unsupported channel type\",\n                    )?;\n                }\n                Ok(())\n            }\n            ChannelType::AgentForward => {\n                if let Some(ref mut enc) = self.common.encrypted {\n                    msg.fail(\n                        &mut enc.write,\n                        msg::SSH_OPEN_ADMINISTRATIVELY_PROHIBITED,\n                        b\"Unsupported channel type\",\n                    )?;\n                }\n                Ok(())\n            }\n",
        ours: "            ChannelType::ForwardedStreamLocal(_) | ChannelType::AgentForward => Ok(()),\n",
    },
    Change {
        file: "server/encrypted.rs",
        why: "and so is one of an unknown kind",
        published: "                if let Some(ref mut enc) = self.common.encrypted {\n                    msg.unknown_type(&mut enc.write)?;\n                }\n",
        ours: "",
    },
    // Key exchanges that cost others nothing ----------------------------------------------------
    Change {
        file: "server/mod.rs",
        why: "the client's exchanges are paced",
        published: "        info!(\"Client has initiated re-key\");\n",
        ours: "        tokio::time::sleep(session.pause_before_exchange()?).await;\n",
    },
    Change {
        file: "server/kex.rs",
        why: "slow arithmetic leaves the sessions' threads",
        published: "kex.server_dh(exchange, &input.buffer)?;",
        ours: "let kex = crate::exchanges::server_dh(names.kex, &self.cause, kex, exchange, &input.buffer).await?;",
    },
    // ssh's default cipher, faster ---------------------------------------------------------------
    Change {
        file: "cipher/mod.rs",
        why: "chacha20-poly1305 is RustCrypto's",
        published: "static _CHACHA20_POLY1305: SshChacha20Poly1305Cipher = SshChacha20Poly1305Cipher {};",
        ours: "static _CHACHA20_POLY1305: crate::chacha20::OpenSshChaCha20Poly1305 =\n    crate::chacha20::OpenSshChaCha20Poly1305;",
    },
    // Less for an idle session to keep ----------------------------------------------------------
    Change {
        file: "server/session.rs",
        why: "the larger part of a session's future is boxed while it runs",
        published: "match reply(&mut self, &mut handler, &mut pkt).await {",
        ours: "match Box::pin(reply(&mut self, &mut handler, &mut pkt)).await {",
    },
];
