//! An object of a request, opened, and the rules that its fields can have.
//!
//! `null` counts as absent, as with OpenAI. A message names the field and
//! what is allowed; it shows a value only where it is a setting, never a
//! prompt.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use crate::chat::{BadRequest, MAX_BODY_BYTES};
use crate::json::{self, Elements, Fields, shown};

/// An opened object and where it is.
pub(crate) struct Object<'a> {
    path: String,
    fields: Fields<'a>,
}

impl<'a> Object<'a> {
    /// A request's body as a whole.
    pub(crate) fn whole(body: &'a [u8]) -> Result<Self, BadRequest> {
        if body.len() > MAX_BODY_BYTES {
            let problem = format!("{} bytes; at most {MAX_BODY_BYTES} are allowed", body.len());
            return Err(BadRequest::new(BadRequest::BODY, problem));
        }
        let whole = |problem: String| BadRequest::new(BadRequest::BODY, problem);
        let text = json::check(body).map_err(|error| whole(error.to_string()))?;
        let fields = serde_json::from_str(text)
            .map_err(|error| whole(format!("not a JSON object: {error}")))?;
        Ok(Self {
            path: String::new(),
            fields,
        })
    }

    /// The object that a value at this place is.
    pub(crate) fn open(path: impl Into<String>, value: &'a RawValue) -> Result<Self, BadRequest> {
        let path = path.into();
        let fields = parse_nested(&path, value, '{', "an object")?;
        Ok(Self { path, fields })
    }

    /// Its fields, in their order.
    pub(crate) fn into_fields(self) -> Vec<(String, &'a RawValue)> {
        self.fields.0
    }

    pub(crate) fn path(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    pub(crate) fn fault(&self, name: &str, problem: impl Into<String>) -> BadRequest {
        BadRequest::new(self.path(name), problem)
    }

    /// The value of a field; none if it is absent or null.
    pub(crate) fn find(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.find(name)
    }

    /// A value that Rust reads as it is.
    pub(crate) fn read<T: serde::Deserialize<'a>>(
        &self,
        name: &str,
        allowed: &str,
    ) -> Result<Option<T>, BadRequest> {
        match self.find(name) {
            Some(value) => parse(&self.path(name), value, allowed).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<String>, BadRequest> {
        self.read(name, "a string")
    }

    /// Whether there is a string, which may be long and is not read.
    pub(crate) fn text(&self, name: &str) -> Result<Option<()>, BadRequest> {
        match self.find(name) {
            Some(value) => is_text(&self.path(name), value).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, BadRequest> {
        self.read(name, "true or false")
    }

    pub(crate) fn one_of(
        &self,
        name: &str,
        allowed: &[&str],
    ) -> Result<Option<String>, BadRequest> {
        let list = allowed.join(", ");
        let found: Option<String> = self.read(name, &format!("one of {list}"))?;
        match found {
            Some(found) if !allowed.contains(&found.as_str()) => {
                Err(self.fault(name, format!("{}; allowed: {list}", shown(&found))))
            }
            found => Ok(found),
        }
    }

    pub(crate) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<(), BadRequest> {
        let allowed = format!("a number {}", from_to(&range));
        match self.read::<f64>(name, &allowed)? {
            Some(number) if !range.contains(&number) => {
                Err(self.fault(name, format!("{number}; allowed: {allowed}")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn integer(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, BadRequest> {
        let allowed = match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("a whole number {}", from_to(&range)),
        };
        match self.read::<u64>(name, &allowed)? {
            Some(number) if !range.contains(&number) => {
                Err(self.fault(name, format!("{number}; allowed: {allowed}")))
            }
            found => Ok(found),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Object<'a>>, BadRequest> {
        let Some(value) = self.find(name) else {
            return Ok(None);
        };
        Object::open(self.path(name), value).map(Some)
    }

    pub(crate) fn elements(&self, name: &str) -> Result<Option<Vec<&'a RawValue>>, BadRequest> {
        let Some(value) = self.find(name) else {
            return Ok(None);
        };
        elements(&self.path(name), value).map(Some)
    }
}

fn from_to<T: Display + PartialEq>(range: &RangeInclusive<T>) -> String {
    if range.start() == range.end() {
        return format!("equal to {}", range.start());
    }
    format!("from {} to {}", range.start(), range.end())
}

pub(crate) fn elements<'a>(
    path: &str,
    value: &'a RawValue,
) -> Result<Vec<&'a RawValue>, BadRequest> {
    let elements: Elements<'a> = parse_nested(path, value, '[', "an array")?;
    Ok(elements.0)
}

pub(crate) fn parse<'a, T: serde::Deserialize<'a>>(
    path: &str,
    value: &'a RawValue,
    allowed: &str,
) -> Result<T, BadRequest> {
    serde_json::from_str(value.get()).map_err(|_| mismatch(path, value, allowed))
}

/// Like [`parse`], but a value of the right kind may also be wrong inside.
fn parse_nested<'a, T: serde::Deserialize<'a>>(
    path: &str,
    value: &'a RawValue,
    opening: char,
    allowed: &str,
) -> Result<T, BadRequest> {
    if !value.get().starts_with(opening) {
        return Err(mismatch(path, value, allowed));
    }
    serde_json::from_str(value.get()).map_err(|error| BadRequest::new(path, error.to_string()))
}

pub(crate) fn is_text(path: &str, value: &RawValue) -> Result<(), BadRequest> {
    if value.get().starts_with('"') {
        return Ok(());
    }
    Err(mismatch(path, value, "a string"))
}

/// Shows what kind of value was found; the value itself only if it is no text.
pub(crate) fn mismatch(path: &str, value: &RawValue, allowed: &str) -> BadRequest {
    let text = value.get();
    let found = match text.as_bytes().first() {
        Some(b'"') => "a string".to_owned(),
        Some(b'[') => "an array".to_owned(),
        Some(b'{') => "an object".to_owned(),
        _ => shown(text).replace('"', ""),
    };
    BadRequest::new(path, format!("{found}; allowed: {allowed}"))
}
