//! Who knows the vendor's name: a name server with one name, which can fail, be slow, and change its mind.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::support::machines::Machine;

/// The vendor's name for bastions.
pub const VENDOR_NAME: &str = "tunnel.example";

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
/// An answer, from one who may be asked on behalf of others.
const ANSWER: u16 = 0x8180;
const SERVFAIL: u16 = 2;

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub enum Answers {
    /// With this address, after this time.
    With(Ipv4Addr, Duration),
    /// Not at all.
    Never,
    /// That it cannot.
    Failing,
}

/// A name server on a machine of its own. It ends with the test's process.
pub struct Resolver {
    answers: Arc<Mutex<Answers>>,
    _machine: Machine,
}

impl Resolver {
    /// Begins to answer.
    pub fn start(machine: Machine, first: Answers) -> Self {
        let inside = machine.enter();
        let socket = UdpSocket::bind((machine.address, 53)).expect("the name server's port");
        drop(inside);
        let answers = Arc::new(Mutex::new(first));
        let now = Arc::clone(&answers);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let how = *now.lock().unwrap_or_else(PoisonError::into_inner);
                let answer = answer(&question[..length], how);
                let socket = socket.try_clone().expect("a socket");
                // Whoever asks meanwhile does not wait for this one.
                std::thread::spawn(move || {
                    if let Answers::With(_, after) = how {
                        std::thread::sleep(after);
                    }
                    answer.map(|answer| socket.send_to(&answer, from))
                });
            }
        });
        Resolver {
            answers,
            _machine: machine,
        }
    }

    /// From now on it answers so.
    pub fn answer(&self, how: Answers) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = how;
    }
}

/// The answer to a question: its address where one is asked for, and no other record.
fn answer(question: &[u8], how: Answers) -> Option<Vec<u8>> {
    let name_length = question.get(HEADER..)?.iter().position(|byte| *byte == 0)?;
    let asked = HEADER + name_length + 1;
    let kind = u16::from_be_bytes(question.get(asked..asked + 2)?.try_into().ok()?);
    let (code, address) = match how {
        Answers::With(address, _) if kind == TYPE_A => (0, Some(address)),
        Answers::With(..) => (0, None),
        Answers::Failing => (SERVFAIL, None),
        Answers::Never => return None,
    };
    let mut answer = question.get(..2)?.to_vec();
    answer.extend((ANSWER | code).to_be_bytes());
    let counts = [1, u16::from(address.is_some()), 0, 0];
    answer.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
    answer.extend(question.get(HEADER..asked + 4)?);
    if let Some(address) = address {
        // The name of the question, A, IN, good for a second, four bytes.
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
