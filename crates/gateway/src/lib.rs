//! The HTTP edge: the OpenAI dialect, keys, health, metrics.
