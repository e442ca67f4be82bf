//! A question on a connection and what is heard in answer, bounded in bytes and time.

use std::io;

use super::Connection;
use crate::wire_probe::MOST_BYTES;

/// Why hearing came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Enough was heard.
    Enough,
    /// The other side hung up.
    HungUp,
    /// It says nothing more, and keeps the connection.
    Silence,
}

/// Asks, and hears until there is enough, the other side hangs up, the time is over, or [`MOST_BYTES`] are
/// there.
pub fn exchange(
    connection: &mut dyn Connection,
    question: &[u8],
    is_enough: impl Fn(&[u8]) -> bool,
) -> (Vec<u8>, End) {
    // A server of another kind may hang up while it is asked; what it said before is heard all the same.
    let _ = connection
        .write_all(question)
        .and_then(|()| connection.flush());
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while !is_enough(&answer) && answer.len() < MOST_BYTES {
        let room = buffer.len().min(MOST_BYTES - answer.len());
        match connection.read(&mut buffer[..room]) {
            Ok(0) => return (answer, End::HungUp),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return (answer, End::Silence),
            // A reset is how many a server hangs up on what it does not understand.
            Err(_) => return (answer, End::HungUp),
        }
    }
    (answer, End::Enough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_never_stops_talking_is_not_listened_to_for_ever() {
        let mut endless = io::Cursor::new(vec![0x4a; 1_000_000]);
        let (answer, end) = exchange(&mut endless, &[], |_| false);
        assert_eq!((answer.len(), end), (MOST_BYTES, End::Enough));
    }
}
