//! What a request prefers: OpenRouter's `provider` object, `models` and the
//! suffixes `:nitro` and `:floor`, read and checked.
//!
//! Providers are named by their account, or by a name that the node has for one of them. Caps on prices are for a million
//! tokens or for the whole request, in dollars or in a token that is paid with.
//! What contradicts itself is refused, not guessed at, and so is a field that
//! we do not know: a preference that is silently not heeded helps nobody.

use core::fmt;

use market::{Address, Amount, Demand, Stated, Tender, Upstream};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::names::Names;

/// How offers are ordered where something else than the whole cost counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// The cheapest first. `:floor`.
    Price,
    /// The fastest tokens first. `:nitro`.
    Throughput,
    /// The soonest first token first.
    Latency,
}

/// The precision of a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantization {
    /// 4-bit integers.
    Int4,
    /// 8-bit integers.
    Int8,
    /// 4-bit floats.
    Fp4,
    /// 6-bit floats.
    Fp6,
    /// 8-bit floats.
    Fp8,
    /// 16-bit floats.
    Fp16,
    /// 16-bit floats with the exponent of 32.
    Bf16,
    /// 32-bit floats.
    Fp32,
    /// Not declared.
    Unknown,
}

impl Quantization {
    const ALL: [(&'static str, Self); 9] = [
        ("int4", Self::Int4),
        ("int8", Self::Int8),
        ("fp4", Self::Fp4),
        ("fp6", Self::Fp6),
        ("fp8", Self::Fp8),
        ("fp16", Self::Fp16),
        ("bf16", Self::Bf16),
        ("fp32", Self::Fp32),
        ("unknown", Self::Unknown),
    ];

    /// From what a card says: one of the words above, or a storage type of
    /// GGUF. What lies between two words is neither: unknown.
    pub fn declared(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let known = Self::ALL.iter().find(|(word, _)| *word == text);
        if let Some((_, known)) = known {
            return *known;
        }
        match text.as_str() {
            "f32" => Self::Fp32,
            "f16" => Self::Fp16,
            text if is_gguf(text, "8") => Self::Int8,
            text if is_gguf(text, "4") => Self::Int4,
            _ => Self::Unknown,
        }
    }
}

/// Whether it is a storage type of so many bits: `q4_0`, `q4_k_m`, `iq4_xs`.
fn is_gguf(text: &str, bits: &str) -> bool {
    let text = text.strip_prefix('i').unwrap_or(text);
    let rest = text
        .strip_prefix('q')
        .and_then(|text| text.strip_prefix(bits));
    rest.is_some_and(|rest| rest.starts_with('_'))
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, known)| known == self);
        f.write_str(name.map_or("unknown", |(name, _)| name))
    }
}

/// Caps on prices, in base units of what prices are compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MaxPrice {
    /// Of a million tokens of the request.
    pub prompt: Option<Amount>,
    /// Of a million tokens of the answer.
    pub completion: Option<Amount>,
    /// Of both together, as estimated.
    pub request: Option<Amount>,
}

/// Who may answer, and who first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preferences {
    /// Asked first, in this order.
    pub order: Vec<Address>,
    /// Nobody else.
    pub only: Option<Vec<Address>>,
    /// Never.
    pub ignore: Vec<Address>,
    /// What counts in place of the whole cost.
    pub sort: Option<Sort>,
    /// Whether others are asked when those of `order`, or the first one, do not answer.
    pub allow_fallbacks: bool,
    /// Caps.
    pub max_price: MaxPrice,
    /// Precisions that are allowed.
    pub quantizations: Option<Vec<Quantization>>,
    /// Whether somebody behind the provider may read along.
    pub allow_collection: bool,
    /// Only who declares that it heeds every field of the request.
    pub require_parameters: bool,
}

impl Default for Preferences {
    /// Everybody may answer, others are asked when one does not.
    fn default() -> Self {
        Self {
            order: Vec::new(),
            only: None,
            ignore: Vec::new(),
            sort: None,
            allow_fallbacks: true,
            max_price: MaxPrice::default(),
            quantizations: None,
            allow_collection: true,
            require_parameters: false,
        }
    }
}

/// What a request says of routing: which models, in order, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// Names of models, the first choice first; without suffixes.
    pub models: Vec<String>,
    /// The rest.
    pub preferences: Preferences,
}

