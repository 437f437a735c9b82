//! Tokens that let their bearer in: cheap to make, cheap to check, good once.
//!
//! A token is `nonce (16) | expiry u64 | mac (16)`, the mac being the first
//! half of HMAC-SHA256 over a tag, nonce and expiry, under a secret that
//! lives as long as this process. What it is worth is the caller's business.

use hmac::{Hmac, Mac};
use market::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::seen::Seen;

/// How long a token is good.
pub const TOKEN_SECONDS: u64 = 10 * 60;

/// The most tokens handed out at once.
pub const TOKENS_PER_ISSUE_MAX: usize = 64;

/// The most spent tokens that are remembered; beyond it none are taken until
/// some of those have expired.
pub const TOKENS_SPENT_MAX: usize = 1 << 17;

const NONCE_BYTES: usize = 16;
const MAC_BYTES: usize = 16;
const TAG: &[u8] = b"lethe token v1\n";

/// Lets its bearer in, once.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Halves", into = "Halves")]
pub struct Token([u8; Token::BYTES]);

impl core::fmt::Debug for Token {
    /// Nothing of what makes it worth something.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

/// As serde has it, which knows no arrays this long.
#[derive(Serialize, Deserialize)]
struct Halves([u8; Token::BYTES / 2], [u8; Token::BYTES / 2]);

impl From<Halves> for Token {
    fn from(Halves(first, second): Halves) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..first.len()].copy_from_slice(&first);
        bytes[first.len()..].copy_from_slice(&second);
        Self(bytes)
    }
}

impl From<Token> for Halves {
    fn from(Token(bytes): Token) -> Self {
        let half = |at: usize| core::array::from_fn(|n| bytes[at + n]);
        Self(half(0), half(Token::BYTES / 2))
    }
}

impl Token {
    /// Its size.
    pub const BYTES: usize = NONCE_BYTES + 8 + MAC_BYTES;

    /// From the wire; whether it is worth anything is seen in
    /// [`Admission::admit`].
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// For the wire.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    fn parts(&self) -> (&[u8; NONCE_BYTES], Timestamp, &[u8]) {
        let (nonce, rest) = self.0.split_first_chunk().expect("a token is longer");
        let (expiry, mac) = rest.split_first_chunk().expect("a token is longer");
        (nonce, Timestamp(u64::from_be_bytes(*expiry)), mac)
    }
}

/// Makes tokens and takes them back.
pub struct Admission {
    secret: Zeroizing<[u8; 32]>,
    spent: Seen<[u8; NONCE_BYTES]>,
}

impl Admission {
    /// With a fresh secret: tokens of before a restart are worth nothing.
    pub fn new() -> Self {
        Self {
            secret: Zeroizing::new(rand::random()),
            spent: Seen::new(TOKENS_SPENT_MAX),
        }
    }

    /// Makes `count` tokens, [`TOKENS_PER_ISSUE_MAX`] at the most.
    pub fn issue(&self, now: Timestamp, count: usize) -> Vec<Token> {
        let expiry = now.after_s(TOKEN_SECONDS).0.to_be_bytes();
        let count = count.min(TOKENS_PER_ISSUE_MAX);
        let token = |_| {
            let mut bytes = [0; Token::BYTES];
            let (signed, mac) = bytes.split_at_mut(NONCE_BYTES + expiry.len());
            signed[..NONCE_BYTES].copy_from_slice(&rand::random::<[u8; NONCE_BYTES]>());
            signed[NONCE_BYTES..].copy_from_slice(&expiry);
            let full = self.mac(signed).finalize().into_bytes();
            mac.copy_from_slice(&full[..MAC_BYTES]);
            Token(bytes)
        };
        (0..count).map(token).collect()
    }

    /// Whether this token lets its bearer in; it does so once.
    pub fn admit(&mut self, token: &Token, now: Timestamp) -> bool {
        let (nonce, expiry, mac) = token.parts();
        let (signed, _) = token.0.split_at(Token::BYTES - MAC_BYTES);
        let is_ours = self.mac(signed).verify_truncated_left(mac).is_ok();
        is_ours && now < expiry && self.spent.insert(*nonce, TOKEN_SECONDS, now)
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&*self.secret);
        let mac = mac.expect("HMAC takes a key of any length");
        mac.chain_update(TAG).chain_update(signed)
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_no_room_to_remember_no_token_is_taken_until_some_have_expired() {
        let now = Timestamp(1_000);
        let mut admission = Admission {
            spent: Seen::new(2),
            ..Admission::new()
        };
        let tokens = admission.issue(now, 3);
        assert!(admission.admit(&tokens[0], now));
        assert!(admission.admit(&tokens[1], now));
        assert!(!admission.admit(&tokens[2], now), "no room");
        let late = now.after_s(TOKEN_SECONDS);
        let token = admission.issue(late, 1)[0];
        assert!(!admission.admit(&token, late), "no room yet");
        assert!(admission.admit(&token, late.after_s(1)));
    }
}
