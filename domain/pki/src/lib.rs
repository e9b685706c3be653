//! The platform's own public key infrastructure: certificate profiles, the two hierarchies of the embedded default, and path
//! validation against trust anchors.
//!
//! - [`model`] — names, roles, anchors.
//! - [`profile`] — pure construction of certificates by the C2PA Certificate Policy profiles.
//! - [`path`] — pure path validation.
//! - [`service`] — makes and renews the hierarchies through the key store and the database.

pub mod certificate;
pub mod model;
pub mod path;
pub mod profile;
pub mod service;

pub use certificate::Certificate;
pub use model::{AnchorSource, Hierarchy, PkiSettings, TrustAnchors};
pub use service::{Pki, SigningIdentity};

/// Why a PKI operation failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A certificate cannot be parsed.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// A name or URL in the settings cannot go into a certificate.
    #[error("the setting {0} cannot stand in a certificate")]
    BadSetting(&'static str),
    /// The key store failed.
    #[error(transparent)]
    KeyStore(#[from] omt_crypto::KeyStoreError),
    /// A cryptographic operation failed.
    #[error(transparent)]
    Crypto(#[from] omt_crypto::CryptoError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] omt_kernel::Error),
}

impl From<der::Error> for PkiError {
    fn from(error: der::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}
