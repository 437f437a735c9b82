//! One binary that plays every role of the market.
