//! The outer form of JSON-RPC 2.0: one request or a batch, their arguments, and
//! the answers. Everything is counted while it is read, so that a body of five
//! megabytes can't unfold into hundreds.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::error::RpcError;

/// Requests in one batch; the same as geth's.
pub(crate) const BATCH_MAX: usize = 1_000;
/// Arguments of one request; no method has as many.
const PARAMS_MAX: usize = 8;

/// One request.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    /// `None` is a notification: it is carried out and not answered.
    #[serde(default, deserialize_with = "id")]
    pub(crate) id: Option<Box<RawValue>>,
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) params: Option<Box<RawValue>>,
}

/// What came in one HTTP body.
#[derive(Debug)]
pub(crate) enum Body {
    One(Request),
    Many(Vec<Result<Request, RpcError>>),
}

impl Body {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, RpcError> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if first != Some(&b'[') {
            return Request::parse(bytes).map(Self::One);
        }
        let Bounded(many): Bounded<Box<RawValue>, BATCH_MAX> =
            serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
        if many.is_empty() {
            return Err(RpcError::Request("an empty batch".to_owned()));
        }
        let many = many.iter().map(|one| Request::parse(one.get().as_bytes()));
        Ok(Self::Many(many.collect()))
    }
}

impl Request {
    fn parse(bytes: &[u8]) -> Result<Self, RpcError> {
        serde_json::from_slice(bytes).map_err(|error| unreadable(&error))
    }
}

fn unreadable(error: &serde_json::Error) -> RpcError {
    if error.is_data() {
        RpcError::Request(error.to_string())
    } else {
        RpcError::Parse(error.to_string())
    }
}

/// Tells `"id": null` from no id, and refuses ids that aren't plain values.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    if raw.get().starts_with(['{', '[']) {
        return Err(D::Error::custom("id must be a string, a number or null"));
    }
    Ok(Some(raw))
}

/// The arguments of one request, taken one after the other.
#[derive(Debug)]
pub(crate) struct Params {
    values: std::vec::IntoIter<Box<RawValue>>,
    taken: usize,
}

impl Params {
    pub(crate) fn parse(raw: Option<&RawValue>) -> Result<Self, RpcError> {
        let values = match raw {
            None => Vec::new(),
            Some(raw) => {
                let Bounded(values): Bounded<Box<RawValue>, PARAMS_MAX> =
                    serde_json::from_str(raw.get()).map_err(|error| RpcError::Param {
                        index: 0,
                        name: "params",
                        why: format!("params must be an array: {error}"),
                    })?;
                values
            }
        };
        Ok(Self {
            values: values.into_iter(),
            taken: 0,
        })
    }

    /// The next argument; its absence is an error.
    pub(crate) fn required<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<T, RpcError> {
        let index = self.taken;
        self.optional(name)?
            .ok_or(RpcError::MissingParam { index, name })
    }

    /// The next argument, or `None` where it is absent or null.
    pub(crate) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, RpcError> {
        let index = self.taken;
        self.taken += 1;
        let Some(raw) = self.values.next() else {
            return Ok(None);
        };
        serde_json::from_str(raw.get()).map_err(|error| RpcError::Param {
            index,
            name,
            why: error.to_string(),
        })
    }
}

/// One answer.
#[derive(Debug, Serialize)]
pub(crate) struct Response<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RawValue>,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome<'a> {
    Result(&'a RawValue),
    Error(&'a RpcError),
}

impl<'a> Response<'a> {
    pub(crate) fn new(
        id: Option<&'a RawValue>,
        outcome: Result<&'a RawValue, &'a RpcError>,
    ) -> Self {
        let outcome = match outcome {
            Ok(result) => Outcome::Result(result),
            Err(error) => Outcome::Error(error),
        };
        Self {
            jsonrpc: "2.0",
            id,
            outcome,
        }
    }
}

/// A JSON array of at most `MOST` values.
struct Bounded<T, const MOST: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Bounded<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counting<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Counting<T, MOST> {
            type Value = Vec<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "an array of at most {MOST} values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Vec<T>, A::Error> {
                let mut taken = Vec::new();
                while let Some(value) = values.next_element()? {
                    if taken.len() == MOST {
                        return Err(A::Error::custom(format_args!("more than {MOST} values")));
                    }
                    taken.push(value);
                }
                Ok(taken)
            }
        }
        deserializer
            .deserialize_seq(Counting::<T, MOST>(PhantomData))
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_request_is_refused_with_the_right_code() {
        for (body, code) in [
            ("", -32700),
            ("{", -32700),
            ("nonsense", -32700),
            ("{}", -32600),
            ("7", -32600),
            ("[]", -32600),
            (r#"{"id":1}"#, -32600),
            (r#"{"id":1,"method":7}"#, -32600),
            (r#"{"id":{},"method":"m"}"#, -32600),
            (&"[".repeat(100_000), -32700),
            (&format!("[{}1]", "1,".repeat(BATCH_MAX)), -32600),
        ] {
            let error = Body::parse(body.as_bytes()).expect_err(body.get(..20).unwrap_or(body));
            assert_eq!(error.code(), code, "{error}");
        }
    }

    #[test]
    fn arguments_are_named_when_they_are_wrong() {
        let raw = RawValue::from_string(r#"["x", null]"#.to_owned()).expect("json");
        let mut params = Params::parse(Some(&raw)).expect("an array");
        let error = params
            .required::<u64>("count")
            .expect_err("a word is no number");
        assert!(
            error
                .to_string()
                .starts_with("invalid argument 0 (count): "),
            "{error}"
        );
        assert_eq!(
            params.optional::<u64>("second").expect("null is absence"),
            None
        );
        let error = params
            .required::<u64>("third")
            .expect_err("nothing is left");
        assert_eq!(
            error.to_string(),
            "missing value for required argument 2 (third)"
        );
    }

    #[test]
    fn an_absent_id_is_a_notification_and_a_null_id_is_not() {
        let parse = |body: &str| Request::parse(body.as_bytes()).expect("a request").id;
        assert!(parse(r#"{"method":"m"}"#).is_none());
        assert_eq!(
            parse(r#"{"method":"m","id":null}"#).expect("an id").get(),
            "null"
        );
    }
}
