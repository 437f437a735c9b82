//! What the commands say on standard output: the only place that prints.

use std::io::{self, IsTerminal, Write};

use market::Address;

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

/// Prints a value as one line of JSON, accounts in it with their checksums.
pub(crate) fn json(value: &impl serde::Serialize) {
    let text = serde_json::to_string(value).expect("what we print has only string keys");
    line(checksummed(&text));
}

/// An account as it is written everywhere: with its checksum. Another text as it is, as far as that is harmless.
pub(crate) fn account(text: &str) -> String {
    match text.parse::<Address>() {
        Ok(account) => account.to_string(),
        Err(_) => plain(text),
    }
}

/// JSON in which every text that is an account, also a key, has its checksum.
fn checksummed(json: &str) -> String {
    const DIGITS: usize = 40;
    const BEGINS: &str = "\"0x";
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find(BEGINS) {
        let begins = at + 1;
        let ends = begins + "0x".len() + DIGITS;
        let is_account = rest.as_bytes().get(ends) == Some(&b'"');
        let account = rest.get(begins..ends).filter(|_| is_account);
        match account.and_then(|text| text.parse::<Address>().ok()) {
            Some(account) => {
                out.push_str(&rest[..begins]);
                out.push_str(&account.to_string());
                rest = &rest[ends..];
            }
            None => {
                out.push_str(&rest[..begins]);
                rest = &rest[begins..];
            }
        }
    }
    out + rest
}

/// Whether a person is looking.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// An error with its causes, outermost first; others may have written parts of it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    plain(&market::with_causes(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_written_with_their_checksums_and_nothing_else_changes() {
        let (low, high) = (
            "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        );
        let json = |account: &str| {
            format!(
                r#"{{"{account}":1,"a":["{account}","0x12","{low}0","x {low}","0x{}é"]}}"#,
                "0".repeat(39)
            )
        };
        assert_eq!(checksummed(&json(low)), json(high));
        assert_eq!(account(low), high);
        assert_eq!(account("amber\u{1b}[2J"), "amber[2J");
    }
}
