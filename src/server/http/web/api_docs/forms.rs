//! The forms of bodies: their fields and which values these take.

use serde_json::{Map, Value};

use super::marked::Marked;

/// What a body or a part of it looks like.
pub struct Form {
    pub name: String,
    pub words: Marked,
    /// Of an object.
    pub fields: Vec<Field>,
    /// Of everything else.
    pub kind: Kind,
}

/// A field of an object.
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub is_required: bool,
    pub words: Marked,
}

/// Which values there can be: in words, or by the name of a form.
pub struct Kind {
    /// Before the name: "list of", say.
    pub before: String,
    /// A form of this page.
    pub form: Option<String>,
    /// After it, or everything.
    pub words: String,
}

/// All forms of the document.
pub fn forms(document: &Value) -> Vec<Form> {
    members(&document["components"]["schemas"])
        .map(|(name, schema)| Form {
            name: name.to_owned(),
            words: marked(&schema["description"]),
            fields: fields(schema),
            kind: Kind::of(schema),
        })
        .collect()
}

fn fields(schema: &Value) -> Vec<Field> {
    let required = schema["required"].as_array();
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|n| n == name));
    members(&schema["properties"])
        .map(|(name, field)| Field {
            name: name.to_owned(),
            kind: Kind::of(field),
            is_required: is_required(name),
            words: words_of(field),
        })
        .collect()
}

/// A field that may be null has its words beside the form it may have.
fn words_of(field: &Value) -> Marked {
    match field.get("description") {
        Some(words) => marked(words),
        None => marked(&field["oneOf"][0]["description"]),
    }
}

impl Kind {
    /// The kind of a schema.
    pub fn of(schema: &Value) -> Self {
        if let Some(reference) = schema["$ref"].as_str() {
            return Kind {
                before: String::new(),
                form: reference.rsplit('/').next().map(str::to_owned),
                words: String::new(),
            };
        }
        if schema["type"] == "array" {
            let item = Kind::of(&schema["items"]);
            return Kind {
                before: format!("list of {}", item.before),
                ..item
            };
        }
        match schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            Some(choices) => one_of(choices),
            None => Kind::in_words(in_words(schema)),
        }
    }

    fn in_words(words: String) -> Self {
        Kind {
            before: String::new(),
            form: None,
            words,
        }
    }
}

/// One choice has a name at most, here.
fn one_of(choices: &[Value]) -> Kind {
    let kinds = choices.iter().map(Kind::of);
    let (named, others): (Vec<_>, Vec<_>) = kinds.partition(|kind| kind.form.is_some());
    let mut words: Vec<_> = others.into_iter().map(|kind| kind.words).collect();
    words.dedup();
    let words = words.join(" or ");
    match named.into_iter().next() {
        Some(named) => Kind {
            words: format!(" or {words}"),
            ..named
        },
        None => Kind::in_words(words),
    }
}

fn in_words(schema: &Value) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().map(text).collect();
        return values.join(", ");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().map(text).collect::<Vec<_>>().join(" or "),
        one => text(one),
    };
    let mut words = vec![types];
    if let Some(format) = schema["format"].as_str()
        && !format.starts_with("int")
    {
        words.push(format.to_owned());
    }
    words.extend(bounds(schema));
    words.join(", ")
}

fn bounds(schema: &Value) -> Option<String> {
    let bound = |name| schema.get(name).map(Value::to_string);
    match (bound("minimum"), bound("maximum"), bound("maxLength")) {
        (Some(least), Some(most), _) => Some(format!("{least} to {most}")),
        (Some(least), None, _) => Some(format!("{least} or more")),
        (None, Some(most), _) => Some(format!("at most {most}")),
        (None, None, Some(longest)) => Some(format!("at most {longest} characters")),
        (None, None, None) => None,
    }
}

/// The members of an object; nothing has none.
pub fn members(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object
        .as_object()
        .into_iter()
        .flat_map(Map::iter)
        .map(|(name, value)| (name.as_str(), value))
}

/// Words, or none.
pub fn marked(value: &Value) -> Marked {
    Marked(text(value))
}

/// A text, or nothing.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(schema: &Value) -> String {
        let kind = Kind::of(schema);
        let form = kind.form.unwrap_or_default();
        format!("{}{form}{}", kind.before, kind.words)
    }

    #[test]
    fn values_are_described_in_words() {
        let host = "#/components/schemas/Host";
        for (schema, words) in [
            (json!({ "$ref": host }), "Host"),
            (
                json!({ "oneOf": [{ "$ref": host }, { "type": "null" }] }),
                "Host or null",
            ),
            (
                json!({ "type": "array", "items": { "$ref": host } }),
                "list of Host",
            ),
            (
                json!({ "type": ["integer", "null"], "format": "int32", "minimum": 1, "maximum": 65535 }),
                "integer or null, 1 to 65535",
            ),
            (
                json!({ "type": "string", "maxLength": 64 }),
                "string, at most 64 characters",
            ),
            (
                json!({ "type": "string", "format": "date-time" }),
                "string, date-time",
            ),
            (
                json!({ "type": "string", "enum": ["up", "down"] }),
                "up, down",
            ),
            (
                json!({ "anyOf": [{ "type": "string", "format": "ipv4" }, { "type": "string", "format": "ipv6" }] }),
                "string, ipv4 or string, ipv6",
            ),
        ] {
            assert_eq!(shown(&schema), words, "{schema}");
        }
    }
}
