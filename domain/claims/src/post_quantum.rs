//! The post-quantum verdict on a manifest: profile `omt-hybrid/1` and the private profile `omt-pq/1`.

use crate::{definition::COMMITMENT_LABEL, jumbf::ManifestBox};
use omt_crypto::{
    Algorithm, CryptoError, Provider, cbor, certificate_signature,
    cose::{self, ParsedSign1, SignatureBlock},
};
use omt_kernel::PqRequirement;
use omt_pki::{
    Certificate,
    path::{self, PathError, TrustedPath},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Builds a trust path from a certificate chain.
pub type PathValidator<'a> = &'a dyn Fn(&[Vec<u8>]) -> Result<TrustedPath, PathError>;

/// The state of post-quantum protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PqState {
    /// There is none, and the claim promises none.
    Absent,
    /// The claim promises a countersignature that is not there.
    Stripped,
    /// There is one, and it does not hold.
    Invalid,
    /// It holds; its signer is not under a trust anchor.
    Valid,
    /// It holds, and its signer is under a trust anchor.
    Trusted,
}

/// The post-quantum verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PostQuantum {
    /// The state.
    pub state: PqState,
    /// The signature's algorithm.
    pub algorithm: Option<String>,
    /// The signer's subject.
    pub signer: Option<String>,
    /// What demanded it: the requirement's name when it applied to this manifest, else none.
    pub required_by: Option<String>,
    /// Why the state is not better.
    pub reason: Option<String>,
    /// Whether the claim commits to a countersignature.
    pub committed: bool,
}

impl PostQuantum {
    /// No post-quantum protection.
    pub fn absent() -> Self {
        Self { state: PqState::Absent, algorithm: None, signer: None, required_by: None, reason: None, committed: false }
    }

    /// The verdict where the signature could not be read: as bad as a broken promise, lest unreadable pass for absent.
    pub fn unreadable() -> Self {
        Self {
            state: PqState::Invalid,
            committed: true,
            reason: Some("the active manifest's signature cannot be read".into()),
            ..Self::absent()
        }
    }

    /// Whether the requirement is met; sets what demanded it.
    pub fn apply(&mut self, requirement: PqRequirement) -> bool {
        let demanded = match requirement {
            PqRequirement::Off => false,
            PqRequirement::WhenCommitted => self.committed,
            PqRequirement::Always | PqRequirement::PqOnly => true,
        };
        self.required_by = demanded.then(|| requirement.as_str().to_owned());
        !demanded || matches!(self.state, PqState::Valid | PqState::Trusted)
    }
}

/// A signature and the certificate of whoever made it, read once.
pub struct Signed<'a> {
    block: &'a SignatureBlock,
    leaf: Option<Certificate>,
}

impl<'a> Signed<'a> {
    /// The signature with its own leaf.
    pub fn new(block: &'a SignatureBlock) -> Self {
        Self { block, leaf: block.chain.first().and_then(|der| Certificate::from_der(der).ok()) }
    }

    /// The certificate, where it can be read.
    pub fn leaf(&self) -> Option<&Certificate> {
        self.leaf.as_ref()
    }

    /// The certificate alone.
    pub fn into_leaf(self) -> Option<Certificate> {
        self.leaf
    }

    /// Verifies it as the signature of a claim, with the key in its leaf.
    pub fn verify_claim(&self, provider: &dyn Provider, claim: &[u8]) -> Result<Algorithm, CryptoError> {
        self.verify(provider, &cose::sig_structure(&self.block.protected, claim))
    }

    /// Verifies it as the countersignature of a claim and its signature, with the key in its leaf.
    pub fn verify_countersignature(
        &self,
        provider: &dyn Provider,
        signature: &SignatureBlock,
        claim: &[u8],
    ) -> Result<(), CryptoError> {
        let tbs = cose::countersign_structure(&signature.protected, &self.block.protected, claim, &signature.signature);
        self.verify(provider, &tbs).map(drop)
    }

    fn verify(&self, provider: &dyn Provider, tbs: &[u8]) -> Result<Algorithm, CryptoError> {
        let algorithm = self.block.algorithm().ok_or_else(|| CryptoError::Unsupported(self.block.alg.to_string()))?;
        let leaf = self.leaf().ok_or(CryptoError::Malformed("leaf certificate"))?;
        let (of_key, public) = certificate_signature::parse_spki(&leaf.spki)?;
        if of_key != algorithm {
            return Err(CryptoError::BadKey(algorithm.name()));
        }
        provider.verify(algorithm, &public, tbs, &self.block.signature)?;
        Ok(algorithm)
    }
}

/// What a claim commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Commitment {
    spki_sha256: Option<String>,
    algorithm: Option<String>,
}

