//! A line that carries the beginning of a download and then nothing more, for as long as both ends hold it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// So much of an answer arrives.
const CARRIED: usize = 64 * 1024;

/// The address of such a line to the server at this `http` address. It ends with the test's process.
pub fn to(server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let server = server.trim_start_matches("http://").to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(server) = TcpStream::connect(&server) {
                let up = (clone(&client), clone(&server));
                thread::spawn(move || pump(up.0, up.1, usize::MAX));
                thread::spawn(move || pump(server, client, CARRIED));
            }
        }
    });
    url
}

fn clone(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a socket")
}

/// Carries so many bytes, loses the others, and closes one end when the other is closed.
fn pump(mut from: TcpStream, mut to: TcpStream, mut left: usize) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let carried = count.min(left);
        left -= carried;
        if to.write_all(&buffer[..carried]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
