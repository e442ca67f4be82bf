//! Databases without a driver: whether something is there that takes connections.

use std::time::Duration;

use tokio::time::timeout;

use super::contact;
use super::driver::Place;
use super::report::Failure;
use crate::wire_probe::looks_like;

/// How long a silent connection must stay open to count as reached.
const SILENCE: Duration = Duration::from_secs(2);

/// Connects and listens, and says what was found.
pub(super) async fn reach(place: &Place) -> Result<String, Failure> {
    let mut stream = contact::connect(place).await?;
    let mut words = Vec::new();
    let hearing = contact::hear(&mut stream, &mut words, |words| words.len() >= 4);
    let is_silent = timeout(SILENCE, hearing).await.is_err();
    let database = &place.database;
    match (looks_like(&words), is_silent) {
        (None, false) if words.is_empty() => Err(contact::hung_up(place)),
        (Some(seen), _) => Ok(format!("{database} answers, and looks like {seen}")),
        (None, true) if words.is_empty() => Ok(format!(
            "the connection to {database} stays open, and the other side waits"
        )),
        (None, _) => Ok(format!("{database} answers")),
    }
}
