//! Certificates by the profiles of the C2PA Certificate Policy: root, claim-signing issuing CA, claim-signing leaf at
//! assurance level 1. The post-quantum hierarchy follows the same profiles with RFC 9881 and RFC 9909 algorithms.

use crate::{PkiError, PkiSettings, certificate::pem};
use const_oid::ObjectIdentifier;
use der::{
    Decode, Encode, Sequence,
    asn1::{BitString, Ia5String, OctetString, Utf8StringRef},
    flagset::FlagSet,
};
use omt_crypto::{Algorithm, CryptoError, certificate_signature};
use sha1::{Digest, Sha1};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::str::FromStr;
use time::{Duration, OffsetDateTime};
use x509_cert::{
    certificate::Version,
    ext::{
        Extension, Extensions,
        pkix::{
            AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies,
            ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier, certpolicy::PolicyInformation, name::GeneralName,
        },
    },
    name::Name,
    serial_number::SerialNumber,
    time::{Time, Validity},
};

/// `c2pa-kp-claimSigning`.
pub const EKU_CLAIM_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62558.2.1");
/// `id-kp-emailProtection` (RFC 5280 §4.2.1.12).
pub const EKU_EMAIL_PROTECTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4");
/// `id-kp-documentSigning` (RFC 9336).
pub const EKU_DOCUMENT_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.36");
/// Extended key usage: signing time-stamp tokens (RFC 3161 §2.3).
pub const EKU_TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const POLICY_C2PA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62558.1.1");
const EXT_ASSURANCE_LEVEL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62558.3");
const ASSURANCE_LEVEL_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62558.3.10");
const EXT_CPL_RECORD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.62558.4");
const AD_OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const AD_CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");

/// Which profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Self-signed root.
    Root,
    /// Issues claim-signing leaves.
    Issuer,
    /// Signs claims.
    Leaf,
}

impl Profile {
    /// How long a certificate of this profile is valid: 20 years, 5 years (at most 1827 days), 1 year (at most 366 days).
    pub fn lifetime(self) -> Duration {
        match self {
            Self::Root => Duration::days(7300),
            Self::Issuer => Duration::days(1825),
            Self::Leaf => Duration::days(365),
        }
    }
    /// How long before its end a certificate is replaced.
    pub fn renew_before(self) -> Duration {
        match self {
            Self::Root => Duration::days(3650),
            Self::Issuer => Duration::days(730),
            Self::Leaf => Duration::days(60),
        }
    }
}

/// The key that a certificate is about, or that signs it.
#[derive(Debug, Clone)]
pub struct KeyInfo {
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Public key, raw.
    pub public: Vec<u8>,
}

/// What a certificate shall say.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The profile.
    pub profile: Profile,
    /// Common name.
    pub common_name: &'a str,
    /// 16 random bytes; the first bit is cleared, the second set (positive, always 16 octets).
    pub serial: [u8; 16],
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// The subject's key.
    pub subject: &'a KeyInfo,
    /// The issuer's name and key; for a root its own.
    pub issuer_common_name: &'a str,
    /// The issuer's key.
    pub issuer: &'a KeyInfo,
    /// Where the issuer's certificate is served, by its serial number. Absent for a root.
    pub issuer_serial: Option<&'a str>,
}

/// RFC 5280 §4.1.2: the part under the signature, free of any assumption about the signature's algorithm.
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Extensions,
}

#[derive(Sequence)]
struct SignedCertificate {
    tbs: TbsCertificate,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// Builds the certificate and has it signed by `sign`, which holds the issuer's key. Returns DER.
pub fn issue(
    request: &Request<'_>,
    settings: &PkiSettings,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, CryptoError>,
) -> Result<Vec<u8>, PkiError> {
    let mut serial = request.serial;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let spki = certificate_signature::spki_der(request.subject.algorithm, &request.subject.public)?;
    // ECDSA, ML-DSA and SLH-DSA signature algorithms have no parameters (RFC 5758 §3.2, RFC 9881 §2, RFC 9909 §3).
    let algorithm = AlgorithmIdentifierOwned { oid: request.issuer.algorithm.oid(), parameters: None };
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&serial)?,
        signature: algorithm.clone(),
        issuer: name(request.issuer_common_name, settings)?,
        validity: Validity::new(at(request.not_before)?, at(request.not_before + request.profile.lifetime() - Duration::SECOND)?),
        subject: name(request.common_name, settings)?,
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(&spki)?,
        extensions: extensions(request, settings)?,
    };
    let signature = certificate_signature::to_x509_signature(request.issuer.algorithm, sign(&tbs.to_der()?)?)?;
    Ok(SignedCertificate { tbs, signature_algorithm: algorithm, signature: BitString::from_bytes(&signature)? }.to_der()?)
}

/// The URL path under which an issuer's certificate is served.
pub fn issuer_path(serial: &str) -> String {
    format!("/api/v1/trust/issuers/{serial}.cer")
}

