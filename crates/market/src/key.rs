//! The two private keys of a node, each in one type that cannot be printed,
//! copied or serialised.
//!
//! Keys are loaded in one place (`lethe::keystore`) and lent by reference.
//! Signing is deterministic (RFC 6979, RFC 8032), so it needs no randomness
//! and stays pure.

use alloy_primitives::{Address, B256, Signature, eip191_hash_message};
use ed25519_dalek::Signer as _;
use k256::ecdsa::SigningKey;
use zeroize::Zeroizing;

use crate::NodeId;

/// Why bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Zero, or not below the order of the curve.
    #[error("not a secp256k1 private key (allowed: 32 bytes, above zero, below the curve's order)")]
    NotAWalletKey,
}

/// A secp256k1 key: a wallet, or the hot key that signs vouchers for one.
pub struct WalletKey {
    signing: SigningKey,
    address: Address,
}

impl WalletKey {
    /// From 32 secret bytes.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<Self, KeyError> {
        let signing = SigningKey::from_slice(secret).map_err(|_| KeyError::NotAWalletKey)?;
        let address = Address::from_public_key(signing.verifying_key());
        Ok(Self { signing, address })
    }

    /// The account that this key controls.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a 32-byte digest; `s` is in the lower half (EIP-2).
    pub fn sign(&self, digest: &B256) -> Signature {
        let (signature, recovery) = self
            .signing
            .sign_prehash_recoverable(digest.as_slice())
            .expect("a 32-byte digest can always be signed");
        Signature::from((signature, recovery))
    }

    /// Signs a message as wallets do (EIP-191 `personal_sign`).
    pub fn sign_message(&self, message: &[u8]) -> Signature {
        self.sign(&eip191_hash_message(message))
    }

    /// The secret bytes, for the keystore to write. Wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes().into())
    }
}

/// An ed25519 key: the node on the wire. Signs receipts.
pub struct NodeKey(ed25519_dalek::SigningKey);

impl NodeKey {
    /// From 32 secret bytes; every value is a key.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The public half.
    pub fn id(&self) -> NodeId {
        NodeId(B256::from(self.0.verifying_key().to_bytes()))
    }

    /// Signs a message (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The secret bytes, for the keystore and the transport. Wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

impl NodeId {
    /// Whether `signature` is this node's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&self.0.0) else {
            return false;
        };
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_key_has_its_known_address() {
        let mut secret = [0u8; 32];
        secret[31] = 1;
        let key = WalletKey::from_bytes(&secret).unwrap();
        assert_eq!(
            key.address().to_string(),
            "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
        );
    }

    #[test]
    fn zero_and_the_order_are_no_keys() {
        assert!(WalletKey::from_bytes(&[0; 32]).is_err());
        assert!(WalletKey::from_bytes(&[0xff; 32]).is_err());
    }

    #[test]
    fn a_wallet_signature_leads_back_to_its_address() {
        let key = WalletKey::from_bytes(&[7; 32]).unwrap();
        let digest = B256::repeat_byte(9);
        let signature = key.sign(&digest);
        assert_eq!(
            signature.recover_address_from_prehash(&digest).unwrap(),
            key.address()
        );
        assert!(signature.normalize_s().is_none(), "s is in the upper half");
    }

    #[test]
    fn a_node_signature_holds_for_its_message_only() {
        let key = NodeKey::from_bytes(&[7; 32]);
        let signature = key.sign(b"delivered");
        assert!(key.id().verifies(b"delivered", &signature));
        assert!(!key.id().verifies(b"Delivered", &signature));
        assert!(!NodeId(B256::repeat_byte(2)).verifies(b"delivered", &signature));
    }
}
