//! Buys: catalog, choice, channels, exchange, payment.
