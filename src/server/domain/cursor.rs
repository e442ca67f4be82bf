//! Cursors: where a page of a list begins, in a word that a caller gives back as it got it. It is signed, so
//! that one that was made up or belongs to another list is told from one that was given.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::{Error, Result};
use super::secret::SecretKey;
use crate::server::store::Part;

/// A list that has pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    DataSources,
    /// The audit log.
    Audit,
    /// What happened to a data source.
    Events,
}

impl List {
    fn name(self) -> &'static [u8] {
        match self {
            List::DataSources => b"data-sources",
            List::Audit => b"audit",
            List::Events => b"events",
        }
    }
}

const AFTER: u8 = b'a';
const BEFORE: u8 = b'b';

/// The direction and a number, and after them as much of the signature as nobody guesses.
const PLACE_BYTES: usize = 9;
const SIGNATURE_BYTES: usize = 12;

/// The cursor that leads to the newer ones than this.
pub fn after(secret: &SecretKey, list: List, number: i64) -> String {
    cursor(secret, list, AFTER, number)
}

/// The cursor that leads to the older ones than this.
pub fn before(secret: &SecretKey, list: List, number: i64) -> String {
    cursor(secret, list, BEFORE, number)
}

fn cursor(secret: &SecretKey, list: List, direction: u8, number: i64) -> String {
    let mut bytes = vec![direction];
    bytes.extend(number.to_be_bytes());
    let signature = secret.cursor_signature(list.name(), &bytes);
    bytes.extend(&signature[..SIGNATURE_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Where a cursor leads.
///
/// # Errors
/// This server has not given it for this list.
pub fn place(secret: &SecretKey, list: List, cursor: &str) -> Result<Part> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor);
    let bytes = bytes.map_err(|_| Error::InvalidCursor)?;
    let (place, signature) = bytes
        .split_at_checked(PLACE_BYTES)
        .ok_or(Error::InvalidCursor)?;
    let own = secret.cursor_signature(list.name(), place);
    // A cursor opens nothing, so it does not matter how long the comparison takes.
    if own[..SIGNATURE_BYTES] != *signature {
        return Err(Error::InvalidCursor);
    }
    let (direction, number) = place.split_first().ok_or(Error::InvalidCursor)?;
    let number = number.try_into().map_err(|_| Error::InvalidCursor)?;
    let number = i64::from_be_bytes(number);
    Ok(match *direction {
        AFTER => Part::After(number),
        _ => Part::Before(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_to_its_place_in_its_own_list_alone() {
        let folder = tempfile::tempdir().unwrap();
        let secret = SecretKey::load_or_create(&folder.path().join("key")).unwrap();
        let other = SecretKey::load_or_create(&folder.path().join("other")).unwrap();
        for number in [1, 70_000, i64::MAX] {
            let cursor = after(&secret, List::DataSources, number);
            let place = |secret, list| place(secret, list, &cursor);
            assert_eq!(place(&secret, List::DataSources), Ok(Part::After(number)));
            assert_eq!(place(&secret, List::Audit), Err(Error::InvalidCursor));
            assert_eq!(place(&other, List::DataSources), Err(Error::InvalidCursor));
        }
        let older = before(&secret, List::Audit, 7);
        assert_eq!(place(&secret, List::Audit, &older), Ok(Part::Before(7)));
    }

    #[test]
    fn a_cursor_with_any_letter_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let secret = SecretKey::load_or_create(&folder.path().join("key")).unwrap();
        let cursor = after(&secret, List::DataSources, 4711);
        for at in 0..cursor.len() {
            for letter in ["A", "b", "-", "%", ""] {
                let changed = format!("{}{letter}{}", &cursor[..at], &cursor[at + 1..]);
                if changed != cursor {
                    let place = place(&secret, List::DataSources, &changed);
                    assert_eq!(place, Err(Error::InvalidCursor), "{changed}");
                }
            }
        }
    }
}
