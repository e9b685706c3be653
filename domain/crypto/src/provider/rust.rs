//! The provider over p256, p384, ed25519-dalek and pqcrypto-mldsa.

use super::{KeyMaterial, Provider, ProviderName, SigningKey, check_lengths, slh};
use crate::{Algorithm, CryptoError};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use pqcrypto_mldsa::{mldsa44, mldsa65, mldsa87};
use pqcrypto_traits::sign::{DetachedSignature, PublicKey, SecretKey};
use zeroize::Zeroizing;

/// Pure Rust ECDSA, PQClean's ML-DSA.
#[derive(Debug)]
pub(super) struct Rust;

macro_rules! ecdsa {
    ($curve:ident, $generate:ident, $verify:ident, $type:ident, $bytes:literal, $alg:expr) => {
        struct $type($curve::ecdsa::SigningKey);

        impl SigningKey for $type {
            fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
                let signature: $curve::ecdsa::Signature =
                    self.0.try_sign(message).map_err(|_| CryptoError::Signing($alg.name()))?;
                Ok(signature.to_bytes().to_vec())
            }
        }

        fn $generate() -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
            loop {
                let mut scalar = Zeroizing::new([0u8; $bytes]);
                getrandom::fill(scalar.as_mut()).map_err(|_| CryptoError::Randomness)?;
                // A scalar of zero or past the group's order is refused (probability below 2^-30): draw again.
                let Ok(secret) = $curve::SecretKey::from_slice(scalar.as_ref()) else { continue };
                let document = secret.to_pkcs8_der().map_err(|_| CryptoError::BadKey($alg.name()))?;
                let public = secret.public_key().to_sec1_bytes();
                return Ok((document.as_bytes().to_vec(), public.to_vec()));
            }
        }

        fn $verify(public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
            let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(public).map_err(|_| CryptoError::BadKey($alg.name()))?;
            let signature = $curve::ecdsa::Signature::from_slice(signature).map_err(|_| CryptoError::BadSignature)?;
            key.verify(message, &signature).map_err(|_| CryptoError::BadSignature)
        }
    };
}

ecdsa!(p256, generate_p256, verify_p256, P256Key, 32, Algorithm::Es256);
ecdsa!(p384, generate_p384, verify_p384, P384Key, 48, Algorithm::Es384);

macro_rules! ml_dsa {
    ($module:ident, $generate:ident, $verify:ident, $type:ident) => {
        struct $type($module::SecretKey);

        impl SigningKey for $type {
            fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
                Ok($module::detached_sign(message, &self.0).as_bytes().to_vec())
            }
        }

        fn $generate() -> (Vec<u8>, Vec<u8>) {
            let (public, secret) = $module::keypair();
            (secret.as_bytes().to_vec(), public.as_bytes().to_vec())
        }

        fn $verify(public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
            let key = $module::PublicKey::from_bytes(public).map_err(|_| CryptoError::BadKey(stringify!($module)))?;
            let signature = $module::DetachedSignature::from_bytes(signature).map_err(|_| CryptoError::BadSignature)?;
            $module::verify_detached_signature(&signature, message, &key).map_err(|_| CryptoError::BadSignature)
        }
    };
}

ml_dsa!(mldsa44, generate_44, verify_44, MlDsa44Key);
ml_dsa!(mldsa65, generate_65, verify_65, MlDsa65Key);
ml_dsa!(mldsa87, generate_87, verify_87, MlDsa87Key);

struct Ed25519(ed25519_dalek::SigningKey);

impl SigningKey for Ed25519 {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        use ed25519_dalek::Signer;
        Ok(self.0.sign(message).to_bytes().to_vec())
    }
}

fn load_ed25519(seed: &[u8]) -> Result<ed25519_dalek::SigningKey, CryptoError> {
    let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).map_err(|_| CryptoError::BadKey(Algorithm::Ed25519.name()))?);
    Ok(ed25519_dalek::SigningKey::from_bytes(&seed))
}

fn generate_ed25519() -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
    let mut seed = vec![0; 32];
    getrandom::fill(&mut seed).map_err(|_| CryptoError::Randomness)?;
    let public = load_ed25519(&seed)?.verifying_key().to_bytes().to_vec();
    Ok((seed, public))
}

fn verify_ed25519(public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let bad = |_| CryptoError::BadKey(Algorithm::Ed25519.name());
    let key = <[u8; 32]>::try_from(public).map_err(|_| CryptoError::BadKey(Algorithm::Ed25519.name()))?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key).map_err(bad)?;
    let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| CryptoError::BadSignature)?;
    key.verify_strict(message, &signature).map_err(|_| CryptoError::BadSignature)
}

impl Provider for Rust {
    fn name(&self) -> ProviderName {
        ProviderName::Rust
    }

    fn generate(&self, algorithm: Algorithm) -> Result<KeyMaterial, CryptoError> {
        let (private, public) = match algorithm {
            Algorithm::Es256 => generate_p256()?,
            Algorithm::Es384 => generate_p384()?,
            Algorithm::Ed25519 => generate_ed25519()?,
            Algorithm::MlDsa44 => generate_44(),
            Algorithm::MlDsa65 => generate_65(),
            Algorithm::MlDsa87 => generate_87(),
            _ => return slh::generate(algorithm),
        };
        Ok(KeyMaterial { algorithm, private: Zeroizing::new(private), public })
    }

    fn load(&self, material: &KeyMaterial) -> Result<Box<dyn SigningKey>, CryptoError> {
        let private = material.private.as_slice();
        let bad = || CryptoError::BadKey(material.algorithm.name());
        Ok(match material.algorithm {
            Algorithm::Es256 => Box::new(P256Key(p256::ecdsa::SigningKey::from_pkcs8_der(private).map_err(|_| bad())?)),
            Algorithm::Es384 => Box::new(P384Key(p384::ecdsa::SigningKey::from_pkcs8_der(private).map_err(|_| bad())?)),
            Algorithm::Ed25519 => Box::new(Ed25519(load_ed25519(private)?)),
            Algorithm::MlDsa44 => Box::new(MlDsa44Key(mldsa44::SecretKey::from_bytes(private).map_err(|_| bad())?)),
            Algorithm::MlDsa65 => Box::new(MlDsa65Key(mldsa65::SecretKey::from_bytes(private).map_err(|_| bad())?)),
            Algorithm::MlDsa87 => Box::new(MlDsa87Key(mldsa87::SecretKey::from_bytes(private).map_err(|_| bad())?)),
            _ => return slh::load(material),
        })
    }

    fn verify(&self, algorithm: Algorithm, public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        check_lengths(algorithm, public, signature)?;
        match algorithm {
            Algorithm::Es256 => verify_p256(public, message, signature),
            Algorithm::Es384 => verify_p384(public, message, signature),
            Algorithm::Ed25519 => verify_ed25519(public, message, signature),
            Algorithm::MlDsa44 => verify_44(public, message, signature),
            Algorithm::MlDsa65 => verify_65(public, message, signature),
            Algorithm::MlDsa87 => verify_87(public, message, signature),
            _ => slh::verify(algorithm, public, message, signature),
        }
    }
}