/// A preference that cannot be heeded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct PreferenceError {
    /// Which field.
    pub field: String,
    /// What is there, and what is allowed.
    pub problem: String,
}

type Read<T> = Result<T, PreferenceError>;

/// What holds where a request says nothing of it: a `provider` object that
/// is right by itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Defaults(Map<String, Value>);

impl Defaults {
    /// Checks them as a request's are.
    pub fn read(provider: &Value) -> Read<Self> {
        match provider {
            Value::Null => Ok(Self::default()),
            Value::Object(fields) => {
                // In what a node pays and whom it has names for is not known here.
                let (any, none) = (Tender::default(), Names::default());
                Preferences::of(fields, (&any, &none)).map(|_| Self(fields.clone()))
            }
            other => Err(mismatch("provider", other, "an object")),
        }
    }

    /// The object.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// What a request says over these: it wins field by field, within
    /// `max_price` too. A null says nothing.
    fn under(&self, said: Map<String, Value>, suffix: bool) -> Map<String, Value> {
        let says = |name: &str| said.get(name).is_some_and(|value| !value.is_null());
        let sorts = says("sort");
        let mut merged = self.0.clone();
        for (name, value) in said {
            match (merged.get_mut(&name), value) {
                (Some(_), Value::Null) => {}
                (Some(Value::Object(below)), Value::Object(above)) => {
                    below.extend(above.into_iter().filter(|(_, value)| !value.is_null()));
                }
                (_, value) => {
                    merged.insert(name, value);
                }
            }
        }
        // Where the request orders in another way, a default does not stand against it.
        let named = merged.get("order").and_then(Value::as_array);
        let decided = named.is_some_and(|order| !order.is_empty())
            && merged.get("allow_fallbacks") == Some(&Value::Bool(false));
        if !sorts && (suffix || decided) {
            merged.remove("sort");
        }
        merged
    }
}

/// Providers that may be named in one list.
const NAMED_MAX: usize = 64;
/// Models that may be named behind the first.
const MODELS_MAX: usize = 8;
const SORTS: [(&str, Sort); 3] = [
    ("price", Sort::Price),
    ("throughput", Sort::Throughput),
    ("latency", Sort::Latency),
];
const SUFFIXES: [(&str, Sort); 2] = [(":nitro", Sort::Throughput), (":floor", Sort::Price)];

impl Wishes {
    /// Reads a request's `model`, and its `provider` and `models` as JSON text
    /// where they are there, over what holds by default; caps on prices as
    /// `tender` compares them, providers called as `names` says.
    pub fn read(
        model: &str,
        provider: Option<&str>,
        models: Option<&str>,
        (defaults, tender, names): (&Defaults, &Tender, &Names),
    ) -> Read<Self> {
        let known = (tender, names);
        let (name, suffix) = plain(model);
        let said = match provider.map(|text| json("provider", text)).transpose()? {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(other) => return Err(mismatch("provider", &other, "an object")),
        };
        let mut preferences = match defaults.0.is_empty() {
            true => Preferences::of(&said, known)?,
            false => {
                let merged = defaults.under(said, suffix.is_some());
                Preferences::of(&merged, known).map_err(|error| PreferenceError {
                    problem: format!("{}; the key's defaults count, too", error.problem),
                    ..error
                })?
            }
        };
        let mut wished = vec![name.to_owned()];
        for name in named_models(models)? {
            let (name, other) = plain(&name);
            if other.is_some() && other != suffix {
                let problem = "a suffix that the first model does not have; \
                               allowed: the same suffix on all of them, or provider.sort";
                return Err(fault("models", problem));
            }
            if !wished.iter().any(|before| before == name) {
                wished.push(name.to_owned());
            }
        }
        if let Some((text, sort)) = suffix {
            if preferences.sort.is_some_and(|other| other != sort) {
                let problem =
                    format!("contradicts {text:?} behind the model's name; give one of them");
                return Err(fault("provider.sort", problem));
            }
            preferences.sort = Some(sort);
        }
        Ok(Self {
            models: wished,
            preferences,
        })
    }
}