fn name(common_name: &str, settings: &PkiSettings) -> Result<Name, PkiError> {
    let escape =
        |s: &str| -> String { s.chars().flat_map(|c| if ",+\"\\<>;#=".contains(c) { vec!['\\', c] } else { vec![c] }).collect() };
    if settings.country.len() != 2 || !settings.country.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(PkiError::BadSetting("pki.country"));
    }
    if settings.organization.trim().is_empty() || settings.organization.len() > 64 {
        return Err(PkiError::BadSetting("pki.organization"));
    }
    // RFC 4514 writes names from the last RDN to the first.
    let text = format!("CN={},O={},C={}", escape(common_name), escape(&settings.organization), settings.country);
    Name::from_str(&text).map_err(|_| PkiError::BadSetting("pki.organization"))
}

fn at(time: OffsetDateTime) -> Result<Time, PkiError> {
    let seconds = u64::try_from(time.unix_timestamp()).map_err(|_| PkiError::BadSetting("clock"))?;
    let time = der::DateTime::from_unix_duration(std::time::Duration::from_secs(seconds))?;
    // RFC 5280 §4.1.2.5: UTCTime through 2049.
    Ok(match der::asn1::UtcTime::from_date_time(time) {
        Ok(utc) if time.year() < 2050 => Time::UtcTime(utc),
        _ => Time::GeneralTime(der::asn1::GeneralizedTime::from_date_time(time)),
    })
}

/// Key identifier by method 1 of RFC 5280 §4.2.1.2: SHA-1 of the public key's bits.
fn key_identifier(key: &KeyInfo) -> Result<OctetString, PkiError> {
    Ok(OctetString::new(Sha1::digest(&key.public).to_vec())?)
}

fn extensions(request: &Request<'_>, settings: &PkiSettings) -> Result<Extensions, PkiError> {
    let profile = request.profile;
    let mut out = Extensions::new();
    let mut add = |oid: &str, critical: bool, value: Vec<u8>| -> Result<(), PkiError> {
        out.push(Extension { extn_id: ObjectIdentifier::new_unwrap(oid), critical, extn_value: OctetString::new(value)? });
        Ok(())
    };
    let (constraints, usage): (BasicConstraints, FlagSet<KeyUsages>) = match profile {
        Profile::Root => (ca(2), KeyUsages::KeyCertSign | KeyUsages::CRLSign),
        Profile::Issuer => (ca(0), KeyUsages::KeyCertSign | KeyUsages::CRLSign),
        Profile::Leaf => {
            (BasicConstraints { ca: false, path_len_constraint: None }, KeyUsages::DigitalSignature | KeyUsages::NonRepudiation)
        }
    };
    add("2.5.29.19", true, constraints.to_der()?)?;
    add("2.5.29.15", true, KeyUsage(usage).to_der()?)?;
    add("2.5.29.14", false, SubjectKeyIdentifier(key_identifier(request.subject)?).to_der()?)?;
    let authority = AuthorityKeyIdentifier { key_identifier: Some(key_identifier(request.issuer)?), ..Default::default() };
    add("2.5.29.35", false, authority.to_der()?)?;
    if profile == Profile::Root {
        return Ok(out);
    }
    add("2.5.29.37", false, ExtendedKeyUsage(vec![EKU_EMAIL_PROTECTION, EKU_CLAIM_SIGNING]).to_der()?)?;
    let policy = PolicyInformation { policy_identifier: POLICY_C2PA, policy_qualifiers: None };
    add("2.5.29.32", false, CertificatePolicies(vec![policy]).to_der()?)?;
    add("1.3.6.1.5.5.7.1.1", false, access(request, settings)?.to_der()?)?;
    if profile == Profile::Leaf {
        add(&EXT_ASSURANCE_LEVEL.to_string(), false, ASSURANCE_LEVEL_1.to_der()?)?;
        if let Some(record) = &settings.cpl_record {
            if record.len() != 36 {
                return Err(PkiError::BadSetting("pki.cpl_record"));
            }
            add(&EXT_CPL_RECORD.to_string(), false, Utf8StringRef::new(record)?.to_der()?)?;
        }
    }
    Ok(out)
}

fn ca(path_len: u8) -> BasicConstraints {
    BasicConstraints { ca: true, path_len_constraint: Some(path_len) }
}

fn access(request: &Request<'_>, settings: &PkiSettings) -> Result<AuthorityInfoAccessSyntax, PkiError> {
    let uri = |path: &str| -> Result<GeneralName, PkiError> {
        let url = format!("{}{path}", settings.public_url);
        Ia5String::new(&url).map(GeneralName::UniformResourceIdentifier).map_err(|_| PkiError::BadSetting("public_url"))
    };
    let mut out = vec![AccessDescription { access_method: AD_OCSP, access_location: uri("/ocsp")? }];
    if let Some(serial) = request.issuer_serial {
        out.push(AccessDescription { access_method: AD_CA_ISSUERS, access_location: uri(&issuer_path(serial))? });
    }
    Ok(AuthorityInfoAccessSyntax(out))
}

/// Certificates as one PEM text.
pub fn pem_bundle<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    certificates.into_iter().map(pem).collect()
}
