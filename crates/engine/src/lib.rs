//! The embedded inference engine: GGUF files on candle.
