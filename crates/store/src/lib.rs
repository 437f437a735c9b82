//! Durable state: journals on SQLite with group commit.
