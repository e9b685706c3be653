//! SLH-DSA (FIPS 205), the same for both providers: no other implementation of the final standard was fit to use.

use super::{KeyMaterial, SigningKey};
use crate::{Algorithm, CryptoError};
use slh_dsa::{ParameterSet, Sha2_128f, Sha2_128s, Sha2_192s, Sha2_256s, Signature, VerifyingKey};
use zeroize::Zeroizing;

struct Key<P: ParameterSet> {
    key: slh_dsa::SigningKey<P>,
    algorithm: Algorithm,
}

impl<P: ParameterSet + Send + Sync> SigningKey for Key<P> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        // Hedged signing (FIPS 205 §9.2): fresh randomness of n bytes, half a public key's length.
        let mut fresh = vec![0; self.algorithm.public_key_len() / 2];
        getrandom::fill(&mut fresh).map_err(|_| CryptoError::Randomness)?;
        let signature = self
            .key
            .try_sign_with_context(message, &[], Some(&fresh))
            .map_err(|_| CryptoError::Signing(self.algorithm.name()))?;
        Ok(signature.to_vec())
    }
}

fn generate_in<P: ParameterSet>(algorithm: Algorithm) -> Result<KeyMaterial, CryptoError> {
    let n = algorithm.public_key_len() / 2;
    let mut seeds = Zeroizing::new(vec![0; 3 * n]);
    getrandom::fill(&mut seeds).map_err(|_| CryptoError::Randomness)?;
    let key = slh_dsa::SigningKey::<P>::slh_keygen_internal(&seeds[..n], &seeds[n..2 * n], &seeds[2 * n..]);
    let private = Zeroizing::new(key.to_vec());
    let public = private[2 * n..].to_vec();
    Ok(KeyMaterial { algorithm, private, public })
}

fn load_in<P: ParameterSet + Send + Sync + 'static>(material: &KeyMaterial) -> Result<Box<dyn SigningKey>, CryptoError> {
    let algorithm = material.algorithm;
    let key =
        slh_dsa::SigningKey::<P>::try_from(material.private.as_slice()).map_err(|_| CryptoError::BadKey(algorithm.name()))?;
    Ok(Box::new(Key { key, algorithm }))
}

fn verify_in<P: ParameterSet>(algorithm: Algorithm, public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    let key = VerifyingKey::<P>::try_from(public).map_err(|_| CryptoError::BadKey(algorithm.name()))?;
    let signature = Signature::<P>::try_from(signature).map_err(|_| CryptoError::BadSignature)?;
    key.try_verify_with_context(message, &[], &signature).map_err(|_| CryptoError::BadSignature)
}

macro_rules! dispatch {
    ($algorithm:expr, $function:ident($($argument:expr),*)) => {
        match $algorithm {
            Algorithm::SlhDsaSha2_128s => $function::<Sha2_128s>($($argument),*),
            Algorithm::SlhDsaSha2_128f => $function::<Sha2_128f>($($argument),*),
            Algorithm::SlhDsaSha2_192s => $function::<Sha2_192s>($($argument),*),
            Algorithm::SlhDsaSha2_256s => $function::<Sha2_256s>($($argument),*),
            other => Err(CryptoError::Unsupported(other.name().to_owned())),
        }
    };
}

pub(super) fn generate(algorithm: Algorithm) -> Result<KeyMaterial, CryptoError> {
    dispatch!(algorithm, generate_in(algorithm))
}

pub(super) fn load(material: &KeyMaterial) -> Result<Box<dyn SigningKey>, CryptoError> {
    dispatch!(material.algorithm, load_in(material))
}

pub(super) fn verify(algorithm: Algorithm, public: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    dispatch!(algorithm, verify_in(algorithm, public, message, signature))
}
