//! NIST P-256 (FIPS 186-5, SP 800-186) as far as the manifest engine asks for it, by AWS-LC.
//!
//! The engine has no port for its cryptography; this crate is put under it by name. So one library verifies all classical
//! signatures, but for P-384, P-521 and RSA in the engine, which are rare there.

#![forbid(unsafe_code)]

pub mod ecdsa;
#[cfg(test)]
mod tests;

/// The engine names it and asks nothing of it.
pub use ecdsa::VerifyingKey as PublicKey;
pub use pkcs8;

use elliptic_curve::{Curve, FieldBytesEncoding, PrimeCurve, bigint::U256, consts::U32};
use pkcs8::{AssociatedOid, ObjectIdentifier};

/// The curve. Its arithmetic is AWS-LC's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NistP256;

impl Curve for NistP256 {
    type FieldBytesSize = U32;
    type Uint = U256;
    const ORDER: U256 = U256::from_be_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
}

impl PrimeCurve for NistP256 {}

impl FieldBytesEncoding<NistP256> for U256 {}

impl AssociatedOid for NistP256 {
    const OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
}
