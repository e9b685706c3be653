//! A parsed certificate: the parts that path validation and reports need, and the exact bytes that were signed.

use crate::PkiError;
use der::{Decode, Encode, Reader, SliceReader, asn1::BitStringRef};
use sha2::{Digest, Sha256};
use spki::AlgorithmIdentifierOwned;
use time::OffsetDateTime;
use x509_cert::{
    certificate::{CertificateInner, Raw},
    ext::pkix::{AuthorityInfoAccessSyntax, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier},
};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// A certificate, parsed once.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The whole certificate.
    pub der: Vec<u8>,
    /// The bytes under its signature.
    pub tbs: Vec<u8>,
    /// The signature's algorithm.
    pub signature_algorithm: AlgorithmIdentifierOwned,
    /// The signature.
    pub signature: Vec<u8>,
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// The subject's name, DER.
    pub subject: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    parsed: CertificateInner<Raw>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Certificate {
    /// Parses DER; trailing bytes are an error.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let parsed = CertificateInner::<Raw>::from_der(der)?;
        let (tbs, signature_algorithm, signature) = split(der)?;
        let body = parsed.tbs_certificate();
        Ok(Self {
            tbs,
            signature_algorithm,
            signature,
            issuer: body.issuer().to_der()?,
            subject: body.subject().to_der()?,
            spki: body.subject_public_key_info().to_der()?,
            der: der.to_vec(),
            parsed,
        })
    }

    /// Parses every certificate in a PEM text; other blocks and text between are skipped.
    pub fn from_pem_bundle(pem: &[u8]) -> Result<Vec<Self>, PkiError> {
        let text = std::str::from_utf8(pem).map_err(|_| PkiError::Malformed("PEM is not UTF-8".into()))?;
        let mut out = Vec::new();
        let mut rest = text;
        while let Some(begin) = rest.find(BEGIN) {
            let end =
                rest[begin..].find(END).ok_or_else(|| PkiError::Malformed("PEM block has no end".into()))? + begin + END.len();
            let (_, der) = der::pem::decode_vec(&rest.as_bytes()[begin..end]).map_err(|e| PkiError::Malformed(e.to_string()))?;
            out.push(Self::from_der(&der)?);
            rest = &rest[end..];
        }
        Ok(out)
    }

    /// The bytes of the first certificate in a PEM text, not parsed.
    pub fn first_pem_der(pem: &str) -> Option<Vec<u8>> {
        let begin = pem.find(BEGIN)?;
        let end = pem[begin..].find(END)? + begin + END.len();
        der::pem::decode_vec(&pem.as_bytes()[begin..end]).ok().map(|(_, der)| der)
    }

    /// The certificate as PEM.
    pub fn to_pem(&self) -> String {
        pem(&self.der)
    }

    /// Start and end of validity.
    pub fn validity(&self) -> (OffsetDateTime, OffsetDateTime) {
        let validity = self.parsed.tbs_certificate().validity();
        let at = |t: x509_cert::time::Time| OffsetDateTime::UNIX_EPOCH + t.to_unix_duration();
        (at(validity.not_before), at(validity.not_after))
    }

    /// Serial number, lower-case hexadecimal.
    pub fn serial(&self) -> String {
        hex::encode(self.parsed.tbs_certificate().serial_number().as_bytes())
    }

    /// The subject as text (RFC 4514).
    pub fn subject_text(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// Whether the subject names an organisation.
    pub fn has_organization(&self) -> bool {
        const ORGANIZATION: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.5.4.10");
        self.parsed.tbs_certificate().subject().iter().any(|attribute| attribute.oid == ORGANIZATION)
    }

    /// The issuer as text (RFC 4514).
    pub fn issuer_text(&self) -> String {
        self.parsed.tbs_certificate().issuer().to_string()
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// Basic constraints: whether it is a CA, and its path length limit.
    pub fn basic_constraints(&self) -> Result<Option<(bool, Option<u8>)>, PkiError> {
        let found = self.parsed.tbs_certificate().get_extension::<BasicConstraints>()?;
        Ok(found.map(|(_, c)| (c.ca, c.path_len_constraint)))
    }

    /// Key usage.
    pub fn key_usage(&self) -> Result<Option<KeyUsage>, PkiError> {
        Ok(self.parsed.tbs_certificate().get_extension::<KeyUsage>()?.map(|(_, u)| u))
    }

    /// Extended key usage, as object identifiers; empty when there is none.
    pub fn extended_key_usage(&self) -> Result<Vec<const_oid::ObjectIdentifier>, PkiError> {
        Ok(self.parsed.tbs_certificate().get_extension::<ExtendedKeyUsage>()?.map(|(_, u)| u.0).unwrap_or_default())
    }

    /// The identifier of its key, where it has one.
    pub fn subject_key_identifier(&self) -> Option<Vec<u8>> {
        let found = self.parsed.tbs_certificate().get_extension::<SubjectKeyIdentifier>().ok().flatten();
        found.map(|(_, identifier)| identifier.0.as_bytes().to_vec())
    }

    /// The object identifiers of critical extensions.
    pub fn critical_extensions(&self) -> impl Iterator<Item = const_oid::ObjectIdentifier> + '_ {
        self.parsed.tbs_certificate().extensions().into_iter().flatten().filter(|e| e.critical).map(|e| e.extn_id)
    }

    /// Whether it names an OCSP responder.
    pub fn has_authority_info_access(&self) -> bool {
        matches!(self.parsed.tbs_certificate().get_extension::<AuthorityInfoAccessSyntax>(), Ok(Some(_)))
    }
}

/// DER as a PEM certificate.
pub fn pem(der: &[u8]) -> String {
    // Encoding to PEM fails only for a label with foreign characters.
    der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der).unwrap_or_default()
}

/// Splits a certificate into what was signed, how, and the signature, byte for byte.
fn split(der: &[u8]) -> Result<(Vec<u8>, AlgorithmIdentifierOwned, Vec<u8>), PkiError> {
    let mut reader = SliceReader::new(der)?;
    let parts = reader.sequence(|inner| {
        let tbs = inner.tlv_bytes()?.to_vec();
        let algorithm = AlgorithmIdentifierOwned::decode(inner)?;
        let signature = BitStringRef::decode(inner)?;
        Ok::<_, der::Error>((tbs, algorithm, signature.as_bytes().unwrap_or_default().to_vec()))
    })?;
    Ok(parts)
}