/// A name without its suffix, and what that means.
fn plain(model: &str) -> (&str, Option<(&'static str, Sort)>) {
    for (text, sort) in SUFFIXES {
        if let Some(name) = model.strip_suffix(text).filter(|name| !name.is_empty()) {
            return (name, Some((text, sort)));
        }
    }
    (model, None)
}

fn named_models(models: Option<&str>) -> Read<Vec<String>> {
    let value = models.map(|text| json("models", text)).transpose()?;
    let names = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(value) => texts("models", &value)?,
    };
    if names.len() > MODELS_MAX {
        let problem = format!("{} names; at most {MODELS_MAX} are allowed", names.len());
        return Err(fault("models", problem));
    }
    match names.iter().position(|name| name.trim().is_empty()) {
        Some(n) => Err(fault(format!("models[{n}]"), "empty; give a model's name")),
        None => Ok(names),
    }
}

impl Preferences {
    const FIELDS: [&'static str; 9] = [
        "order",
        "only",
        "ignore",
        "sort",
        "allow_fallbacks",
        "max_price",
        "quantizations",
        "data_collection",
        "require_parameters",
    ];

    /// What `allow_collection` comes to: nobody reads along.
    pub(crate) fn collection(&self) -> Demand {
        Demand {
            upstream: (!self.allow_collection).then_some(Upstream::OwnEngine),
            ..Demand::default()
        }
    }

    fn of(fields: &Map<String, Value>, (tender, names): (&Tender, &Names)) -> Read<Self> {
        if let Some(name) = fields
            .keys()
            .find(|name| !Self::FIELDS.contains(&name.as_str()))
        {
            let name: String = name.chars().take(40).collect();
            let allowed = Self::FIELDS.join(", ");
            let problem = format!("unknown field {name:?}; allowed: {allowed}");
            return Err(fault("provider", problem));
        }
        let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let accounts = |name: &str| {
            let named = given(name);
            named.map(|value| accounts(name, value, names)).transpose()
        };
        let flag = |name: &str| given(name).map(|value| flag(name, value)).transpose();
        let order = accounts("order")?;
        let preferences = Self {
            order: order.clone().unwrap_or_default(),
            only: accounts("only")?,
            ignore: accounts("ignore")?.unwrap_or_default(),
            sort: given("sort")
                .map(|value| one_of("provider.sort", value, &SORTS))
                .transpose()?,
            allow_fallbacks: flag("allow_fallbacks")?.unwrap_or(true),
            max_price: given("max_price")
                .map(|value| max_price(value, tender))
                .transpose()?
                .unwrap_or_default(),
            quantizations: given("quantizations").map(quantizations).transpose()?,
            allow_collection: given("data_collection")
                .map(|value| {
                    let allowed = [("allow", true), ("deny", false)];
                    one_of("provider.data_collection", value, &allowed)
                })
                .transpose()?
                .unwrap_or(true),
            require_parameters: flag("require_parameters")?.unwrap_or(false),
        };
        preferences.agree(order.is_some())?;
        Ok(preferences)
    }

    /// That they do not contradict each other.
    fn agree(&self, has_order: bool) -> Read<()> {
        let only = self.only.as_deref();
        if only.is_some_and(<[_]>::is_empty) {
            return Err(fault(
                "provider.only",
                "empty: nobody could answer; name one, or leave it out",
            ));
        }
        let both = |list: &[Address]| list.iter().find(|one| self.ignore.contains(one)).copied();
        for (name, list) in [("only", only.unwrap_or_default()), ("order", &self.order)] {
            if let Some(account) = both(list) {
                let problem =
                    format!("provider.ignore names {account} too; name it in one of them");
                return Err(fault(format!("provider.{name}"), problem));
            }
        }
        let outside = |only: &[Address]| self.order.iter().find(|one| !only.contains(one)).copied();
        if let Some(account) = only.and_then(outside) {
            let problem = format!("{account} is not in provider.only; allowed: those that are");
            return Err(fault("provider.order", problem));
        }
        if has_order && self.order.is_empty() && !self.allow_fallbacks {
            let problem = "false, and provider.order is empty: nobody could answer; \
                           name one in it, or allow fallbacks";
            return Err(fault("provider.allow_fallbacks", problem));
        }
        if self.sort.is_some() && !self.order.is_empty() && !self.allow_fallbacks {
            let problem =
                "provider.order decides already, and no fallbacks are allowed; give one of them";
            return Err(fault("provider.sort", problem));
        }
        Ok(())
    }
}

