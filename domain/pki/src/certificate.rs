//! A parsed certificate: the parts that path validation and reports need, and the exact bytes that were signed.

use crate::PkiError;
use const_oid::ObjectIdentifier;
use der::{
    Decode, Reader, SliceReader, Tag, Tagged,
    asn1::{BitStringRef, PrintableStringRef},
};
use sha2::{Digest, Sha256};
use spki::AlgorithmIdentifierOwned;
use time::OffsetDateTime;
use x509_cert::{
    certificate::{CertificateInner, Raw},
    ext::pkix::{AuthorityInfoAccessSyntax, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectKeyIdentifier},
    name::Name,
};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// The attributes that nearly every name is made of (RFC 4514 §3).
const COMMON: [(ObjectIdentifier, &str); 6] = [
    (ObjectIdentifier::new_unwrap("2.5.4.3"), "CN"),
    (ORGANIZATION, "O"),
    (ObjectIdentifier::new_unwrap("2.5.4.11"), "OU"),
    (ObjectIdentifier::new_unwrap("2.5.4.6"), "C"),
    (ObjectIdentifier::new_unwrap("2.5.4.7"), "L"),
    (ObjectIdentifier::new_unwrap("2.5.4.8"), "ST"),
];

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
        let [issuer, subject, spki] = names_and_key(&tbs)?;
        Ok(Self { tbs, signature_algorithm, signature, issuer, subject, spki, der: der.to_vec(), parsed })
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
        text(self.parsed.tbs_certificate().subject())
    }

    /// Whether the subject names an organisation.
    pub fn has_organization(&self) -> bool {
        self.parsed.tbs_certificate().subject().iter().any(|attribute| attribute.oid == ORGANIZATION)
    }

    /// The issuer as text (RFC 4514).
    pub fn issuer_text(&self) -> String {
        text(self.parsed.tbs_certificate().issuer())
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
    pub fn extended_key_usage(&self) -> Result<Vec<ObjectIdentifier>, PkiError> {
        Ok(self.parsed.tbs_certificate().get_extension::<ExtendedKeyUsage>()?.map(|(_, u)| u.0).unwrap_or_default())
    }

    /// The identifier of its key, where it has one.
    pub fn subject_key_identifier(&self) -> Option<Vec<u8>> {
        let found = self.parsed.tbs_certificate().get_extension::<SubjectKeyIdentifier>().ok().flatten();
        found.map(|(_, identifier)| identifier.0.as_bytes().to_vec())
    }

    /// The object identifiers of critical extensions.
    pub fn critical_extensions(&self) -> impl Iterator<Item = ObjectIdentifier> + '_ {
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

/// The issuer's and the subject's name and the public key's information of what was signed, as they stand there (RFC 5280 §4.1).
fn names_and_key(tbs: &[u8]) -> Result<[Vec<u8>; 3], PkiError> {
    let mut reader = SliceReader::new(tbs)?;
    let parts = reader.sequence(|inner| {
        const VERSION: u8 = 0xa0;
        if inner.peek_byte() == Some(VERSION) {
            inner.tlv_bytes()?;
        }
        let (_serial, _algorithm) = (inner.tlv_bytes()?, inner.tlv_bytes()?);
        let issuer = inner.tlv_bytes()?.to_vec();
        let _validity = inner.tlv_bytes()?;
        let subject = inner.tlv_bytes()?.to_vec();
        let spki = inner.tlv_bytes()?.to_vec();
        // Identifiers and extensions.
        while !inner.is_finished() {
            inner.tlv_bytes()?;
        }
        Ok::<_, der::Error>([issuer, subject, spki])
    })?;
    Ok(parts)
}

/// A name as text (RFC 4514).
fn text(name: &Name) -> String {
    common(name).unwrap_or_else(|| name.to_string())
}

/// The same for a name of common attributes with nothing in them to escape, without looking through all attributes that there are.
fn common(name: &Name) -> Option<String> {
    const ESCAPED: &[u8] = b"#\"+,;<>\\";
    let mut out = String::new();
    for set in name.iter_rdn().collect::<Vec<_>>().into_iter().rev() {
        let mut attributes = set.iter();
        let (attribute, None) = (attributes.next()?, attributes.next()) else { return None };
        let (_, key) = COMMON.iter().find(|(oid, _)| *oid == attribute.oid)?;
        let value = match attribute.value.tag() {
            Tag::PrintableString => PrintableStringRef::new(attribute.value.value()).ok()?.as_str(),
            Tag::Utf8String => std::str::from_utf8(attribute.value.value()).ok()?,
            _ => return None,
        };
        let plain = value.bytes().all(|b| (b' '..=b'~').contains(&b) && !ESCAPED.contains(&b));
        if !plain || value.is_empty() || value.starts_with(' ') || value.ends_with(' ') {
            return None;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(key);
        out.push('=');
        out.push_str(value);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    #[test]
    fn names_read_as_they_always_did() {
        let plain = ["CN=Signer,O=Example,C=DE", "CN=a b.c-d/e:f=g(h)'i'?,ST=x,L=y,OU=z"];
        let others = [
            "CN=Signer+OU=x,O=Example",
            "CN=\\#a,O=b",
            "CN=a\\,b",
            "CN=\\ a",
            "CN=a\\ ",
            "CN=Zoë",
            "serialNumber=1,CN=a",
            "1.2.3.4.5=#0c0161,CN=a",
        ];
        for words in plain {
            let name = Name::from_str(words).unwrap();
            assert_eq!(common(&name), Some(name.to_string()), "{words}");
        }
        assert_eq!(text(&Name::default()), Name::default().to_string());
        for words in others {
            let name = Name::from_str(words).unwrap();
            assert_eq!(common(&name), None, "{words}");
            assert_eq!(text(&name), name.to_string());
        }
        // A PrintableString has no ampersand.
        let value = der::Any::new(Tag::PrintableString, b"AT&T".as_slice()).unwrap();
        let attribute = x509_cert::attr::AttributeTypeAndValue { oid: ORGANIZATION, value };
        let set = x509_cert::name::RelativeDistinguishedName::try_from(vec![attribute]).unwrap();
        let name = Name::hazmat_from_rdn_sequence(vec![set].into());
        assert_eq!((common(&name), text(&name)), (None, name.to_string()));
    }
}
