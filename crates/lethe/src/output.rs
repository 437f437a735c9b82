//! What the commands say on standard output: the only place that prints.

use std::io::{self, IsTerminal, Write};

/// Prints a line. A reader that went away (`lethe where | head`) is not an error.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{}", text.as_ref());
}

/// Tells a person something beside what the command prints, on standard error.
pub(crate) fn aside(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Prints text without a line end, at once.
pub(crate) fn text(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{}", text.as_ref());
    let _ = out.flush();
}

/// Text that somebody else wrote, without what would move the terminal's
/// cursor or turn the direction of what follows.
pub(crate) fn plain(text: &str) -> String {
    let harmless = |character: &char| {
        let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !turns && (!character.is_control() || matches!(character, '\n' | '\t'))
    };
    text.chars().filter(harmless).collect()
}

/// Prints a value as one line of JSON.
pub(crate) fn json(value: &impl serde::Serialize) {
    line(serde_json::to_string(value).expect("what we print has only string keys"));
}

/// Whether a person is looking.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// An error with its causes, outermost first; others may have written parts of it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    plain(&market::with_causes(error))
}
