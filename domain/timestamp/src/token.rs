//! What stands in a token: CMS SignedData (RFC 5652 §5) about a TSTInfo (RFC 3161 §2.4.2).

use crate::{
    StampError,
    asn1::{Element, trim},
};
use const_oid::ObjectIdentifier;
use der::{Decode, Tag};
use omt_pki::Certificate;
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::AlgorithmIdentifierOwned;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
pub(crate) const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
pub(crate) const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// More than any authority sends.
const MAX_CERTIFICATES: usize = 10;

/// A hash function that time-stamps may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(crate) fn of_oid(oid: ObjectIdentifier) -> Option<Self> {
        [(SHA256, Self::Sha256), (SHA384, Self::Sha384), (SHA512, Self::Sha512)]
            .into_iter()
            .find(|(known, _)| *known == oid)
            .map(|(_, it)| it)
    }

    /// The one that an AlgorithmIdentifier names.
    fn named(element: &Element<'_>) -> Result<Self, StampError> {
        Self::of_oid(element.sequence()?.take()?.oid()?).ok_or(StampError::Malformed("its hash function is not one of SHA-2"))
    }

    pub(crate) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// What the authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TstInfo {
    /// The policy under which it says so.
    pub policy: String,
    pub(crate) hash: Hash,
    pub(crate) imprint: Vec<u8>,
    /// The token's serial number, big-endian.
    pub serial: Vec<u8>,
    /// When it was made.
    pub time: OffsetDateTime,
    /// The number of the request, big-endian, without leading zeros.
    pub nonce: Option<Vec<u8>>,
}

impl TstInfo {
    fn parse(der: &[u8]) -> Result<Self, StampError> {
        let mut parts = Element::only(der)?.sequence()?;
        if parts.take()?.integer()? != [1] {
            return Err(StampError::Malformed("its version is not 1"));
        }
        let policy = parts.take()?.oid()?.to_string();
        let mut imprint = parts.take()?.sequence()?;
        let (hash, imprint) = (Hash::named(&imprint.take()?)?, imprint.take()?.octets()?.to_vec());
        let serial = parts.take()?.integer()?.to_vec();
        let time = parts.take_if(|e| e.is(Tag::GeneralizedTime)).ok_or(StampError::Malformed("it has no time"))?;
        let time = generalized_time(time.value()).ok_or(StampError::Malformed("its time is none"))?;
        parts.take_if(|e| e.is(Tag::Sequence)); // accuracy
        parts.take_if(|e| e.is(Tag::Boolean)); // ordering
        let nonce = parts.take_if(|e| e.is(Tag::Integer)).map(|e| e.integer().map(<[u8]>::to_vec)).transpose()?;
        Ok(Self { policy, hash, imprint, serial, time, nonce })
    }

    /// Whether it is about these bytes.
    pub(crate) fn is_about(&self, message: &[u8]) -> bool {
        self.hash.digest(message) == self.imprint
    }
}

/// `YYYYMMDDhhmmss[.f…]Z` (RFC 3161 §2.4.2): in UTC, to the second at least.
fn generalized_time(bytes: &[u8]) -> Option<OffsetDateTime> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').map_or((text, ""), |(whole, fraction)| (whole, fraction));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) || fraction.len() > 9 || text.ends_with('.') {
        return None;
    }
    let number = |from: usize, to: usize| whole[from..to].parse::<u16>().ok();
    let small = |from: usize| number(from, from + 2).and_then(|n| u8::try_from(n).ok());
    let date = Date::from_calendar_date(i32::from(number(0, 4)?), Month::try_from(small(4)?).ok()?, small(6)?).ok()?;
    let nanos = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok()? };
    let time = Time::from_hms_nano(small(8)?, small(10)?, small(12)?, nanos).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

/// By what a signer is named.
#[derive(Debug)]
enum SignerId {
    IssuerAndSerial(Vec<u8>, Vec<u8>),
    KeyIdentifier(Vec<u8>),
}

impl SignerId {
    fn parse(element: &Element<'_>) -> Result<Self, StampError> {
        if element.is_context(0) {
            return Ok(Self::KeyIdentifier(element.value().to_vec()));
        }
        let mut parts = element.sequence()?;
        Ok(Self::IssuerAndSerial(parts.take()?.whole.to_vec(), parts.take()?.integer()?.to_vec()))
    }

    fn names(&self, certificate: &Certificate) -> bool {
        match self {
            Self::IssuerAndSerial(issuer, serial) => {
                let of = hex::decode(certificate.serial()).unwrap_or_default();
                certificate.issuer == *issuer && trim(&of) == serial.as_slice()
            }
            Self::KeyIdentifier(identifier) => certificate.subject_key_identifier().as_ref() == Some(identifier),
        }
    }
}

/// The authority's signature.
#[derive(Debug)]
pub(crate) struct SignerInfo {
    id: SignerId,
    pub(crate) hash: Hash,
    /// The signed attributes as they were signed: as a SET (RFC 5652 §5.4).
    pub(crate) attributes: Vec<u8>,
    pub(crate) algorithm: AlgorithmIdentifierOwned,
    pub(crate) signature: Vec<u8>,
}

