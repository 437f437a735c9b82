//! A voucher: the payer's word that the provider may claim up to so much, in
//! all, of one channel.
//!
//! Vouchers are cumulative: a newer, higher one replaces all before it, and
//! an equal or lower one changes nothing. The rule of how far a voucher may
//! run ahead of what was delivered lives in [`crate::Purse`] and [`crate::Till`].

use alloy_primitives::{B256, Signature};
use serde::{Deserialize, Serialize};

use crate::channel::typed;
use crate::{Amount, ChannelConfig, ChannelId, Domain, Durable, WalletKey};

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// The channel that pays.
    pub channel: ChannelId,
    /// All that may ever have been claimed of it, from its beginning.
    pub ceiling: Amount,
}

impl Voucher {
    /// The EIP-712 digest.
    pub fn digest(&self, domain: &Domain) -> B256 {
        domain.signing_hash(&typed::Voucher {
            channelId: self.channel.0,
            maxClaimableAmount: self.ceiling.base_units(),
        })
    }
}

impl Durable<Voucher> {
    /// Signs it.
    pub fn sign(self, domain: &Domain, key: &WalletKey) -> SignedVoucher {
        let voucher = self.into_inner();
        SignedVoucher {
            voucher,
            signature: key.sign(&voucher.digest(domain)),
        }
    }
}

/// A voucher with its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVoucher {
    /// What was signed.
    pub voucher: Voucher,
    /// By the channel's payer authorizer.
    pub signature: Signature,
}

/// Why a voucher is not payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// It is for another channel.
    #[error("voucher is for channel {got}, this is channel {expected}")]
    OtherChannel {
        /// The channel at hand.
        expected: ChannelId,
        /// The one in the voucher.
        got: ChannelId,
    },
    /// Not signed by the channel's payer authorizer, or `s` is in the upper half.
    #[error("voucher is not signed by the channel's payer authorizer")]
    BadSignature,
}

impl SignedVoucher {
    /// Checks that it is for the channel `config` and signed by its payer
    /// authorizer. Public-key work: about 0.15 ms.
    pub fn verify(&self, config: &ChannelConfig, domain: &Domain) -> Result<(), VoucherError> {
        let expected = config.id(domain);
        if self.voucher.channel != expected {
            return Err(VoucherError::OtherChannel {
                expected,
                got: self.voucher.channel,
            });
        }
        if self.signature.normalize_s().is_some() {
            return Err(VoucherError::BadSignature);
        }
        match self
            .signature
            .recover_address_from_prehash(&self.voucher.digest(domain))
        {
            Ok(signer) if signer == config.voucher_signer() => Ok(()),
            _ => Err(VoucherError::BadSignature),
        }
    }
}