fn fault(field: impl Into<String>, problem: impl Into<String>) -> PreferenceError {
    PreferenceError {
        field: field.into(),
        problem: problem.into(),
    }
}

fn json(field: &str, text: &str) -> Read<Value> {
    serde_json::from_str(text).map_err(|error| fault(field, error.to_string()))
}

fn mismatch(field: impl Into<String>, value: &Value, allowed: &str) -> PreferenceError {
    let shown: String = value.to_string().chars().take(60).collect();
    fault(field, format!("{shown}; allowed: {allowed}"))
}

fn flag(name: &str, value: &Value) -> Read<bool> {
    let field = || format!("provider.{name}");
    value
        .as_bool()
        .ok_or_else(|| mismatch(field(), value, "true or false"))
}

fn texts(field: &str, value: &Value) -> Read<Vec<String>> {
    let Value::Array(elements) = value else {
        return Err(mismatch(field, value, "an array of strings"));
    };
    let text = |(n, element): (usize, &Value)| match element {
        Value::String(text) => Ok(text.clone()),
        other => Err(mismatch(format!("{field}[{n}]"), other, "a string")),
    };
    elements.iter().enumerate().map(text).collect()
}

fn accounts(name: &str, value: &Value, names: &Names) -> Read<Vec<Address>> {
    let field = format!("provider.{name}");
    let texts = texts(&field, value)?;
    if texts.len() > NAMED_MAX {
        let problem = format!("{} providers; at most {NAMED_MAX} are allowed", texts.len());
        return Err(fault(field, problem));
    }
    let mut accounts: Vec<Address> = Vec::with_capacity(texts.len());
    for (n, text) in texts.iter().enumerate() {
        let account = names.account(text);
        let account = account.map_err(|problem| fault(format!("{field}[{n}]"), problem))?;
        if !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    Ok(accounts)
}

fn one_of<T: Copy>(field: &str, value: &Value, allowed: &[(&str, T)]) -> Read<T> {
    let found = value.as_str();
    let known = allowed.iter().find(|(name, _)| Some(*name) == found);
    known.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<_> = allowed.iter().map(|(name, _)| *name).collect();
        mismatch(field, value, &format!("one of {}", names.join(", ")))
    })
}

fn quantizations(value: &Value) -> Read<Vec<Quantization>> {
    let field = "provider.quantizations";
    let named = texts(field, value)?;
    if named.is_empty() {
        return Err(fault(
            field,
            "empty: nobody could answer; name one, or leave it out",
        ));
    }
    let known = |(n, text): (usize, String)| {
        one_of(
            &format!("{field}[{n}]"),
            &Value::String(text),
            &Quantization::ALL,
        )
    };
    named.into_iter().enumerate().map(known).collect()
}

