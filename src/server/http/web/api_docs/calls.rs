//! The calls, under the headings of who makes them.

use serde_json::Value;

use super::forms::{Kind, marked, members, text};
use super::marked::Marked;

/// Calls under one heading.
pub struct Group {
    pub name: String,
    pub words: Marked,
    pub calls: Vec<Call>,
}

/// A call.
pub struct Call {
    /// Its name, unique on the page.
    pub name: String,
    pub method: String,
    pub path: String,
    pub summary: String,
    pub words: Marked,
    /// Each of these opens it.
    pub credentials: Vec<String>,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub answers: Vec<Answer>,
}

/// A part of the path, the query or the header.
pub struct Parameter {
    pub name: String,
    pub place: String,
    pub kind: Kind,
    pub words: Marked,
}

/// What is sent or answered as JSON.
pub struct Body {
    pub kind: Kind,
    pub example: String,
}

/// An answer.
pub struct Answer {
    pub status: String,
    pub words: Marked,
    pub media_type: Option<String>,
    pub body: Option<Body>,
}

impl Answer {
    /// Whether it refuses.
    pub fn is_refusal(&self) -> bool {
        self.status.starts_with(['4', '5'])
    }
}

/// All calls of the document.
pub fn groups(document: &Value) -> Vec<Group> {
    let tags = document["tags"].as_array();
    tags.into_iter()
        .flatten()
        .map(|tag| Group {
            name: text(&tag["name"]),
            words: marked(&tag["description"]),
            calls: calls(document, &tag["name"]),
        })
        .collect()
}

fn calls(document: &Value, tag: &Value) -> Vec<Call> {
    let mut calls = Vec::new();
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item) {
            if operation["tags"][0] == *tag {
                calls.push(call(document, path, method, operation));
            }
        }
    }
    calls
}

fn call(document: &Value, path: &str, method: &str, operation: &Value) -> Call {
    let parameters = operation["parameters"].as_array();
    Call {
        name: text(&operation["operationId"]),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(&operation["summary"]),
        words: marked(&operation["description"]),
        credentials: credentials(&operation["security"]),
        parameters: parameters.into_iter().flatten().map(parameter).collect(),
        body: body(&operation["requestBody"]),
        answers: members(&operation["responses"])
            .map(|(status, answer)| self::answer(document, status, answer))
            .collect(),
    }
}

fn credentials(security: &Value) -> Vec<String> {
    let choices = security.as_array();
    choices
        .into_iter()
        .flatten()
        .map(|choice| {
            let names: Vec<_> = members(choice).map(|(n, _)| n.replace('_', " ")).collect();
            names.join(" and ")
        })
        .collect()
}

fn parameter(parameter: &Value) -> Parameter {
    Parameter {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        kind: Kind::of(&parameter["schema"]),
        words: marked(&parameter["description"]),
    }
}

fn body(message: &Value) -> Option<Body> {
    let content = message.pointer("/content/application~1json")?;
    let example = content.get("example")?;
    Some(Body {
        kind: Kind::of(&content["schema"]),
        example: format!("{example:#}"),
    })
}

fn answer(document: &Value, status: &str, answer: &Value) -> Answer {
    let shared = answer["$ref"].as_str().and_then(|place| {
        let name = place.rsplit('/').next()?;
        document["components"]["responses"].get(name)
    });
    let answer = shared.unwrap_or(answer);
    let media_type = members(&answer["content"]).next();
    Answer {
        status: status.to_owned(),
        words: marked(&answer["description"]),
        media_type: media_type.map(|(name, _)| name.to_owned()),
        body: body(answer),
    }
}
