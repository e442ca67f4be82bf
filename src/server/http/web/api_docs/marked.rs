//! Words from the code's own documentation, in which backticks mark code.

use std::fmt;

use askama::filters::{Html, HtmlSafe, escape};

/// Such words.
pub struct Marked(pub String);

impl Marked {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.split('`').enumerate() {
            let part = escape(part, Html).map_err(|_| fmt::Error)?;
            match at % 2 {
                0 => write!(f, "{part}")?,
                _ => write!(f, "<code>{part}</code>")?,
            }
        }
        Ok(())
    }
}

// Every part is escaped above.
impl HtmlSafe for Marked {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_mark_code_and_nothing_else_is_markup() {
        let words = Marked("with `?force=<b>` at <once>".to_owned());
        assert_eq!(
            words.to_string(),
            "with <code>?force=&#60;b&#62;</code> at &#60;once&#62;"
        );
    }
}
