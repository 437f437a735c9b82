//! Fields of a request that go on as they came.

use bytes::{BufMut, Bytes, BytesMut};

use crate::object::Object;

/// Fields that are for the one who chooses providers, and for nobody behind.
const OURS: [&str; 2] = ["provider", "models"];

/// All fields of a request, in their order: names, and their values as JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Carried(Vec<(String, Bytes)>);

impl Carried {
    /// Those of a request that was read from this body.
    pub(crate) fn of(request: Object<'_>, body: &Bytes) -> Self {
        let fields = request.into_fields().into_iter();
        let fields = fields.map(|(name, value)| (name, body.slice_ref(value.get().as_bytes())));
        Self(fields.collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of a field; none if it is absent or null.
    pub(crate) fn find(&self, name: &str) -> Option<&Bytes> {
        let (_, value) = self.iter().find(|(found, _)| *found == name)?;
        (value != "null").then_some(value)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        core::str::from_utf8(self.find(name)?).ok()
    }

    /// Names of the fields that a backend has to heed, beyond those that every backend does.
    pub(crate) fn parameters(&self, everybodys: &[&str]) -> impl Iterator<Item = &str> {
        let names = self.iter().map(|(name, _)| name);
        names.filter(move |name| !everybodys.contains(name) && !OURS.contains(name))
    }

    /// Writes what a backend gets, but for fields in whose place something else was written.
    pub(crate) fn put(&self, out: &mut BytesMut, replaced: &[&str]) {
        for (name, value) in self.iter() {
            if !replaced.contains(&name) && !OURS.contains(&name) {
                put_field(out, name, value);
            }
        }
    }
}

/// Adds a field to an object that is being written; the first one opens it.
pub(crate) fn put_field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_u8(if out.is_empty() { b'{' } else { b',' });
    out.put_slice(&quoted(name));
    out.put_u8(b':');
    out.put_slice(value);
}

pub(crate) fn quoted(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a string is always JSON")
}
