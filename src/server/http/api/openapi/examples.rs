//! Examples of bodies, put together from those of their fields: they cannot fall behind the schemas.

use serde_json::{Map, Value};

/// Puts an example beside every JSON body of the document.
pub fn add(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    for operation in operations(document) {
        if let Some(body) = operation.get_mut("requestBody") {
            add_to(body, &schemas);
        }
        for answer in members(operation.get_mut("responses")) {
            add_to(answer, &schemas);
        }
    }
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    members(document.get_mut("paths"))
        .flat_map(|item| members(Some(item)))
        .filter_map(Value::as_object_mut)
}

fn members(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    let object = value.and_then(Value::as_object_mut);
    object.into_iter().flat_map(Map::values_mut)
}

fn add_to(message: &mut Value, schemas: &Value) {
    let content = message.pointer_mut("/content/application~1json");
    let Some(content) = content.and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(schema) = content.get("schema") {
        let example = example(schema, schemas);
        content.insert("example".to_owned(), example);
    }
}

/// A value of this schema.
fn example(schema: &Value, schemas: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return example(&schemas[name], schemas);
    }
    let first = |list: &str| schema[list].get(0);
    if let Some(value) = first("examples").or_else(|| first("enum")) {
        return value.clone();
    }
    if let Some(choice) = first("oneOf").or_else(|| first("anyOf")) {
        return example(choice, schemas);
    }
    match first("type").unwrap_or(&schema["type"]).as_str() {
        Some("object") => object(schema, schemas),
        Some("array") => Value::Array(vec![example(&schema["items"], schemas)]),
        Some("integer") => schema.get("minimum").cloned().unwrap_or(0.into()),
        Some("boolean") => true.into(),
        Some("string") if schema["format"] == "date-time" => "2026-01-31T09:30:00Z".into(),
        Some("string") => "…".into(),
        _ => Value::Null,
    }
}

fn object(schema: &Value, schemas: &Value) -> Value {
    let fields = schema["properties"].as_object();
    let fields = fields.into_iter().flatten();
    fields
        .map(|(name, field)| (name.clone(), example(field, schemas)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_gets_an_example_from_its_fields() {
        let body = json!({ "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Source" } } } });
        let mut document = json!({
            "components": { "schemas": {
                "Source": { "type": "object", "properties": {
                    "name": { "type": "string", "examples": ["Sales"] },
                    "kind": { "enum": ["mysql", "other"] },
                    "ports": { "type": "array", "items": { "type": ["integer", "null"], "minimum": 1 } },
                } },
            } },
            "paths": { "/sources": { "post": { "requestBody": body } } },
        });
        add(&mut document);
        let content =
            document.pointer("/paths/~1sources/post/requestBody/content/application~1json");
        assert_eq!(
            content.unwrap()["example"],
            json!({ "name": "Sales", "kind": "mysql", "ports": [1] })
        );
    }
}
