//! What a node tells, held against its OpenAPI document.
//!
//! Stricter than JSON Schema, and so no validator of that: a field that the
//! document does not have is a fault even where the schema is open, a keyword
//! that is not understood here is one too, and what no answer has shown is
//! counted. The plain schemas are tried by schemathesis, end to end.
//!
//! A validator's crate was looked at: boon (four crates more) says whether a
//! value is valid and not which field of which way it was, so that all but the
//! last two functions would stay; jsonschema draws thirteen crates.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::{Map, Value};

/// Words of a schema that say nothing of a value.
const WORDS: [&str; 4] = [
    "description",
    "example",
    "contentMediaType",
    "contentSchema",
];

/// The document, and which of its fields were seen in an answer.
pub(crate) struct Document {
    all: Value,
    seen: BTreeSet<String>,
}

/// The fields of an object, of all schemas that it has to meet.
#[derive(Default)]
struct Fields {
    /// Name, where the document has it, and its schema.
    named: Vec<(String, String, Value)>,
    required: Vec<String>,
    /// Of names that are not listed.
    others: Option<Value>,
}

impl Document {
    pub(crate) fn of_the_node() -> Self {
        let text = include_str!("../../openapi.json");
        let all = serde_json::from_str(text).unwrap();
        let seen = BTreeSet::new();
        Self { all, seen }
    }

    /// Fails where the value is not what the document says under this name.
    pub(crate) fn check(&mut self, name: &str, value: &Value) {
        let at = format!("/components/schemas/{name}");
        let schema = self.at(&at);
        match self.look(&schema, &at, value) {
            Ok(seen) => self.seen.extend(seen),
            Err(wrong) => panic!("{name}{wrong} in {value}"),
        }
    }

    /// Fields that the document has under these names and whatever they refer to, and that no answer had.
    pub(crate) fn unseen(&self, names: &[&str]) -> Vec<String> {
        let mut told = BTreeSet::new();
        let mut known = BTreeSet::new();
        for name in names {
            let at = format!("/components/schemas/{name}");
            self.fields_below(&self.at(&at), &at, &mut told, &mut known);
        }
        let seen = |field: &&String| !self.seen.contains(*field);
        let unseen = told.iter().filter(seen);
        let short = |field: &String| {
            let field = field.replace("/components/schemas/", "");
            field.replace("/properties", "").replace("/items", "")
        };
        unseen.map(short).collect()
    }

    fn at(&self, pointer: &str) -> Value {
        let found = self.all.pointer(pointer);
        found
            .unwrap_or_else(|| panic!("{pointer} is not in the document"))
            .clone()
    }

