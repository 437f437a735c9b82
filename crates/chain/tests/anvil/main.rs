//! The client against the contracts on anvil.
