//! A chat request's body, written field by field, and what several dialects
//! read alike.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;

use crate::carried::{put_field, quoted};
use crate::chat::BadRequest;
use crate::object::{Object, is_text, mismatch, parse};

/// An object that is being written.
#[derive(Default)]
pub(super) struct Written(BytesMut);

impl Written {
    pub(super) fn raw(&mut self, name: &str, json: &[u8]) -> &mut Self {
        put_field(&mut self.0, name, json);
        self
    }

    pub(super) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.raw(name, &quoted(text))
    }

    /// Copies fields that mean the same in a chat request; null is left out.
    pub(super) fn carry(&mut self, from: &Object<'_>, names: &[&str]) -> &mut Self {
        for name in names {
            if let Some(value) = from.find(name) {
                self.raw(name, value.get().as_bytes());
            }
        }
        self
    }

    /// Copies a field that has another name in a chat request.
    pub(super) fn carry_as(&mut self, from: &Object<'_>, name: &str, to: &str) -> &mut Self {
        if let Some(value) = from.find(name) {
            self.raw(to, value.get().as_bytes());
        }
        self
    }

    pub(super) fn finish(mut self) -> Bytes {
        if self.0.is_empty() {
            self.0.put_u8(b'{');
        }
        self.0.put_u8(b'}');
        self.0.freeze()
    }
}

/// An array that is being written.
#[derive(Default)]
pub(super) struct Listed(BytesMut);

impl Listed {
    pub(super) fn push(&mut self, json: &[u8]) {
        self.0.put_u8(if self.0.is_empty() { b'[' } else { b',' });
        self.0.put_slice(json);
    }

    /// A message of words alone.
    pub(super) fn say(&mut self, role: &str, words: &[u8]) {
        let mut message = Written::default();
        message.text("role", role).raw("content", words);
        self.push(&message.finish());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn finish(mut self) -> Bytes {
        if self.0.is_empty() {
            self.0.put_u8(b'[');
        }
        self.0.put_u8(b']');
        self.0.freeze()
    }
}

/// A function that the answer may call, as a chat request tells it.
pub(super) fn function_tool(tool: &Object<'_>, schema: &'static str) -> Result<Bytes, BadRequest> {
    let name = tool.string("name")?.filter(|name| !name.is_empty());
    let Some(name) = name else {
        return Err(tool.fault("name", "missing or empty; give the tool's name"));
    };
    let mut function = Written::default();
    function.text("name", &name);
    tool.text("description")?;
    function.carry(tool, &["description"]);
    tool.object(schema)?;
    if let Some(schema) = tool.find(schema) {
        function.raw("parameters", schema.get().as_bytes());
    }
    tool.boolean("strict")?;
    function.carry(tool, &["strict"]);
    let mut written = Written::default();
    written
        .text("type", "function")
        .raw("function", &function.finish());
    Ok(written.finish())
}

/// The choice of one tool by its name.
pub(super) fn named_choice(choice: &Object<'_>) -> Result<Bytes, BadRequest> {
    let Some(name) = choice.string("name")? else {
        return Err(choice.fault("name", "missing; give the name of a tool"));
    };
    let mut function = Written::default();
    function.text("name", &name);
    let mut written = Written::default();
    written
        .text("type", "function")
        .raw("function", &function.finish());
    Ok(written.finish())
}

/// A response format of this JSON schema.
pub(super) fn schema_format(name: &str, schema: &RawValue, strict: bool) -> Bytes {
    let mut inner = Written::default();
    inner
        .text("name", name)
        .raw("schema", schema.get().as_bytes())
        .raw("strict", if strict { b"true" } else { b"false" });
    let mut written = Written::default();
    written
        .text("type", "json_schema")
        .raw("json_schema", &inner.finish());
    written.finish()
}

/// Texts, as they stand in the request, as one; the one text stays as it is.
pub(super) fn joined(texts: &[&RawValue], between: &str) -> Result<Vec<u8>, BadRequest> {
    if let [one] = texts {
        return Ok(one.get().as_bytes().to_vec());
    }
    let texts = texts.iter().map(|text| parse("text", text, "a string"));
    let texts: Vec<String> = texts.collect::<Result<_, _>>()?;
    Ok(quoted(&texts.join(between)))
}

/// The text of a field that is a string, or a list of parts that are all text.
/// `kinds` are the types of a part that is text.
pub(super) fn texts<'a>(
    path: &str,
    value: &'a RawValue,
    kinds: &[&str],
) -> Result<Vec<&'a RawValue>, BadRequest> {
    match value.get().as_bytes().first() {
        Some(b'"') => Ok(vec![value]),
        Some(b'[') => {
            let parts = crate::object::elements(path, value)?;
            let parts = parts.iter().enumerate();
            let texts = parts
                .map(|(n, part)| text_part(&Object::open(format!("{path}[{n}]"), part)?, kinds));
            texts.collect()
        }
        _ => Err(mismatch(path, value, "a string or an array of parts")),
    }
}

/// The text of a part that can only be text.
pub(super) fn text_part<'a>(part: &Object<'a>, kinds: &[&str]) -> Result<&'a RawValue, BadRequest> {
    let allowed = kinds.join(", ");
    match part.string("type")? {
        Some(kind) if kinds.contains(&kind.as_str()) => {
            let missing = || part.fault("text", format!("missing; a part of type {kind} needs it"));
            let text = part.find("text").ok_or_else(missing)?;
            is_text(&part.path("text"), text)?;
            Ok(text)
        }
        Some(kind) => {
            let problem = format!("{kind:.60?} cannot be translated; allowed: {allowed}");
            Err(part.fault("type", problem))
        }
        None => Err(part.fault("type", format!("missing; allowed: {allowed}"))),
    }
}
