//! Wire types of the OpenAI-style API, an incremental SSE parser and writer. Pure.
