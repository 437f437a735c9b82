//! Sells: registration, descriptor, admission, exchange, metering, backends, payment.
