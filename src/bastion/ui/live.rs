//! Lines on standard output that are written over when they change.

use std::io;

use console::Term;

/// Lines that are shown in place.
pub struct Live {
    /// Nothing where standard output is no terminal, or one that cannot move its cursor.
    term: Option<Term>,
    shown: Vec<String>,
}

impl Live {
    /// Shows nothing yet. Nothing is ever written over unless `may_move` says that it may.
    pub fn new(may_move: bool) -> Self {
        let term = Term::stdout();
        let moves = term.features().is_attended() && may_move;
        Live {
            term: moves.then_some(term),
            shown: Vec::new(),
        }
    }

    /// Whether lines are written over; if not, they would only pile up.
    pub fn is_in_place(&self) -> bool {
        self.term.is_some()
    }

    /// Shows these lines in place of the last ones. What does not fit in a line is cut off.
    pub fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let Some(term) = &self.term else {
            return Ok(());
        };
        let width = usize::from(term.size().1).max(1);
        term.clear_last_lines(self.shown.len())?;
        self.shown = lines
            .iter()
            .map(|line| console::truncate_str(line, width, "").into_owned())
            .collect();
        self.shown.iter().try_for_each(|line| term.write_line(line))
    }
}
