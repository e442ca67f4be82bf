//! A guide's text, taken apart for a page.

/// How far what is to be typed is indented.
const INDENTATION: &str = "     ";

/// A part of a guide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A paragraph that begins with a step's number.
    Step(String),
    /// Any other paragraph.
    Text(String),
    Typed(String),
}

/// The parts of a guide or of a piece of one, in their order. A guide's title is left out.
pub fn parts(guide: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut is_new = true;
    for line in guide.lines() {
        if line.trim().is_empty() {
            is_new = true;
            continue;
        }
        match (line.strip_prefix(INDENTATION), parts.last_mut()) {
            (Some(typed), Some(Part::Typed(text))) if !is_new => {
                text.push('\n');
                text.push_str(typed);
            }
            (Some(typed), _) => parts.push(Part::Typed(typed.to_owned())),
            (None, Some(Part::Step(text) | Part::Text(text))) if !is_new => {
                text.push(' ');
                text.push_str(line.trim());
            }
            (None, _) => parts.push(paragraph(line.trim().to_owned())),
        }
        is_new = false;
    }
    if matches!(parts.first(), Some(Part::Text(text)) if text.starts_with("By hand on ")) {
        parts.remove(0);
    }
    parts
}

fn paragraph(line: String) -> Part {
    let number = line.split_once(". ").map_or("", |(number, _)| number);
    if number.starts_with(|first: char| first.is_ascii_digit()) && number.len() <= 2 {
        Part::Step(line)
    } else {
        Part::Text(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_is_told_apart_line_by_line() {
        let guide = "By hand on Linux: Shop\n\n1. Make\n   a key:\n\n     mkdir \\\n       ~/x\n     ls\n\n   Then.\nEnd.";
        assert_eq!(
            parts(guide),
            [
                Part::Step("1. Make a key:".to_owned()),
                Part::Typed("mkdir \\\n  ~/x\nls".to_owned()),
                Part::Text("Then. End.".to_owned()),
            ]
        );
        assert_eq!(parts("\n\n"), []);
    }
}
