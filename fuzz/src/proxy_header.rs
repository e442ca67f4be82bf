//! The PROXY protocol: what is read does not depend on the pieces in which it arrives.

use holistics_tunnel::server::fuzzing::{ProxyHeader, proxy_header};

/// As the server reads: until it knows, or nothing more comes.
fn read_in_pieces(sent: &[u8], piece: usize) -> ProxyHeader {
    let ends = (piece..sent.len()).step_by(piece).chain([sent.len()]);
    for end in ends {
        match proxy_header(&sent[..end]) {
            ProxyHeader::Incomplete => {}
            ProxyHeader::Broken => return ProxyHeader::Broken,
            ProxyHeader::Read(client, mut rest) => {
                rest.extend_from_slice(&sent[end..]);
                return ProxyHeader::Read(client, rest);
            }
        }
    }
    ProxyHeader::Incomplete
}

pub fn run(input: &[u8]) {
    let Some((piece, sent)) = input.split_first() else {
        return;
    };
    let at_once = proxy_header(sent);
    if let ProxyHeader::Read(_, rest) = &at_once {
        assert!(sent.ends_with(rest), "bytes are lost");
    }
    // What is broken may be so known before, or after, all of it is there.
    if at_once != ProxyHeader::Broken {
        let piece = usize::from(*piece).max(1);
        assert_eq!(read_in_pieces(sent, piece), at_once, "in pieces of {piece}");
    }
}
