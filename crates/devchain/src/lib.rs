//! An EVM chain in the process (revm), spoken to over JSON-RPC. For development and demonstration.
