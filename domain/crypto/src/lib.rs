//! Signature algorithms, two interchangeable providers of them, COSE_Sign1 as C2PA uses it, and the post-quantum countersignature.
//!
//! Nothing here knows of certificates beyond their bytes, of files or of keys' whereabouts: callers bring key material or a
//! signing function and get bytes back.

pub mod algorithm;
pub mod cbor;
pub mod certificate_signature;
pub mod cose;
pub mod key_store;
pub mod provider;
pub mod seal;

pub use algorithm::{Algorithm, SignatureScheme};
pub use key_store::{KeyStore, KeyStoreError};
pub use provider::{KeyMaterial, Provider, ProviderName, SigningKey};

/// Why a cryptographic operation failed. Deliberately coarse: details would help only an attacker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The key's bytes are not a key of this algorithm.
    #[error("the key is not a valid {0} key")]
    BadKey(&'static str),
    /// Signing failed.
    #[error("{0} signing failed")]
    Signing(&'static str),
    /// The signature does not verify.
    #[error("the signature does not verify")]
    BadSignature,
    /// The structure is not what the standard prescribes.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// No implementation of this algorithm.
    #[error("the algorithm {0} is not supported")]
    Unsupported(String),
    /// The operating system gave no random bytes.
    #[error("no randomness available")]
    Randomness,
    /// What is to be written does not fit in the reserved size.
    #[error("the signature needs {need} bytes but {have} are reserved")]
    DoesNotFit {
        /// Bytes needed.
        need: usize,
        /// Bytes reserved.
        have: usize,
    },
}