fn max_price(value: &Value, tender: &Tender) -> Read<MaxPrice> {
    let Value::Object(caps) = value else {
        let allowed = "an object with prompt, completion, request";
        return Err(mismatch("provider.max_price", value, allowed));
    };
    let mut most = MaxPrice::default();
    for (name, value) in caps {
        let cap = match name.as_str() {
            "prompt" => &mut most.prompt,
            "completion" => &mut most.completion,
            "request" => &mut most.request,
            _ => {
                let name: String = name.chars().take(40).collect();
                let problem =
                    format!("unknown field {name:?}; allowed: prompt, completion, request");
                return Err(fault("provider.max_price", problem));
            }
        };
        let text = match value {
            Value::Null => continue,
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => String::new(),
        };
        let field = format!("provider.max_price.{name}");
        let Ok(stated) = text.parse::<Stated>() else {
            let allowed = "an amount (per million tokens; for request: in all), like 1.5, in the token that prices \
                           are compared in, or with its unit, like \"2 USDC\" or \"2 USD\"";
            return Err(mismatch(field, value, allowed));
        };
        let compared = tender.cap(&stated);
        *cap = Some(compared.map_err(|error| fault(field, error.to_string()))?);
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0x00000000000000000000000000000000000000aa";
    const B: &str = "0x00000000000000000000000000000000000000bb";

    /// Nothing by default, and caps in whatever.
    fn plain_defaults() -> (&'static Defaults, &'static Tender, &'static Names) {
        static PLAIN: std::sync::LazyLock<(Defaults, Tender, Names)> =
            std::sync::LazyLock::new(Default::default);
        (&PLAIN.0, &PLAIN.1, &PLAIN.2)
    }

    fn read(provider: &str) -> Read<Preferences> {
        over("null", "m", provider).map(|wishes| wishes.preferences)
    }

    /// A request for this model, with a key of these defaults.
    fn over(defaults: &str, model: &str, provider: &str) -> Read<Wishes> {
        let defaults = Defaults::read(&serde_json::from_str(defaults).unwrap())?;
        let (_, tender, names) = plain_defaults();
        Wishes::read(model, Some(provider), None, (&defaults, tender, names))
    }

    #[test]
    fn a_request_wins_over_defaults_field_by_field() {
        let defaults = format!(
            r#"{{"only":["{A}"],"sort":"price","max_price":{{"prompt":1,"completion":2}},"data_collection":"deny"}}"#
        );
        let said =
            r#"{"max_price":{"completion":3,"prompt":null},"sort":null,"data_collection":"allow"}"#;
        let preferences = over(&defaults, "m", said).unwrap().preferences;
        let mor = |n: u128| Some(Amount::new(n * 1_000_000_000_000_000_000));
        assert_eq!(preferences.only, Some(vec![A.parse().unwrap()]));
        assert_eq!(preferences.sort, Some(Sort::Price));
        assert_eq!(
            (
                preferences.max_price.prompt,
                preferences.max_price.completion
            ),
            (mor(1), mor(3))
        );
        assert!(preferences.allow_collection);
        let sorted =
            |model: &str, said: &str| over(&defaults, model, said).unwrap().preferences.sort;
        assert_eq!(sorted("m", r#"{"sort":"latency"}"#), Some(Sort::Latency));
        assert_eq!(sorted("m:nitro", "{}"), Some(Sort::Throughput));
        let order = format!(r#"{{"order":["{A}"],"allow_fallbacks":false}}"#);
        assert_eq!(sorted("m", &order), None);
        let error = over(&defaults, "m", &format!(r#"{{"ignore":["{A}"]}}"#)).unwrap_err();
        assert_eq!(error.field, "provider.only");
        assert!(
            error.problem.contains("the key's defaults count"),
            "{error}"
        );
    }

    #[test]
    fn defaults_are_checked_by_themselves() {
        for (bad, field) in [
            ("[]", "provider"),
            (r#"{"sorted":1}"#, "provider"),
            (r#"{"sort":"speed"}"#, "provider.sort"),
            (r#"{"only":[]}"#, "provider.only"),
        ] {
            assert_eq!(over(bad, "m", "{}").unwrap_err().field, field);
        }
    }

    fn refused(provider: &str) -> String {
        read(provider).unwrap_err().to_string()
    }

    #[test]
    fn a_cards_precision_is_one_of_the_words_or_unknown() {
        for (text, expected) in [
            ("int8", Quantization::Int8),
            ("FP8", Quantization::Fp8),
            ("Q8_0", Quantization::Int8),
            ("Q4_K_M", Quantization::Int4),
            ("IQ4_XS", Quantization::Int4),
            ("F16", Quantization::Fp16),
            ("BF16", Quantization::Bf16),
            ("F32", Quantization::Fp32),
            ("Q6_K", Quantization::Unknown),
            ("Q40", Quantization::Unknown),
            ("awq", Quantization::Unknown),
            ("", Quantization::Unknown),
        ] {
            assert_eq!(Quantization::declared(text), expected, "{text}");
        }
    }

    #[test]
    fn all_of_it_is_read() {
        let text = format!(
            r#"{{"order":["{A}"],"only":["{A}","{B}"],"ignore":[],"sort":"latency","allow_fallbacks":true,
                "max_price":{{"prompt":0.5,"completion":"2"}},"quantizations":["fp8","unknown"],
                "data_collection":"deny","require_parameters":true}}"#
        );
        let (a, b): (Address, Address) = (A.parse().unwrap(), B.parse().unwrap());
        let expected = Preferences {
            order: vec![a],
            only: Some(vec![a, b]),
            ignore: vec![],
            sort: Some(Sort::Latency),
            allow_fallbacks: true,
            max_price: MaxPrice {
                prompt: Some(Amount::new(500_000_000_000_000_000)),
                completion: Some(Amount::new(2_000_000_000_000_000_000)),
                request: None,
            },
            quantizations: Some(vec![Quantization::Fp8, Quantization::Unknown]),
            allow_collection: false,
            require_parameters: true,
        };
        assert_eq!(read(&text).unwrap(), expected);
        for nothing in ["null", "{}", r#"{"order":null,"sort":null}"#] {
            assert_eq!(read(nothing).unwrap(), Preferences::default());
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        let cases = [
            ("[]", "provider: []; allowed: an object"),
            (
                r#"{"sorted":1}"#,
                "provider: unknown field \"sorted\"; allowed: order,",
            ),
            (
                r#"{"sort":"speed"}"#,
                "provider.sort: \"speed\"; allowed: one of price, throughput, latency",
            ),
            (
                r#"{"order":"x"}"#,
                "provider.order: \"x\"; allowed: an array",
            ),
            (
                r#"{"order":["openai"]}"#,
                "provider.order[0]: \"openai\"; allowed: a provider's account",
            ),
            (r#"{"only":[3]}"#, "provider.only[0]: 3; allowed: a string"),
            (
                r#"{"allow_fallbacks":"no"}"#,
                "provider.allow_fallbacks: \"no\"; allowed: true or false",
            ),
            (
                r#"{"max_price":1}"#,
                "provider.max_price: 1; allowed: an object",
            ),
            (
                r#"{"max_price":{"image":1}}"#,
                "provider.max_price: unknown field \"image\"",
            ),
            (
                r#"{"max_price":{"prompt":-1}}"#,
                "provider.max_price.prompt: -1; allowed: an amount (per million",
            ),
            (
                r#"{"quantizations":["q4"]}"#,
                "provider.quantizations[0]: \"q4\"; allowed: one of int4",
            ),
            (
                r#"{"data_collection":"no"}"#,
                "provider.data_collection: \"no\"; allowed: one of allow, deny",
            ),
        ];
        for (text, expected) in cases {
            let told = refused(text);
            assert!(told.starts_with(expected), "{text}: {told}");
        }
        let many = serde_json::to_string(&vec![A; NAMED_MAX + 1]).unwrap();
        assert!(refused(&format!(r#"{{"order":{many}}}"#)).contains("at most 64"));
    }

    #[test]
    fn what_contradicts_itself_is_refused_and_both_sides_are_named() {
        let cases = [
            (
                format!(r#"{{"only":["{A}"],"ignore":["{A}"]}}"#),
                "provider.only",
                "provider.ignore",
            ),
            (
                format!(r#"{{"order":["{A}"],"ignore":["{A}"]}}"#),
                "provider.order",
                "provider.ignore",
            ),
            (
                format!(r#"{{"order":["{A}"],"only":["{B}"]}}"#),
                "provider.order",
                "provider.only",
            ),
            (
                r#"{"order":[],"allow_fallbacks":false}"#.to_owned(),
                "provider.allow_fallbacks",
                "provider.order",
            ),
            (
                format!(r#"{{"order":["{A}"],"allow_fallbacks":false,"sort":"price"}}"#),
                "provider.sort",
                "provider.order",
            ),
            (
                r#"{"only":[]}"#.to_owned(),
                "provider.only",
                "nobody could answer",
            ),
            (
                r#"{"quantizations":[]}"#.to_owned(),
                "provider.quantizations",
                "nobody could answer",
            ),
        ];
        for (text, field, other) in cases {
            let error = read(&text).unwrap_err();
            assert_eq!(error.field, field, "{text}");
            assert!(error.problem.contains(other), "{text}: {error}");
        }
        let error = Wishes::read(
            "m:floor",
            Some(r#"{"sort":"latency"}"#),
            None,
            plain_defaults(),
        )
        .unwrap_err();
        assert_eq!(error.field, "provider.sort");
        let error =
            Wishes::read("m:floor", None, Some(r#"["n:nitro"]"#), plain_defaults()).unwrap_err();
        assert_eq!(error.field, "models");
    }

    #[test]
    fn models_come_in_order_and_a_suffix_is_a_way_to_sort() {
        let wishes = Wishes::read(
            "a:nitro",
            None,
            Some(r#"["b:nitro","a","c"]"#),
            plain_defaults(),
        )
        .unwrap();
        assert_eq!(wishes.models, ["a", "b", "c"]);
        assert_eq!(wishes.preferences.sort, Some(Sort::Throughput));
        let wishes = Wishes::read("qwen2.5:7b", None, Some("null"), plain_defaults()).unwrap();
        assert_eq!(wishes.models, ["qwen2.5:7b"]);
        for bad in [
            r#""b""#,
            r#"[""]"#,
            "[1]",
            r#"["1","2","3","4","5","6","7","8","9"]"#,
        ] {
            let error = Wishes::read("a", None, Some(bad), plain_defaults()).unwrap_err();
            assert!(error.field.starts_with("models"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_cap_may_be_in_any_token_that_is_paid_with_or_in_dollars() {
        use market::{Accepted, UsdRate, UsdRates};
        let token = |n, decimals, name: &str| Accepted {
            token: Address::repeat_byte(n),
            decimals,
            names: vec![name.to_owned()],
        };
        let accepted = [token(1, 18, "MOR"), token(2, 6, "USDC")];
        let rate = |of: &Accepted, micro_usd| UsdRate {
            token: of.token,
            decimals: of.decimals,
            micro_usd,
            source: "a test".to_owned(),
            at: None,
        };
        let rates = vec![rate(&accepted[0], 2_000_000), rate(&accepted[1], 1_000_000)];
        let tender = Tender::new(&accepted, &UsdRates::new(rates));
        let read = |text: &str| {
            let provider = format!(r#"{{"max_price":{{"prompt":{text}}}}}"#);
            let defaults = Defaults::default();
            let over = (&defaults, &tender, &Names::default());
            let wishes = Wishes::read("m", Some(&provider), None, over)?;
            Read::Ok(wishes.preferences.max_price.prompt.unwrap().base_units())
        };
        for text in ["1", r#""1""#, r#""1 mor""#, r#""2 USDC""#, r#""2 USD""#] {
            assert_eq!(read(text), Ok(10_u128.pow(18)), "{text}");
        }
        for (text, told) in [
            (r#""2 dai""#, "one of MOR, USDC, USD"),
            (r#""USD""#, "allowed: an amount"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.field, "provider.max_price.prompt");
            assert!(error.problem.contains(told), "{error}");
        }
    }
    #[test]
    fn providers_may_be_called_by_name_wherever_they_are_named() {
        let (a, b): (Address, Address) = (A.parse().unwrap(), B.parse().unwrap());
        let named = [(a, "amber"), (b, "birch"), (a, "twin"), (b, "twin")];
        let names: Names = named
            .map(|(of, name)| (of, name.to_owned()))
            .into_iter()
            .collect();
        let read = |provider: &str| {
            let (defaults, tender, _) = plain_defaults();
            let over = (defaults, tender, &names);
            Wishes::read("m", Some(provider), None, over).map(|wishes| wishes.preferences)
        };
        let text = format!(r#"{{"order":["birch","{A}"],"only":["birch","amber","{A}"]}}"#);
        let preferences = read(&text).unwrap();
        assert_eq!(preferences.order, [b, a]);
        assert_eq!(preferences.only, Some(vec![b, a]));
        assert_eq!(read(r#"{"ignore":["amber"]}"#).unwrap().ignore, [a]);
        // By name and by account it is the same provider.
        let error = read(&format!(r#"{{"only":["amber"],"ignore":["{A}"]}}"#)).unwrap_err();
        assert_eq!(error.field, "provider.only");
        for field in ["order", "only", "ignore"] {
            let error = read(&format!(r#"{{"{field}":["amber","twin"]}}"#)).unwrap_err();
            assert_eq!(error.field, format!("provider.{field}[1]"));
            let told = &error.problem;
            assert!(
                told.contains(&a.to_string()) && told.contains(&b.to_string()),
                "{told}"
            );
        }
        // A key may be made before anybody has a name: its defaults take accounts alone.
        let error = Defaults::read(&serde_json::json!({"only": ["amber"]})).unwrap_err();
        assert_eq!(error.field, "provider.only[0]");
    }
}
