//! Whether the tunnel's port leads to something that answers.
//!
//! The port itself accepts every connection: it is the tunnel server's. If the bastion cannot
//! reach the database, the connection is closed at once. So connecting proves nothing; an answer
//! does, or for a database that waits for its client, that the connection stays open.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Failure, Target};
use crate::protocol::DatabaseType;

/// How long a silent connection must stay open to count as reached.
const SILENCE: Duration = Duration::from_secs(2);

/// The first words of a protocol.
struct Opening {
    /// What the client says first.
    send: &'static [u8],
    /// Whether the database must say something then.
    must_answer: bool,
}

fn opening(database_type: DatabaseType) -> Opening {
    let (send, must_answer): (&[u8], bool) = match database_type {
        // SSLRequest, answered with one byte; PostgreSQL's protocol, "SSL Session Encryption".
        DatabaseType::Postgresql | DatabaseType::Redshift => {
            (&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], true)
        }
        // The server greets first.
        DatabaseType::Mysql | DatabaseType::Mariadb => (&[], true),
        // Any HTTP answer will do.
        DatabaseType::Clickhouse => (b"GET /ping HTTP/1.0\r\n\r\n", true),
        DatabaseType::Sqlserver | DatabaseType::Other => (&[], false),
    };
    Opening { send, must_answer }
}

/// Connects, opens as the protocol does, and says what was found.
pub(super) async fn reach(target: &Target, through: SocketAddr) -> Result<String, Failure> {
    let opening = opening(target.database_type);
    let mut stream = match TcpStream::connect(through).await {
        Ok(stream) => stream,
        // The port accepted and the bastion's refusal came before this was looked at.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            return answered(target, Err(error));
        }
        Err(error) => return Err(not_listening(through, &error)),
    };
    let answer = listen(&mut stream, &opening);
    match opening.must_answer {
        true => answered(target, answer.await),
        false => match timeout(SILENCE, answer).await {
            Ok(answer) => answered(target, answer),
            Err(_) => Ok(format!(
                "the connection to {} stays open, and the other side waits",
                target.database
            )),
        },
    }
}

/// How many bytes the other side says, at most one; none is an end.
async fn listen(stream: &mut TcpStream, opening: &Opening) -> io::Result<usize> {
    stream.write_all(opening.send).await?;
    stream.read(&mut [0]).await
}

fn answered(target: &Target, answer: io::Result<usize>) -> Result<String, Failure> {
    match answer {
        Ok(1..) => Ok(format!("{} answers", target.database)),
        Ok(0) | Err(_) => Err(Failure {
            detail: format!(
                "the connection was closed at once: the bastion cannot reach {}, or it refuses",
                target.database
            ),
            remedy: format!(
                "On the bastion, look whether {} is right and open: `holistics-tunnel doctor` checks it. \
                 Host and port are as seen from the bastion.",
                target.database
            ),
        }),
    }
}

fn not_listening(through: SocketAddr, error: &io::Error) -> Failure {
    Failure {
        detail: format!("the tunnel's port {through} does not accept connections: {error}"),
        remedy: "The tunnel has just gone down; try again in a few seconds.".to_owned(),
    }
}
