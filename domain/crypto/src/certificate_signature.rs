//! Signatures on certificates: public keys in SubjectPublicKeyInfo, and verification for every algorithm that trust lists use.

use crate::{Algorithm, CryptoError, Provider};
use const_oid::ObjectIdentifier;
use der::{Decode, Encode, asn1::BitStringRef};
use spki::{AlgorithmIdentifier, AlgorithmIdentifierOwned, SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// The SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) of a public key, as DER.
///
/// ECDSA: RFC 5480. ML-DSA and SLH-DSA: the parameters are absent (RFC 9881 §2, RFC 9909 §3).
pub fn spki_der(algorithm: Algorithm, public: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let malformed = |_| CryptoError::Malformed("public key");
    let key = BitStringRef::from_bytes(public).map_err(malformed)?;
    let curve = match algorithm {
        Algorithm::Es256 => Some(P256),
        Algorithm::Es384 => Some(P384),
        _ => None,
    };
    let algorithm = AlgorithmIdentifier { oid: if curve.is_some() { EC_PUBLIC_KEY } else { algorithm.oid() }, parameters: curve };
    SubjectPublicKeyInfo { algorithm, subject_public_key: key }.to_der().map_err(malformed)
}

/// The algorithm and raw public key in a SubjectPublicKeyInfo, when it is one of ours.
pub fn parse_spki(der: &[u8]) -> Result<(Algorithm, Vec<u8>), CryptoError> {
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| CryptoError::Malformed("SubjectPublicKeyInfo"))?;
    let raw = info.subject_public_key.as_bytes().ok_or(CryptoError::Malformed("SubjectPublicKeyInfo"))?;
    let algorithm = if info.algorithm.oid == EC_PUBLIC_KEY {
        let curve = info.algorithm.parameters_oid().map_err(|_| CryptoError::Malformed("EC parameters"))?;
        match curve {
            P256 => Algorithm::Es256,
            P384 => Algorithm::Es384,
            other => return Err(CryptoError::Unsupported(other.to_string())),
        }
    } else {
        Algorithm::from_oid(&info.algorithm.oid)
            .filter(|a| a.is_post_quantum())
            .ok_or_else(|| CryptoError::Unsupported(info.algorithm.oid.to_string()))?
    };
    if raw.len() != algorithm.public_key_len() {
        return Err(CryptoError::BadKey(algorithm.name()));
    }
    Ok((algorithm, raw.to_vec()))
}

/// An ECDSA signature `r || s` as the DER SEQUENCE that X.509 wants (RFC 5480 appendix A); others unchanged.
pub fn to_x509_signature(algorithm: Algorithm, signature: Vec<u8>) -> Result<Vec<u8>, CryptoError> {
    let bad = |_| CryptoError::Malformed("ECDSA signature");
    Ok(match algorithm {
        Algorithm::Es256 => p256::ecdsa::Signature::from_slice(&signature).map_err(bad)?.to_der().as_bytes().to_vec(),
        Algorithm::Es384 => p384::ecdsa::Signature::from_slice(&signature).map_err(bad)?.to_der().as_bytes().to_vec(),
        _ => signature,
    })
}

/// Verifies the signature on a certificate (or any X.509 structure) with the issuer's SubjectPublicKeyInfo.
///
/// Knows ECDSA (P-256/384/521), RSA PKCS #1 v1.5 and PSS with SHA-2, Ed25519, ML-DSA and SLH-DSA. Anything else is
/// [`CryptoError::Unsupported`].
pub fn verify_x509(
    provider: &dyn Provider,
    signature_algorithm: &AlgorithmIdentifierOwned,
    issuer_spki: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    if let Some(algorithm) = Algorithm::from_oid(&signature_algorithm.oid).filter(|a| a.is_post_quantum()) {
        let (of_key, public) = parse_spki(issuer_spki)?;
        if of_key != algorithm {
            return Err(CryptoError::BadKey(algorithm.name()));
        }
        return provider.verify(algorithm, &public, signed, signature);
    }
    verify_classical(signature_algorithm, issuer_spki, signed, signature)
}

