//! Keeping small secrets: AES-256-GCM with a random nonce (NIST SP 800-38D).

use crate::{
    Algorithm, CryptoError,
    key_store::{KeyStore, KeyStoreError, ensure},
};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A key that encrypts and decrypts.
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// A sealer with this key.
    pub fn new(key: &[u8; 32]) -> Result<Self, CryptoError> {
        UnboundKey::new(&AES_256_GCM, key).map(|key| Self(LessSafeKey::new(key))).map_err(|_| CryptoError::BadKey("AES-256-GCM"))
    }

    /// A sealer whose key comes of the named Ed25519 key, which is made where it is missing, for one use. Ed25519 is deterministic:
    /// every process that may sign with the key derives the same secret, and nobody else can.
    pub fn derived(keys: &dyn KeyStore, name: &str, usage: &str) -> Result<Self, KeyStoreError> {
        ensure(keys, name, Algorithm::Ed25519)?;
        let seed = Zeroizing::new(keys.sign(name, usage.as_bytes())?);
        Ok(Self::new(&Sha256::digest(&*seed).into())?)
    }

    /// Encrypts, bound to what it is for.
    pub fn seal(&self, plain: &[u8], purpose: &str) -> Result<Vec<u8>, CryptoError> {
        let mut out = vec![0; NONCE_LEN];
        getrandom::fill(&mut out).map_err(|_| CryptoError::Randomness)?;
        let nonce = Nonce::try_assume_unique_for_key(&out).map_err(|_| CryptoError::Randomness)?;
        let mut body = plain.to_vec();
        let sealed = self.0.seal_in_place_append_tag(nonce, Aad::from(purpose.as_bytes()), &mut body);
        sealed.map_err(|_| CryptoError::Malformed("nothing that can be sealed"))?;
        out.extend(body);
        Ok(out)
    }

    /// Decrypts what was sealed for the same purpose.
    pub fn open(&self, sealed: &[u8], purpose: &str) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let bad = CryptoError::BadSignature;
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(bad.clone())?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| bad.clone())?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self.0.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut body).map_err(|_| bad)?.len();
        body.truncate(plain);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_purpose_open() {
        let (one, two) = (Sealer::new(&[1; 32]).unwrap(), Sealer::new(&[2; 32]).unwrap());
        let sealed = one.seal(b"secret", "a").unwrap();
        assert_eq!(one.open(&sealed, "a").unwrap().as_slice(), b"secret");
        assert_ne!(sealed, one.seal(b"secret", "a").unwrap());
        assert!(one.open(&sealed, "b").is_err() && two.open(&sealed, "a").is_err());
        assert!(one.open(&sealed[..sealed.len() - 1], "a").is_err() && one.open(b"short", "a").is_err());
    }
}
