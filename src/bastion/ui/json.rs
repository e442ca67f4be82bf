//! One JSON object for each event, on standard output; the only thing that is written there.

use std::time::Duration;

use serde_json::json;

use super::{BadEnd, Outcome, PlannedStep, Screen, print, write_line};
use crate::bastion::receipt::StepName;

/// Shows a run as JSON.
pub(super) struct Json;

impl Screen for Json {
    fn note(&self, text: &str) {
        event(json!({"event": "note", "text": text}));
    }

    fn command_to_run(&self, _: &str, commands: &[String]) {
        event(json!({"event": "command", "commands": commands}));
    }

    fn plan(&self, _: &str, steps: &[PlannedStep], _: bool) {
        event(json!({"event": "plan", "steps": steps}));
    }

    fn step_begins(&self, name: StepName, _: &str) {
        event(json!({"event": "step", "name": name, "state": "started"}));
    }

    fn progress(&self, text: &str) {
        event(json!({"event": "progress", "text": text}));
    }

    fn download(&self, what: &str, done: u64, total: u64) {
        // A line for each piece would tell nobody anything.
        if done == total {
            event(json!({"event": "download", "what": what, "bytes": done}));
        }
    }

    fn step_ends(&self, name: StepName, outcome: Option<&Outcome>, took: Duration) {
        let (state, detail) = match outcome {
            Some(Outcome::Changed(detail)) => ("done", Some(detail)),
            Some(Outcome::AlreadyPresent(detail)) => ("unchanged", Some(detail)),
            None => ("failed", None),
        };
        let mut step = json!({
            "event": "step", "name": name, "state": state, "seconds": took.as_secs_f64(),
        });
        if let Some(detail) = detail {
            step["detail"] = json!(detail);
        }
        event(step);
    }

    fn return_to_browser(&self, _: &str, wait: Duration) {
        event(json!({"event": "waiting", "for": "save", "seconds": wait.as_secs()}));
    }

    fn commands_to_know(&self, _: &[(&str, String)]) {}

    fn finished(&self, _: &[String], data: serde_json::Value) {
        event(json!({"event": "finished", "result": data}));
    }

    fn failed(&self, end: &BadEnd) {
        event(json!({
            "event": "failed", "error": end.message, "next": end.advice, "exit": end.exit as i32,
            "log": end.log,
        }));
    }

    fn trace(&self, command: &str, outcome: &str) {
        write_line(&format!("+ {command} -> {outcome}"));
    }
}

fn event(value: serde_json::Value) {
    print(&value.to_string());
}
