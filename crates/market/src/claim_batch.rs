//! A claim that anybody may bring: the receiver's authorizer signs the rows
//! beforehand, so whoever sends them needs a key for gas and nothing else.
//!
//! The typed data is that of x402 `batch-settlement`, byte for byte.

use alloy_primitives::{B256, Signature};
use alloy_sol_types::sol;
use serde::{Deserialize, Serialize};

use crate::channel::Typed;
use crate::{Amount, Claim, Domain, VoucherError, WalletKey};

mod typed {
    use super::sol;

    sol! {
        struct ClaimEntry {
            bytes32 channelId;
            uint128 maxClaimableAmount;
            uint128 totalClaimed;
        }

        struct ClaimBatch {
            ClaimEntry[] claims;
        }
    }
}

impl Typed for typed::ClaimBatch {}

/// The EIP-712 digest of these rows.
pub fn batch_digest(claims: &[Claim], domain: &Domain) -> B256 {
    let entry = |claim: &Claim| typed::ClaimEntry {
        channelId: claim.config.id(domain).0,
        maxClaimableAmount: claim.voucher.voucher.ceiling.base_units(),
        totalClaimed: claim.total.base_units(),
    };
    let claims = claims.iter().map(entry).collect();
    domain.signing_hash(&typed::ClaimBatch { claims })
}

/// One row with the word of the receiver's authorizer: enough to claim it from
/// any account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedClaim {
    /// The row.
    #[serde(flatten)]
    pub claim: Claim,
    /// By the channel's receiver authorizer, over a batch of this row alone.
    pub authorization: Signature,
}

/// Why a signed claim is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignedClaimError {
    /// Its voucher is no payment on its channel.
    #[error(transparent)]
    Voucher(#[from] VoucherError),
    /// More than the voucher allows.
    #[error("claim is for {total} base units, its voucher reaches {ceiling}")]
    BeyondVoucher {
        /// What it is for.
        total: Amount,
        /// What the voucher allows.
        ceiling: Amount,
    },
    /// Somebody else signed it.
    #[error("claim is not signed by the channel's receiver authorizer")]
    BadSignature,
}

impl SignedClaim {
    /// Signs one row. `key`: the receiver's authorizer.
    pub fn sign(claim: Claim, domain: &Domain, key: &WalletKey) -> Self {
        let authorization = key.sign(&batch_digest(&[claim], domain));
        Self {
            claim,
            authorization,
        }
    }

    /// Whether the contract would take it, the escrow apart. Of plain keys: an
    /// authorizer that is a contract is not known here.
    pub fn verify(&self, domain: &Domain) -> Result<(), SignedClaimError> {
        let Claim {
            config,
            voucher,
            total,
        } = &self.claim;
        voucher.verify(config, domain)?;
        let (total, ceiling) = (*total, voucher.voucher.ceiling);
        if total > ceiling {
            return Err(SignedClaimError::BeyondVoucher { total, ceiling });
        }
        match self.is_authorized(domain) {
            true => Ok(()),
            false => Err(SignedClaimError::BadSignature),
        }
    }

    /// Whether the channel's authorizer signed it.
    pub(crate) fn is_authorized(&self, domain: &Domain) -> bool {
        let digest = batch_digest(&[self.claim], domain);
        let signer = self.authorization.recover_address_from_prehash(&digest);
        let authorizer = self.claim.config.receiver_authorizer;
        self.authorization.normalize_s().is_none()
            && signer.is_ok_and(|signer| signer == authorizer)
    }
}
