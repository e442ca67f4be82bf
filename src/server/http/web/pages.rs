//! From one page of a list to the next.

use serde::Deserialize;

use crate::server::domain::lists::Page;

/// What is asked of a list that has nothing but pages.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AskedPage {
    /// Where the page begins; empty at the newest.
    pub cursor: String,
}

/// The addresses of a list's neighbouring pages.
pub struct Pages {
    /// Of the newer ones.
    pub newer: Option<String>,
    /// Of the older ones.
    pub older: Option<String>,
}

impl Pages {
    /// Those of this page, if this is the address for a cursor.
    pub fn of<T>(page: &Page<T>, address: impl Fn(&str) -> String) -> Self {
        Pages {
            newer: page.newer.as_deref().map(&address),
            older: page.older.as_deref().map(&address),
        }
    }
}

/// The cursor in an address; an empty one is none.
pub fn cursor(sent: &str) -> Option<&str> {
    (!sent.is_empty()).then_some(sent)
}

/// A number with its thousands set apart.
pub fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_can_be_read() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (100_000, "100,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), shown);
        }
    }
}
