//! ECDSA over P-256 (FIPS 186-5 §6).

pub use ecdsa::{Error, signature};

use crate::NistP256;
use aws_lc_rs::{
    digest::{self, Digest},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, EcdsaVerificationAlgorithm, ParsedPublicKey,
    },
};
use pkcs8::{
    AssociatedOid, PrivateKeyInfo,
    der::Encode,
    spki::{self, SubjectPublicKeyInfoRef},
};
use signature::{Signer, hazmat::PrehashVerifier};
use signing::{ecdsa::signature::Signer as _, pkcs8::DecodePrivateKey as _};

/// A signature: r and s, neither of them nothing nor beyond the order.
pub type Signature = ecdsa::Signature<NistP256>;

/// Elliptic curve keys (RFC 5480 §2.1.1).
const EC_PUBLIC_KEY: pkcs8::ObjectIdentifier = pkcs8::ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A public key that verifies signatures.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    /// SEC 1 §2.3.3.
    point: Vec<u8>,
}

/// From SubjectPublicKeyInfo (RFC 5480 §2); an error where it is for another curve, or its point is not on this one.
impl TryFrom<SubjectPublicKeyInfoRef<'_>> for VerifyingKey {
    type Error = spki::Error;

    fn try_from(info: SubjectPublicKeyInfoRef<'_>) -> Result<Self, spki::Error> {
        info.algorithm.assert_algorithm_oid(EC_PUBLIC_KEY)?;
        info.algorithm.assert_parameters_oid(NistP256::OID)?;
        let point = info.subject_public_key.as_bytes().ok_or(spki::Error::KeyMalformed)?;
        parsed(&ECDSA_P256_SHA256_ASN1, point).map_err(|_| spki::Error::KeyMalformed)?;
        Ok(Self { point: point.to_vec() })
    }
}

impl PrehashVerifier<Signature> for VerifyingKey {
    /// Verifies a signature of a digest of SHA-256, SHA-384 or SHA-512, of which the leftmost 256 bits count. Digests of other lengths
    /// are an error.
    fn verify_prehash(&self, prehash: &[u8], signature: &Signature) -> Result<(), Error> {
        let (algorithm, hash): (&'static EcdsaVerificationAlgorithm, _) = match prehash.len() {
            32 => (&ECDSA_P256_SHA256_ASN1, &digest::SHA256),
            48 => (&ECDSA_P256_SHA384_ASN1, &digest::SHA384),
            64 => (&ECDSA_P256_SHA512_ASN1, &digest::SHA512),
            _ => return Err(Error::new()),
        };
        let digest = Digest::import_less_safe(prehash, hash).map_err(|_| Error::new())?;
        parsed(algorithm, &self.point)?.verify_digest_sig(&digest, signature.to_der().as_bytes()).map_err(|_| Error::new())
    }
}

/// The key, where the point is one of the curve's.
fn parsed(algorithm: &'static EcdsaVerificationAlgorithm, point: &[u8]) -> Result<ParsedPublicKey, Error> {
    // AWS-LC would take a whole SubjectPublicKeyInfo too, which is no point.
    let is_point = matches!((point.first(), point.len()), (Some(4), 65) | (Some(2 | 3), 33));
    if !is_point {
        return Err(Error::new());
    }
    ParsedPublicKey::new(algorithm, point).map_err(|_| Error::new())
}

/// A private key of the engine's own signer, which the product does not use. It signs by RFC 6979, in Rust.
#[derive(Clone)]
pub struct SigningKey(signing::ecdsa::SigningKey);

/// From PKCS #8.
impl TryFrom<PrivateKeyInfo<'_>> for SigningKey {
    type Error = pkcs8::Error;

    fn try_from(info: PrivateKeyInfo<'_>) -> Result<Self, pkcs8::Error> {
        let der = info.to_der()?;
        signing::ecdsa::SigningKey::from_pkcs8_der(&der).map(Self).map_err(|_| pkcs8::Error::KeyMalformed)
    }
}

impl Signer<Signature> for SigningKey {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, Error> {
        let signature: signing::ecdsa::Signature = self.0.try_sign(message).map_err(|_| Error::new())?;
        Signature::from_slice(&signature.to_bytes())
    }
}
