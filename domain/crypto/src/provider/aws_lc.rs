//! The provider over aws-lc-rs.

use super::{KeyMaterial, Provider, ProviderName, SigningKey, check_lengths, slh};
use crate::{Algorithm, CryptoError};
use aws_lc_rs::{
    encoding::AsRawBytes,
    rand::{SecureRandom, SystemRandom},
    signature::{
        self as s, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, PqdsaKeyPair, PqdsaSigningAlgorithm,
        UnparsedPublicKey,
    },
};
use zeroize::Zeroizing;

/// aws-lc-rs for ECDSA and ML-DSA.
#[derive(Debug)]
pub(super) struct AwsLc;

fn ecdsa(algorithm: Algorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        Algorithm::Es256 => Some(&s::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => Some(&s::ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => None,
    }
}

fn ml_dsa(algorithm: Algorithm) -> Option<&'static PqdsaSigningAlgorithm> {
    match algorithm {
        Algorithm::MlDsa44 => Some(&s::ML_DSA_44_SIGNING),
        Algorithm::MlDsa65 => Some(&s::ML_DSA_65_SIGNING),
        Algorithm::MlDsa87 => Some(&s::ML_DSA_87_SIGNING),
        _ => None,
    }
}

struct Ecdsa(EcdsaKeyPair, Algorithm);

impl SigningKey for Ecdsa {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| CryptoError::Signing(self.1.name()))?;
        Ok(signature.as_ref().to_vec())
    }
}

struct MlDsa(PqdsaKeyPair, Algorithm);

impl SigningKey for MlDsa {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let mut out = vec![0; self.1.signature_len()];
        let written = self.0.sign(message, &mut out).map_err(|_| CryptoError::Signing(self.1.name()))?;
        out.truncate(written);
        Ok(out)
    }
}

struct Ed25519(Ed25519KeyPair);

impl SigningKey for Ed25519 {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl Provider for AwsLc {
    fn name(&self) -> ProviderName {
        ProviderName::AwsLc
    }

    fn generate(&self, algorithm: Algorithm) -> Result<KeyMaterial, CryptoError> {
        let failed = |_| CryptoError::Randomness;
        let (private, public) = if let Some(alg) = ecdsa(algorithm) {
            let document = EcdsaKeyPair::generate_pkcs8(alg, &SystemRandom::new()).map_err(failed)?;
            let pair = EcdsaKeyPair::from_pkcs8(alg, document.as_ref()).map_err(|_| CryptoError::BadKey(algorithm.name()))?;
            (document.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
        } else if let Some(alg) = ml_dsa(algorithm) {
            let pair = PqdsaKeyPair::generate(alg).map_err(failed)?;
            let raw = pair.private_key().as_raw_bytes().map_err(failed)?;
            (raw.as_ref().to_vec(), pair.public_key().as_ref().to_vec())
        } else if algorithm == Algorithm::Ed25519 {
            let mut seed = vec![0; 32];
            SystemRandom::new().fill(&mut seed).map_err(failed)?;
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| CryptoError::BadKey(algorithm.name()))?;
            (seed, pair.public_key().as_ref().to_vec())
        } else {
            return slh::generate(algorithm);
        };
        Ok(KeyMaterial { algorithm, private: Zeroizing::new(private), public })
    }

    fn load(&self, material: &KeyMaterial) -> Result<Box<dyn SigningKey>, CryptoError> {
        let algorithm = material.algorithm;
        let bad = |_| CryptoError::BadKey(algorithm.name());
        if let Some(alg) = ecdsa(algorithm) {
            Ok(Box::new(Ecdsa(EcdsaKeyPair::from_pkcs8(alg, &material.private).map_err(bad)?, algorithm)))
        } else if let Some(alg) = ml_dsa(algorithm) {
            Ok(Box::new(MlDsa(PqdsaKeyPair::from_raw_private_key(alg, &material.private).map_err(bad)?, algorithm)))
        } else if algorithm == Algorithm::Ed25519 {
            let pair = Ed25519KeyPair::from_seed_and_public_key(&material.private, &material.public).map_err(bad)?;
            Ok(Box::new(Ed25519(pair)))
        } else {
            slh::load(material)
        }
    }

    fn verify(&self, algorithm: Algorithm, public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        check_lengths(algorithm, public, signature)?;
        let verification: &'static dyn s::VerificationAlgorithm = match algorithm {
            Algorithm::Es256 => &s::ECDSA_P256_SHA256_FIXED,
            Algorithm::Es384 => &s::ECDSA_P384_SHA384_FIXED,
            Algorithm::Ed25519 => &s::ED25519,
            Algorithm::MlDsa44 => &s::ML_DSA_44,
            Algorithm::MlDsa65 => &s::ML_DSA_65,
            Algorithm::MlDsa87 => &s::ML_DSA_87,
            _ => return slh::verify(algorithm, public, message, signature),
        };
        UnparsedPublicKey::new(verification, public).verify(message, signature).map_err(|_| CryptoError::BadSignature)
    }
}