/// The commitment of a manifest, found only among assertions that the claim itself lists, whose box hash the engine checks.
fn commitment(manifest: &ManifestBox<'_>) -> Option<Commitment> {
    let claim = String::from_utf8_lossy(manifest.claim?);
    let (_, data) = manifest.assertions.iter().find(|(label, _)| label == COMMITMENT_LABEL)?;
    // An assertion that the claim does not reference is no commitment, and makes the manifest invalid by itself.
    if !claim.contains(COMMITMENT_LABEL) {
        return None;
    }
    let fields = data.and_then(|d| cbor::decode(d).ok()).and_then(|v| v.into_map().ok()).unwrap_or_default();
    let text = |key: &str| cbor::get_text(&fields, key).and_then(|v| v.as_text()).map(str::to_owned);
    Some(Commitment { spki_sha256: text("spki_sha256"), algorithm: text("algorithm") })
}

/// Whether the claim references a commitment, even one whose assertion box was removed.
fn claim_mentions_commitment(manifest: &ManifestBox<'_>) -> bool {
    manifest.claim.is_some_and(|claim| crate::guard::find(claim, COMMITMENT_LABEL.as_bytes()).is_some())
}

/// Judges one manifest, with `validate` to build trust paths: its countersignature, or its claim signature when that is post-quantum itself.
///
/// `signed` is when the claim was signed, by the word of a trusted authority. Where the claim names the countersigner's key, and its
/// certificate was valid then and has ended since, the countersignature stays valid and is trusted no more: that word is about the claim
/// signature, which is classical, so it keeps an asset from breaking by itself, and gives nothing that post-quantum trust rests on.
pub fn judge(
    provider: &dyn Provider,
    manifest: &ManifestBox<'_>,
    sign1: &ParsedSign1,
    validate: PathValidator<'_>,
    signed: Option<OffsetDateTime>,
) -> PostQuantum {
    let committed = commitment(manifest);
    let names_its_key = committed.is_some() && sign1.countersignature.is_some();
    let mut verdict =
        PostQuantum { committed: committed.is_some() || claim_mentions_commitment(manifest), ..PostQuantum::absent() };
    let Some(claim) = manifest.claim else { return verdict };
    let (signed_by, verified) = match &sign1.countersignature {
        Some(Ok(block)) => {
            let counter = Signed::new(block);
            let verified = if block.algorithm().is_some_and(Algorithm::is_post_quantum) {
                counter.verify_countersignature(provider, &sign1.claim, claim)
            } else {
                Err(CryptoError::Unsupported(block.alg.to_string()))
            };
            (counter, verified)
        }
        Some(Err(error)) => {
            verdict.state = PqState::Invalid;
            verdict.reason = Some(error.to_string());
            return verdict;
        }
        None if sign1.claim.algorithm().is_some_and(Algorithm::is_post_quantum) => {
            let own = Signed::new(&sign1.claim);
            let verified = own.verify_claim(provider, claim).map(drop);
            (own, verified)
        }
        None => {
            if verdict.committed {
                verdict.state = PqState::Stripped;
                verdict.reason = Some("the claim commits to a countersignature that is not there".into());
            }
            return verdict;
        }
    };
    let Signed { block, leaf } = signed_by;
    verdict.algorithm = Some(block.algorithm().map_or_else(|| block.alg.to_string(), |a| a.name().to_owned()));
    verdict.signer = leaf.as_ref().map(Certificate::subject_text);
    let kept = committed.is_none_or(|c| c.matches(block, leaf.as_ref()));
    match (verified, kept) {
        (Err(error), _) => {
            verdict.state = PqState::Invalid;
            verdict.reason = Some(error.to_string());
        }
        (Ok(()), false) => {
            verdict.state = PqState::Invalid;
            verdict.reason = Some("the countersigner is not the one the claim commits to".into());
        }
        (Ok(()), true) => match validate(&block.chain) {
            Ok(_) => verdict.state = PqState::Trusted,
            Err(PathError::Validity(0))
                if names_its_key && signed.is_some_and(|signed| path::usable(&block.chain, signed).is_ok()) =>
            {
                verdict.state = PqState::Valid;
                verdict.reason = Some("the countersigner's certificate has ended since".into());
            }
            // A certificate that may not sign, or not at this time, makes no valid signature.
            Err(error @ (PathError::Validity(0) | PathError::LeafPurpose(_) | PathError::UnknownCritical(0))) => {
                verdict.state = PqState::Invalid;
                verdict.reason = Some(error.to_string());
            }
            Err(error) => {
                verdict.state = PqState::Valid;
                verdict.reason = Some(error.to_string());
            }
        },
    }
    verdict
}

impl Commitment {
    fn matches(&self, block: &SignatureBlock, leaf: Option<&Certificate>) -> bool {
        let spki = leaf.map(|leaf| hex::encode(Sha256::digest(&leaf.spki)));
        let algorithm = block.algorithm().map(Algorithm::name);
        self.spki_sha256.is_some() && self.spki_sha256 == spki && self.algorithm.as_deref() == algorithm
    }
}
