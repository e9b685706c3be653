//! The registry of algorithms: every identifier that a standard gives to one, in one place.

use const_oid::ObjectIdentifier;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A signature algorithm with its parameters fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256 (RFC 9053 §2.1).
    #[serde(rename = "es256")]
    Es256,
    /// ECDSA on P-384 with SHA-384 (RFC 9053 §2.1).
    #[serde(rename = "es384")]
    Es384,
    /// Ed25519 (RFC 8032). Signs tree heads of the audit log, no claims.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ML-DSA-44, pure, empty context (FIPS 204).
    #[serde(rename = "ml-dsa-44")]
    MlDsa44,
    /// ML-DSA-65, pure, empty context (FIPS 204).
    #[serde(rename = "ml-dsa-65")]
    MlDsa65,
    /// ML-DSA-87, pure, empty context (FIPS 204).
    #[serde(rename = "ml-dsa-87")]
    MlDsa87,
    /// SLH-DSA-SHA2-128s, pure, empty context (FIPS 205).
    #[serde(rename = "slh-dsa-sha2-128s")]
    SlhDsaSha2_128s,
    /// SLH-DSA-SHA2-128f, pure, empty context (FIPS 205).
    #[serde(rename = "slh-dsa-sha2-128f")]
    SlhDsaSha2_128f,
    /// SLH-DSA-SHA2-192s, pure, empty context (FIPS 205).
    #[serde(rename = "slh-dsa-sha2-192s")]
    SlhDsaSha2_192s,
    /// SLH-DSA-SHA2-256s, pure, empty context (FIPS 205).
    #[serde(rename = "slh-dsa-sha2-256s")]
    SlhDsaSha2_256s,
}

/// One row of the registry.
struct Row {
    algorithm: Algorithm,
    name: &'static str,
    cose: i64,
    oid: ObjectIdentifier,
    public_len: usize,
    signature_len: usize,
}

const fn row(
    algorithm: Algorithm,
    name: &'static str,
    cose: i64,
    oid: &'static str,
    public_len: usize,
    signature_len: usize,
) -> Row {
    Row { algorithm, name, cose, oid: ObjectIdentifier::new_unwrap(oid), public_len, signature_len }
}

/// COSE identifiers: RFC 9053 (ES), RFC 9864 (Ed25519), RFC 9964 (ML-DSA). SLH-DSA has none yet: ours are in the private-use range below -65536.
/// Object identifiers: RFC 5758 (ECDSA), RFC 8410 (Ed25519), RFC 9881 (ML-DSA), RFC 9909 (SLH-DSA).
/// ECDSA public keys are uncompressed SEC 1 points; ECDSA signatures are `r || s`.
const REGISTRY: &[Row] = &[
    row(Algorithm::Es256, "es256", -7, "1.2.840.10045.4.3.2", 65, 64),
    row(Algorithm::Es384, "es384", -35, "1.2.840.10045.4.3.3", 97, 96),
    row(Algorithm::Ed25519, "ed25519", -19, "1.3.101.112", 32, 64),
    row(Algorithm::MlDsa44, "ml-dsa-44", -48, "2.16.840.1.101.3.4.3.17", 1312, 2420),
    row(Algorithm::MlDsa65, "ml-dsa-65", -49, "2.16.840.1.101.3.4.3.18", 1952, 3309),
    row(Algorithm::MlDsa87, "ml-dsa-87", -50, "2.16.840.1.101.3.4.3.19", 2592, 4627),
    row(Algorithm::SlhDsaSha2_128s, "slh-dsa-sha2-128s", -65600, "2.16.840.1.101.3.4.3.20", 32, 7856),
    row(Algorithm::SlhDsaSha2_128f, "slh-dsa-sha2-128f", -65601, "2.16.840.1.101.3.4.3.21", 32, 17088),
    row(Algorithm::SlhDsaSha2_192s, "slh-dsa-sha2-192s", -65602, "2.16.840.1.101.3.4.3.22", 48, 16224),
    row(Algorithm::SlhDsaSha2_256s, "slh-dsa-sha2-256s", -65603, "2.16.840.1.101.3.4.3.24", 64, 29792),
];