impl SignerInfo {
    fn parse(element: &Element<'_>) -> Result<Self, StampError> {
        let mut parts = element.sequence()?;
        parts.take()?.integer()?;
        let id = SignerId::parse(&parts.take()?)?;
        let hash = Hash::named(&parts.take()?)?;
        // Without them the signature would be over the content alone, which RFC 3161 does not allow.
        let attributes = parts.take_if(|e| e.is_context(0)).ok_or(StampError::Malformed("it has no signed attributes"))?;
        let mut attributes = attributes.whole.to_vec();
        attributes[0] = 0x31;
        let algorithm = AlgorithmIdentifierOwned::from_der(parts.take()?.whole)
            .map_err(|_| StampError::Malformed("its signature algorithm is none"))?;
        let signature = parts.take()?.octets()?.to_vec();
        Ok(Self { id, hash, attributes, algorithm, signature })
    }

    /// The one value of a signed attribute, where it is there.
    pub(crate) fn attribute(&self, wanted: ObjectIdentifier) -> Result<Option<Element<'_>>, StampError> {
        let mut found = None;
        for attribute in Element::only(&self.attributes)?.set()? {
            let mut parts = attribute.sequence()?;
            if parts.take()?.oid()? != wanted {
                continue;
            }
            let values = parts.take()?.set()?;
            let [one] = values[..] else { return Err(StampError::Malformed("an attribute has not one value")) };
            if found.replace(one).is_some() {
                return Err(StampError::Malformed("an attribute stands twice"));
            }
        }
        Ok(found)
    }
}

/// A token, read.
#[derive(Debug)]
pub struct Token {
    /// What the authority says.
    pub info: TstInfo,
    /// The TSTInfo as it stands.
    pub(crate) content: Vec<u8>,
    /// The certificates that came with it, as they stand.
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) signer: SignerInfo,
}

impl Token {
    /// Reads a TimeStampToken: DER, and nothing after it.
    pub fn parse(der: &[u8]) -> Result<Self, StampError> {
        let mut info = Element::only(der)?.sequence()?;
        if info.take()?.oid()? != SIGNED_DATA {
            return Err(StampError::Malformed("it is no signed data"));
        }
        let content = explicit(&info.take()?, 0)?;
        let mut parts = content.sequence()?;
        parts.take()?.integer()?;
        parts.take()?.set()?;
        let mut encapsulated = parts.take()?.sequence()?;
        if encapsulated.take()?.oid()? != TST_INFO {
            return Err(StampError::Malformed("it is about no time-stamp"));
        }
        let content = explicit(&encapsulated.take()?, 0)?.octets()?.to_vec();
        let certificates = match parts.take_if(|e| e.is_context(0)) {
            Some(all) => certificates(&all)?,
            None => Vec::new(),
        };
        parts.take_if(|e| e.is_context(1)); // revocation lists
        let signers = parts.take()?.set()?;
        let [signer] = signers[..] else { return Err(StampError::Malformed("it has not one signer")) };
        Ok(Self { info: TstInfo::parse(&content)?, content, certificates, signer: SignerInfo::parse(&signer)? })
    }

    /// The certificate of the signer, and after it those that issued it, as far as they came with the token.
    pub(crate) fn chain(&self) -> Option<Vec<&Certificate>> {
        let mut chain = vec![self.certificates.iter().find(|certificate| self.signer.id.names(certificate))?];
        while let Some(next) = chain.last().and_then(|last| {
            let issuer = |other: &&Certificate| other.subject == last.issuer && !chain.contains(other);
            self.certificates.iter().find(issuer)
        }) {
            chain.push(next);
        }
        Some(chain)
    }
}

fn certificates(all: &Element<'_>) -> Result<Vec<Certificate>, StampError> {
    let all = all.parts()?;
    if all.len() > MAX_CERTIFICATES {
        return Err(StampError::Malformed("it has too many certificates"));
    }
    let read = |element: &Element<'_>| {
        Certificate::from_der(element.whole).map_err(|_| StampError::Malformed("one of its certificates is none"))
    };
    // Other kinds of certificate (RFC 5652 §10.2.2) are of no use here.
    all.iter().filter(|element| element.is(Tag::Sequence)).map(read).collect()
}

/// What an explicit context-specific tag is around.
fn explicit<'a>(element: &Element<'a>, number: u8) -> Result<Element<'a>, StampError> {
    if !element.is_context(number) {
        return Err(StampError::Malformed("something else was to be there"));
    }
    Element::only(element.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn times_are_read_to_the_fraction() {
        let at = |text: &str| generalized_time(text.as_bytes());
        assert_eq!(at("20260102030405Z"), Some(datetime!(2026-01-02 03:04:05 UTC)));
        assert_eq!(at("20260102030405.25Z"), Some(datetime!(2026-01-02 03:04:05.25 UTC)));
        for bad in [
            "",
            "Z",
            "20260102030405",
            "202601020304Z",
            "20261302030405Z",
            "20260102030405.Z",
            "20260102030405+0100",
            "2026010203040５Z",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
