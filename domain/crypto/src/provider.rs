//! Two implementations of the same algorithms behind one trait. They share keys byte for byte, so that either can continue
//! where the other stopped, and each is the other's test oracle.

mod aws_lc;
mod rust;
mod slh;

use crate::{Algorithm, CryptoError};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// A private key in the encoding both providers read, with its public key.
///
/// ECDSA: PKCS#8 DER (RFC 5958). Ed25519: the seed (RFC 8032 §5.1.5). ML-DSA: the expanded private key of FIPS 204 §5.1. SLH-DSA: the private key of FIPS 205 §9.1.
#[derive(Clone)]
pub struct KeyMaterial {
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// The private key. Wiped when dropped.
    pub private: Zeroizing<Vec<u8>>,
    /// The public key: an uncompressed SEC 1 point, or the raw key of RFC 8032 or FIPS 204/205.
    pub public: Vec<u8>,
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyMaterial({})", self.algorithm)
    }
}

/// A private key that is ready to sign.
pub trait SigningKey: Send + Sync {
    /// Signs `message`: `r || s` for ECDSA, the encoding of RFC 8032 or FIPS with empty context otherwise.
    /// Randomised except for Ed25519, and for ECDSA in the `rust` provider (RFC 6979).
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError>;
}

/// An implementation of every [`Algorithm`].
pub trait Provider: Send + Sync + fmt::Debug {
    /// Which one this is.
    fn name(&self) -> ProviderName;
    /// Makes a new key.
    fn generate(&self, algorithm: Algorithm) -> Result<KeyMaterial, CryptoError>;
    /// Parses a private key once, for many signatures.
    fn load(&self, material: &KeyMaterial) -> Result<Box<dyn SigningKey>, CryptoError>;
    /// Verifies; [`CryptoError::BadSignature`] when it does not hold.
    fn verify(&self, algorithm: Algorithm, public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError>;
}

/// The providers' names in the configuration (`crypto.provider`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum ProviderName {
    /// AWS-LC, the default: the fastest, with stable ML-DSA.
    #[default]
    #[serde(rename = "aws-lc")]
    AwsLc,
    /// p256 and p384 in pure Rust, ML-DSA from PQClean.
    #[serde(rename = "rust")]
    Rust,
}

impl ProviderName {
    /// Both.
    pub const ALL: [Self; 2] = [Self::AwsLc, Self::Rust];
    /// The implementation.
    pub fn provider(self) -> Arc<dyn Provider> {
        match self {
            Self::AwsLc => Arc::new(aws_lc::AwsLc),
            Self::Rust => Arc::new(rust::Rust),
        }
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwsLc => "aws-lc",
            Self::Rust => "rust",
        })
    }
}

/// Refuses keys and signatures of the wrong length before an implementation sees them.
fn check_lengths(algorithm: Algorithm, public: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    if public.len() != algorithm.public_key_len() {
        return Err(CryptoError::BadKey(algorithm.name()));
    }
    if signature.len() != algorithm.signature_len() {
        return Err(CryptoError::BadSignature);
    }
    Ok(())
}
