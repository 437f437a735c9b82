//! Reading what a journal holds.

use serde::de::DeserializeOwned;

/// Reads a line of a journal. All of it is looked at once whether it is UTF-8,
/// which takes much less time than at each string, and a start reads hundreds
/// of thousands of lines.
pub fn read_json<T: DeserializeOwned>(line: &[u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(line) {
        Ok(text) => serde_json::from_str(text),
        // This says where.
        Err(_) => serde_json::from_slice(line),
    }
}

#[cfg(test)]
mod tests {
    use super::read_json;

    #[test]
    fn what_is_no_text_is_an_error_that_says_where() {
        assert_eq!(read_json::<String>("\"é\"".as_bytes()).unwrap(), "é");
        let error = read_json::<String>(b"\"\xff\"").unwrap_err();
        assert!(error.to_string().contains("column"), "{error}");
        assert!(read_json::<u8>(b"3 \xff").is_err());
    }
}
