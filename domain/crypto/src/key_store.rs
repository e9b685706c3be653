//! The port to private keys. Key bytes never cross it: callers name a key and get signatures and public keys.

use crate::{Algorithm, CryptoError};

/// Why the key store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// There is no key of this name.
    #[error("there is no key named {0}")]
    NoSuchKey(String),
    /// There is one already; keys are never overwritten.
    #[error("a key named {0} exists")]
    Exists(String),
    /// The key store cannot be opened with this passphrase, or its file was changed.
    #[error("the key store cannot be decrypted: wrong passphrase, or the file was changed")]
    Locked,
    /// The operation itself failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The device or file failed.
    #[error("key store: {0}")]
    Device(String),
}

impl From<KeyStoreError> for CryptoError {
    fn from(error: KeyStoreError) -> Self {
        match error {
            KeyStoreError::Crypto(error) => error,
            _ => CryptoError::Signing("key store"),
        }
    }
}

/// Keys by name. Calls may block for milliseconds; do not call on an async executor's own threads.
pub trait KeyStore: Send + Sync {
    /// Makes a key, durably, and returns its public key.
    fn generate(&self, name: &str, algorithm: Algorithm) -> Result<Vec<u8>, KeyStoreError>;
    /// A key's algorithm and public key, if there is one of this name.
    fn public_key(&self, name: &str) -> Result<Option<(Algorithm, Vec<u8>)>, KeyStoreError>;
    /// Signs with the named key: `r || s` for ECDSA, the FIPS encoding otherwise.
    fn sign(&self, name: &str, message: &[u8]) -> Result<Vec<u8>, KeyStoreError>;
    /// Is it usable? For readiness.
    fn check(&self) -> Result<(), KeyStoreError>;
    /// What and where it is, for the start-up message; no secret.
    fn describe(&self) -> String;
}

/// A key's public part; the key is made where it is missing. Several processes may do so at the same time.
pub fn ensure(keys: &dyn KeyStore, name: &str, algorithm: Algorithm) -> Result<Vec<u8>, KeyStoreError> {
    if let Some((_, public)) = keys.public_key(name)? {
        return Ok(public);
    }
    match keys.generate(name, algorithm) {
        Err(KeyStoreError::Exists(_)) => match keys.public_key(name)? {
            Some((_, public)) => Ok(public),
            None => Err(KeyStoreError::NoSuchKey(name.to_owned())),
        },
        made => made,
    }
}