    /// Where a schema refers to, if it does.
    fn target<'a>(&self, schema: &'a Value) -> Option<&'a str> {
        schema["$ref"].as_str()?.strip_prefix('#')
    }

    /// The fields that were seen; or what is wrong, and where.
    fn look(&self, schema: &Value, at: &str, value: &Value) -> Result<Vec<String>, String> {
        if let Some(target) = self.target(schema) {
            return self.look(&self.at(target), target, value);
        }
        if let Some(ways) = schema["anyOf"].as_array() {
            let mut wrong = Vec::new();
            for (n, way) in ways.iter().enumerate() {
                match self.look(way, &format!("{at}/anyOf/{n}"), value) {
                    Ok(seen) => return Ok(seen),
                    Err(why) => wrong.push(why),
                }
            }
            return Err(format!(": none of {wrong:?}"));
        }
        if schema.get("allOf").is_some() || schema.get("properties").is_some() {
            let mut fields = Fields::default();
            self.gather(schema, at, &mut fields);
            let object = value.as_object().ok_or(": no object".to_owned())?;
            return self.look_into(&fields, at, object);
        }
        for (keyword, rule) in schema.as_object().unwrap() {
            if !meets(keyword, rule, value) {
                return Err(format!(": {value} is against {keyword} {rule}"));
            }
        }
        let mut seen = Vec::new();
        for (n, item) in value.as_array().into_iter().flatten().enumerate() {
            let items = schema.get("items").ok_or(": items are not told")?;
            let found = self.look(items, &format!("{at}/items"), item);
            seen.extend(found.map_err(|wrong| format!("[{n}]{wrong}"))?);
        }
        for (name, other) in value.as_object().into_iter().flatten() {
            let others = schema.get("additionalProperties");
            let others = others.ok_or(": fields are not told")?;
            if others != &Value::Bool(true) {
                let found = self.look(others, &format!("{at}/additionalProperties"), other);
                seen.extend(found.map_err(|wrong| format!(".{name}{wrong}"))?);
            }
        }
        Ok(seen)
    }

    fn look_into(
        &self,
        fields: &Fields,
        at: &str,
        object: &Map<String, Value>,
    ) -> Result<Vec<String>, String> {
        for name in &fields.required {
            if !object.contains_key(name) {
                return Err(format!(": required field {name} is missing"));
            }
        }
        let mut seen = Vec::new();
        for (name, value) in object {
            let named = fields.named.iter().find(|(known, ..)| known == name);
            let found = match (named, &fields.others) {
                (Some((_, at, schema)), _) => {
                    seen.push(at.clone());
                    self.look(schema, at, value)
                }
                (None, Some(Value::Bool(true))) => Ok(Vec::new()),
                (None, Some(schema)) => self.look(schema, at, value),
                (None, None) => Err(" is not in the document".to_owned()),
            };
            seen.extend(found.map_err(|wrong| format!(".{name}{wrong}"))?);
        }
        Ok(seen)
    }

    fn gather(&self, schema: &Value, at: &str, fields: &mut Fields) {
        if let Some(target) = self.target(schema) {
            return self.gather(&self.at(target), target, fields);
        }
        for (n, part) in schema["allOf"].as_array().into_iter().flatten().enumerate() {
            self.gather(part, &format!("{at}/allOf/{n}"), fields);
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}/properties/{name}");
            fields.named.push((name.clone(), at, schema.clone()));
        }
        let required = schema["required"].as_array().into_iter().flatten();
        let required = required.map(|name| name.as_str().unwrap().to_owned());
        fields.required.extend(required);
        if let Some(others) = schema.get("additionalProperties") {
            fields.others = Some(others.clone());
        }
    }

    /// All fields of what is below, each schema once.
    fn fields_below(
        &self,
        schema: &Value,
        at: &str,
        told: &mut BTreeSet<String>,
        known: &mut BTreeSet<String>,
    ) {
        if !known.insert(at.to_owned()) {
            return;
        }
        if let Some(target) = self.target(schema) {
            return self.fields_below(&self.at(target), target, told, known);
        }
        match schema {
            Value::Object(parts) => {
                for (name, part) in parts {
                    let at = format!("{at}/{name}");
                    if at.ends_with(&format!("/properties/{name}")) {
                        told.insert(at.clone());
                    }
                    self.fields_below(part, &at, told, known);
                }
            }
            Value::Array(parts) => {
                for (n, part) in parts.iter().enumerate() {
                    self.fields_below(part, &format!("{at}/{n}"), told, known);
                }
            }
            _ => {}
        }
    }
}

/// Whether a value is as one word of a schema wants it.
fn meets(keyword: &str, rule: &Value, value: &Value) -> bool {
    match keyword {
        "type" => match rule {
            Value::Array(kinds) => kinds.iter().any(|kind| is_a(kind, value)),
            kind => is_a(kind, value),
        },
        "const" => rule == value,
        "enum" => rule.as_array().unwrap().contains(value),
        "minimum" => value.is_null() || value.as_u64() >= rule.as_u64(),
        "pattern" => {
            let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
            value.as_str().is_none_or(|text| pattern.is_match(text))
        }
        "items" | "additionalProperties" => true,
        word => {
            assert!(WORDS.contains(&word), "{word} is not understood here");
            true
        }
    }
}

fn is_a(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        kind => panic!("{kind} is not understood here"),
    }
}

#[test]
#[should_panic(expected = "parts[0].colour is not in the document")]
fn a_field_that_is_not_told_is_found() {
    let part = serde_json::json!({
        "name": "n", "kind": "chain", "running": true, "detail": "", "colour": "red",
    });
    let state = serde_json::json!({ "parts": [part] });
    let mut document = Document::of_the_node();
    document.all["components"]["schemas"]["State"]["required"] = serde_json::json!([]);
    document.check("State", &state);
}

#[test]
#[should_panic(expected = "required field detail is missing")]
fn a_field_that_is_missing_is_found() {
    let part = serde_json::json!({ "name": "n", "kind": "chain", "running": true });
    Document::of_the_node().check("Part", &part);
}