/// Classical certificate signatures always go through AWS-LC: RSA and P-521 are no part of the providers' contract.
fn verify_classical(
    signature_algorithm: &AlgorithmIdentifierOwned,
    issuer_spki: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> Result<(), CryptoError> {
    use aws_lc_rs::signature as s;
    let info = SubjectPublicKeyInfoRef::from_der(issuer_spki).map_err(|_| CryptoError::Malformed("SubjectPublicKeyInfo"))?;
    let key = info.subject_public_key.as_bytes().ok_or(CryptoError::Malformed("SubjectPublicKeyInfo"))?;
    let curve = info.algorithm.parameters_oid().ok().map(|oid| oid.to_string());
    let oid = signature_algorithm.oid.to_string();
    let algorithm: &'static dyn s::VerificationAlgorithm = match (oid.as_str(), curve.as_deref()) {
        ("1.2.840.10045.4.3.2", Some("1.2.840.10045.3.1.7")) => &s::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some("1.2.840.10045.3.1.7")) => &s::ECDSA_P256_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some("1.2.840.10045.3.1.7")) => &s::ECDSA_P256_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", Some("1.3.132.0.34")) => &s::ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some("1.3.132.0.34")) => &s::ECDSA_P384_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some("1.3.132.0.34")) => &s::ECDSA_P384_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", Some("1.3.132.0.35")) => &s::ECDSA_P521_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some("1.3.132.0.35")) => &s::ECDSA_P521_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some("1.3.132.0.35")) => &s::ECDSA_P521_SHA512_ASN1,
        ("1.2.840.113549.1.1.11", _) => &s::RSA_PKCS1_2048_8192_SHA256,
        ("1.2.840.113549.1.1.12", _) => &s::RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.13", _) => &s::RSA_PKCS1_2048_8192_SHA512,
        ("1.2.840.113549.1.1.10", _) => rsa_pss(signature_algorithm)?,
        ("1.3.101.112", _) => &s::ED25519,
        _ => return Err(CryptoError::Unsupported(oid)),
    };
    s::UnparsedPublicKey::new(algorithm, key).verify(signed, signature).map_err(|_| CryptoError::BadSignature)
}

/// Verifies a COSE signature of a classical algorithm (RFC 9053, RFC 8230) with a SubjectPublicKeyInfo: ES256/384/512,
/// PS256/384/512 and EdDSA with Ed25519.
pub fn verify_cose_classical(cose_id: i64, spki: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
    use aws_lc_rs::signature as s;
    let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| CryptoError::Malformed("SubjectPublicKeyInfo"))?;
    let key = info.subject_public_key.as_bytes().ok_or(CryptoError::Malformed("SubjectPublicKeyInfo"))?;
    let algorithm: &'static dyn s::VerificationAlgorithm = match cose_id {
        -7 => &s::ECDSA_P256_SHA256_FIXED,
        -35 => &s::ECDSA_P384_SHA384_FIXED,
        -36 => &s::ECDSA_P521_SHA512_FIXED,
        -37 => &s::RSA_PSS_2048_8192_SHA256,
        -38 => &s::RSA_PSS_2048_8192_SHA384,
        -39 => &s::RSA_PSS_2048_8192_SHA512,
        -8 => &s::ED25519,
        other => return Err(CryptoError::Unsupported(other.to_string())),
    };
    s::UnparsedPublicKey::new(algorithm, key).verify(signed, signature).map_err(|_| CryptoError::BadSignature)
}

/// Picks the hash of RSASSA-PSS-params (RFC 4055 §3.1) by the hash identifier inside the parameters.
fn rsa_pss(
    algorithm: &AlgorithmIdentifierOwned,
) -> Result<&'static dyn aws_lc_rs::signature::VerificationAlgorithm, CryptoError> {
    use aws_lc_rs::signature as s;
    let unsupported = || CryptoError::Unsupported("RSASSA-PSS parameters".to_owned());
    let parameters = algorithm.parameters.as_ref().and_then(|p| p.to_der().ok()).ok_or_else(unsupported)?;
    // The DER of the object identifiers id-sha256, id-sha384 and id-sha512.
    let holds = |last: u8| {
        let oid = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last];
        parameters.windows(oid.len()).any(|window| window == oid)
    };
    match (holds(1), holds(2), holds(3)) {
        (true, false, false) => Ok(&s::RSA_PSS_2048_8192_SHA256),
        (false, true, false) => Ok(&s::RSA_PSS_2048_8192_SHA384),
        (false, false, true) => Ok(&s::RSA_PSS_2048_8192_SHA512),
        _ => Err(unsupported()),
    }
}
