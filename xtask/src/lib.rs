//! Tidy checks as tests.
