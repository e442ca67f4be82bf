//! One JSON object for each event, on standard output; the only thing that is written there.

use super::event::Event;
use super::{Screen, print, write_line};

pub(super) struct Json;

impl Screen for Json {
    fn show(&self, event: &Event) {
        match event {
            Event::CommandsToKnow(_) => {}
            // A line for each piece would tell nobody anything.
            Event::Download { bytes, total, .. } if bytes != total => {}
            Event::Trace { command, outcome } => write_line(&format!("+ {command} -> {outcome}")),
            // Events are made of texts and numbers, which JSON can hold.
            event => print(&serde_json::to_string(event).unwrap_or_default()),
        }
    }
}