impl Algorithm {
    /// Every algorithm.
    pub fn all() -> impl Iterator<Item = Self> {
        REGISTRY.iter().map(|row| row.algorithm)
    }
    fn row(self) -> &'static Row {
        // The registry is in declaration order, which the test below holds.
        &REGISTRY[self as usize]
    }
    /// The name in the API and in records.
    pub fn name(self) -> &'static str {
        self.row().name
    }
    /// The COSE algorithm identifier.
    pub fn cose_id(self) -> i64 {
        self.row().cose
    }
    /// The algorithm with this COSE identifier.
    pub fn from_cose_id(id: i64) -> Option<Self> {
        REGISTRY.iter().find(|row| row.cose == id).map(|row| row.algorithm)
    }
    /// The signature algorithm's object identifier in X.509. For the post-quantum algorithms also the public key's.
    pub fn oid(self) -> ObjectIdentifier {
        self.row().oid
    }
    /// The algorithm whose X.509 signature has this object identifier.
    pub fn from_oid(oid: &ObjectIdentifier) -> Option<Self> {
        REGISTRY.iter().find(|row| row.oid == *oid).map(|row| row.algorithm)
    }
    /// Bytes of a public key.
    pub fn public_key_len(self) -> usize {
        self.row().public_len
    }
    /// Bytes of a signature as COSE carries it.
    pub fn signature_len(self) -> usize {
        self.row().signature_len
    }
    /// Whether it withstands a quantum computer.
    pub fn is_post_quantum(self) -> bool {
        !matches!(self, Self::Es256 | Self::Es384 | Self::Ed25519)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a claim is signed: the algorithm names of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignatureScheme {
    /// An ordinary ES256 claim signature.
    Es256,
    /// Profile `omt-hybrid/1`: ES256 with an ML-DSA countersignature of this parameter set.
    Hybrid(Algorithm),
    /// Private profile `omt-pq/1`: a post-quantum claim signature alone.
    PurePq(Algorithm),
}

impl SignatureScheme {
    /// The default of the product.
    pub const DEFAULT: Self = Self::Hybrid(Algorithm::MlDsa65);
    /// Every scheme, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Es256,
        Self::Hybrid(Algorithm::MlDsa44),
        Self::Hybrid(Algorithm::MlDsa65),
        Self::Hybrid(Algorithm::MlDsa87),
        Self::PurePq(Algorithm::MlDsa44),
        Self::PurePq(Algorithm::MlDsa65),
        Self::PurePq(Algorithm::MlDsa87),
        Self::PurePq(Algorithm::SlhDsaSha2_128s),
        Self::PurePq(Algorithm::SlhDsaSha2_128f),
        Self::PurePq(Algorithm::SlhDsaSha2_192s),
        Self::PurePq(Algorithm::SlhDsaSha2_256s),
    ];
    /// The algorithm of the claim signature itself.
    pub fn claim_algorithm(self) -> Algorithm {
        match self {
            Self::Es256 | Self::Hybrid(_) => Algorithm::Es256,
            Self::PurePq(algorithm) => algorithm,
        }
    }
    /// The algorithm of the countersignature, where there is one.
    pub fn countersignature_algorithm(self) -> Option<Algorithm> {
        match self {
            Self::Hybrid(algorithm) => Some(algorithm),
            Self::Es256 | Self::PurePq(_) => None,
        }
    }
    /// Whether this is the private profile that other validators do not know.
    pub fn is_private_profile(self) -> bool {
        matches!(self, Self::PurePq(_))
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Es256 => f.write_str("es256"),
            Self::Hybrid(pq) => write!(f, "hybrid-es256-{pq}"),
            Self::PurePq(pq) => write!(f, "{pq}"),
        }
    }
}

impl FromStr for SignatureScheme {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|scheme| scheme.to_string() == s).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_is_in_declaration_order_and_unique() {
        for (at, row) in REGISTRY.iter().enumerate() {
            assert_eq!(row.algorithm as usize, at);
            assert_eq!(Algorithm::from_cose_id(row.cose), Some(row.algorithm));
            assert_eq!(Algorithm::from_oid(&row.oid), Some(row.algorithm));
        }
    }

    #[test]
    fn scheme_names_round_trip() {
        for scheme in SignatureScheme::ALL {
            assert_eq!(scheme.to_string().parse(), Ok(*scheme));
        }
        assert_eq!(SignatureScheme::DEFAULT.to_string(), "hybrid-es256-ml-dsa-65");
        assert!("ES256".parse::<SignatureScheme>().is_err());
        assert!("ml-dsa-65 ".parse::<SignatureScheme>().is_err());
    }
}
