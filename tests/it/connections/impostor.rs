//! A server that speaks just enough of PostgreSQL to be told a password: it asks for it in clear.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const SSL_REQUEST: [u8; 4] = [0x04, 0xd2, 0x16, 0x2f];
const ASK_FOR_PASSWORD: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];

/// It runs until the test's process ends.
pub struct Impostor {
    pub port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Impostor {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let impostor = Impostor {
            port: listener.local_addr().expect("an address").port(),
            heard: Arc::default(),
        };
        let heard = Arc::clone(&impostor.heard);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = Arc::clone(&heard);
                // A client that goes away early is no failure of the test.
                thread::spawn(move || drop(listen(stream, &heard)));
            }
        });
        impostor
    }

    /// Whether anybody has sent these words.
    pub fn has_heard(&self, words: &str) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .windows(words.len())
            .any(|window| window == words.as_bytes())
    }
}

fn listen(mut stream: TcpStream, heard: &Mutex<Vec<u8>>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        let sent = &buffer[..count];
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(sent);
        match sent {
            [] => return Ok(()),
            [_, _, _, 8, request @ ..] if request == SSL_REQUEST => stream.write_all(b"N")?,
            [b'p', ..] => return Ok(()),
            _ => stream.write_all(&ASK_FOR_PASSWORD)?,
        }
    }
}
