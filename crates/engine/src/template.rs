//! The file's own chat template: messages to the text the model was trained on.
//!
//! Templates are Jinja written for Python, so Python's string and list
//! methods are there, `tojson` writes as Python's `json.dumps` does, and
//! `raise_exception` ends in an error that the user sees. A template is a
//! stranger's program: it gets a bounded number of steps and can reach
//! nothing but the messages.

use std::sync::Arc;
use std::time::SystemTime;

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;
use serde_json::Value as Json;

use crate::calendar;

/// Tells the date to templates that put it into the prompt.
pub type Clock = fn() -> SystemTime;

/// Steps a template may take; a thousand messages need about a tenth of it.
const FUEL: u64 = 3_000_000;
/// What the environment knows the template by.
const NAME: &str = "chat";

/// What is used when a file has `<|im_start|>` tokens and no template.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Why a template could not be used or did not like the messages.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file has none, and no tokens to guess one from.
    #[error("metadata key \"tokenizer.chat_template\" is missing: this is not a chat model")]
    Missing,
    /// It does not parse.
    #[error("the file's chat template does not parse")]
    Syntax {
        /// What the parser says.
        #[source]
        source: Box<Error>,
    },
    /// It refused the messages in its own words.
    #[error("the model's chat template refuses this: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// It broke while rendering.
    #[error("the model's chat template failed")]
    Render {
        /// Where and why.
        #[source]
        source: Box<Error>,
    },
}

/// A parsed template.
pub(crate) struct Template {
    environment: Environment<'static>,
    takes_tools: bool,
    bos: String,
    eos: String,
}

/// What is rendered.
pub(crate) struct Prompt<'a> {
    pub(crate) messages: &'a [Json],
    pub(crate) tools: Option<&'a Json>,
    /// More variables, as in `chat_template_kwargs`.
    pub(crate) extra: Option<&'a serde_json::Map<String, Json>>,
}

impl Template {
    /// `source` is the file's template; without one, ChatML if `chatml` says
    /// that the vocabulary has its tokens.
    pub(crate) fn new(
        source: Option<&str>,
        chatml: bool,
        (bos, eos): (&str, &str),
        clock: Option<Clock>,
    ) -> Result<Self, TemplateError> {
        let source = match source {
            Some(source) => source,
            None if chatml => CHATML,
            None => return Err(TemplateError::Missing),
        };
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", raise_exception);
        if let Some(clock) = clock {
            environment.add_function("strftime_now", move |format: &str| {
                calendar::strftime(format, clock())
            });
        }
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|source| TemplateError::Syntax {
                source: Box::new(source),
            })?;
        Ok(Self {
            environment,
            takes_tools: source.contains("tools"),
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        })
    }

    /// Whether the template looks at tools at all.
    pub(crate) fn takes_tools(&self) -> bool {
        self.takes_tools
    }

    pub(crate) fn render(&self, prompt: &Prompt<'_>) -> Result<String, TemplateError> {
        let failed = |source: Error| match refusal(&source) {
            Some(message) => TemplateError::Refused { message },
            None => TemplateError::Render {
                source: Box::new(source),
            },
        };
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let base = context! {
            messages => prompt.messages,
            tools => prompt.tools,
            add_generation_prompt => true,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        let context = match prompt.extra {
            Some(extra) => context! { ..base, ..Value::from_serialize(extra) },
            None => base,
        };
        template.render(context).map_err(failed)
    }
}

/// Carries a template's own words through the engine's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(Arc<str>);

fn raise_exception(message: &str) -> Result<Value, Error> {
    let raised = Raised(message.into());
    Err(Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(raised))
}

/// The template's words, if it raised an exception itself.
fn refusal(error: &Error) -> Option<String> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<Raised>() {
            return Some(raised.0.to_string());
        }
        cause = current.source();
    }
    None
}

/// As Python's `json.dumps`: spaces after separators, `indent` on request,
/// and nothing escaped for HTML.
fn tojson(value: &Value, _arguments: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    /// Python allows any; templates use 2 or 4.
    const INDENT_MAX: usize = 16;

    let indent: Option<usize> = options.get("indent")?;
    // Python's other options change nothing for what templates pass here.
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<Value> = options.get("separators")?;
    let _: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;

    let mut bytes = Vec::new();
    let written = match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent.min(INDENT_MAX));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut bytes, formatter,
            ))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut bytes, Spaced,
        )),
    };
    let text = written.ok().and_then(|()| String::from_utf8(bytes).ok());
    text.map(Value::from_safe_string).ok_or_else(|| {
        Error::new(
            ErrorKind::BadSerialization,
            "value cannot be written as JSON",
        )
    })
}

/// One line, with Python's spaces.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(
        source: &str,
        messages: &[Json],
        tools: Option<&Json>,
    ) -> Result<String, TemplateError> {
        Template::new(Some(source), false, ("<s>", "</s>"), None)?.render(&Prompt {
            messages,
            tools,
            extra: None,
        })
    }

    #[test]
    fn python_methods_and_loop_controls_work() {
        let source = "{{ bos_token }}{% for m in messages %}\n    {%- if loop.index0 == 1 %}{% break %}{% endif %}\n{{ m['content'].strip().split('x')[-1].upper() }}{% endfor %}";
        let messages = [json!({"content": " axb "}), json!({"content": "c"})];
        assert_eq!(render(source, &messages, None).unwrap(), "<s>B");
    }

    #[test]
    fn tojson_writes_as_python_does() {
        let tools = json!([{"name": "f<é>", "n": 1, "x": null}]);
        assert_eq!(
            render("{{ tools | tojson }}", &[], Some(&tools)).unwrap(),
            r#"[{"name": "f<é>", "n": 1, "x": null}]"#
        );
        assert_eq!(
            render("{{ tools[0] | tojson(indent=2) }}", &[], Some(&tools)).unwrap(),
            "{\n  \"name\": \"f<é>\",\n  \"n\": 1,\n  \"x\": null\n}"
        );
    }

    #[test]
    fn a_template_may_refuse_in_its_own_words() {
        let refused = render("{{ raise_exception('roles must alternate') }}", &[], None);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the model's chat template refuses this: roles must alternate"
        );
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(matches!(
            render(endless, &[], None),
            Err(TemplateError::Render { .. })
        ));
    }

    #[test]
    fn the_date_is_there_only_with_a_clock() {
        let source = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}no date{% endif %}";
        assert_eq!(render(source, &[], None).unwrap(), "no date");
        let clock: Clock = || SystemTime::UNIX_EPOCH;
        let template = Template::new(Some(source), false, ("", ""), Some(clock)).unwrap();
        let prompt = Prompt {
            messages: &[],
            tools: None,
            extra: None,
        };
        assert_eq!(template.render(&prompt).unwrap(), "01 Jan 1970");
    }

    #[test]
    fn a_file_without_template_needs_chatml_tokens() {
        assert!(matches!(
            Template::new(None, false, ("", ""), None),
            Err(TemplateError::Missing)
        ));
        let template = Template::new(None, true, ("", ""), None).unwrap();
        let messages = [json!({"role": "user", "content": "hi"})];
        let prompt = Prompt {
            messages: &messages,
            tools: None,
            extra: None,
        };
        assert_eq!(
            template.render(&prompt).unwrap(),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
    }
}
