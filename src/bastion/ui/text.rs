//! Text as a terminal can show it: signs with and without Unicode, lines that fit.

use console::measure_text_width;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signs {
    pub done: &'static str,
    pub unchanged: &'static str,
    pub failed: &'static str,
    /// What follows comes of what stands before.
    pub arrow: &'static str,
    /// A horizontal line is made of these.
    pub rule: &'static str,
    /// The frames of the spinner; the last one stands for its end.
    pub spinner: &'static [&'static str],
    /// The full and the empty part of a bar.
    pub bar: &'static str,
}

/// For terminals that show Unicode.
pub const UNICODE: Signs = Signs {
    done: "✓",
    unchanged: "=",
    failed: "✗",
    arrow: "→",
    rule: "─",
    spinner: &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "],
    bar: "━╸ ",
};

/// For all others.
pub const ASCII: Signs = Signs {
    done: "+",
    unchanged: "=",
    failed: "x",
    arrow: "->",
    rule: "-",
    spinner: &["|", "/", "-", "\\", " "],
    bar: "#> ",
};

/// Breaks text into lines of at most `width` columns, at blanks. Further lines of a paragraph begin with
/// as many blanks as `indent` says; a word that is too long stays whole, so that it can be copied.
pub fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        if measure_text_width(paragraph) <= width {
            // As it is, with the blanks that make columns.
            lines.push(paragraph.to_owned());
            continue;
        }
        let begin = paragraph.len() - paragraph.trim_start().len();
        let mut line = paragraph[..begin].to_owned();
        let mut is_empty = true;
        for word in paragraph.split_whitespace() {
            let fits = measure_text_width(&line) + 1 + measure_text_width(word) <= width;
            if !is_empty && !fits {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_blanks_and_long_words_stay_whole() {
        assert_eq!(
            wrap("  1. one two three", 11, 5),
            ["  1. one", "     two", "     three"]
        );
        assert_eq!(
            wrap("/a/very/long/path now", 8, 0),
            ["/a/very/long/path", "now"]
        );
        assert_eq!(wrap("a\n\nb", 8, 2), ["a", "", "b"]);
    }

    proptest::proptest! {
        #[test]
        fn no_word_is_lost_and_no_line_is_wider_than_it_must_be(text in "[a-zé ]{0,120}", width in 10usize..60) {
            let lines = wrap(&text, width, 2);
            let joined = lines.join(" ");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            proptest::prop_assert_eq!(words(&joined), words(&text));
            for line in &lines {
                let single = line.split_whitespace().count() <= 1;
                proptest::prop_assert!(single || measure_text_width(line) <= width, "{:?}", line);
            }
        }
    }
}
