//! Whether a token holds, and whether its authority is trusted.

use crate::{
    StampError,
    asn1::{Element, Parts},
    token::{Hash, TST_INFO, Token},
};
use const_oid::ObjectIdentifier;
use der::Tag;
use omt_crypto::{Provider, certificate_signature};
use omt_pki::{
    Certificate, TrustAnchors,
    path::{self, PathError, Purpose, TrustedPath},
};
use sha1::{Digest, Sha1};
use spki::AlgorithmIdentifierOwned;
use time::OffsetDateTime;

const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A token that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// When it was made.
    pub time: OffsetDateTime,
    /// Who made it: the subject of its certificate.
    pub authority: String,
    /// Whether a trusted authority did.
    pub path: Result<TrustedPath, PathError>,
}

/// Verifies a token about these bytes (RFC 3161 §2.4.2, RFC 5652 §5.6). An error is that it does not hold; whether the authority is
/// trusted is judged at the time that the token says, so that it outlives the authority's certificate. Revocation is not looked at.
pub fn verify(token: &Token, message: &[u8], anchors: &TrustAnchors, provider: &dyn Provider) -> Result<Stamp, StampError> {
    if !token.info.is_about(message) {
        return Err(StampError::Mismatch);
    }
    let chain = token.chain().ok_or(StampError::Signature("its signer's certificate is not with it"))?;
    let leaf = chain[0];
    check_attributes(token, leaf)?;
    let signer = &token.signer;
    let algorithm = signature_algorithm(&signer.algorithm, signer.hash)?;
    certificate_signature::verify_x509(provider, &algorithm, &leaf.spki, &signer.attributes, &signer.signature)
        .map_err(|_| StampError::Signature("it does not verify"))?;
    let chain: Vec<Vec<u8>> = chain.iter().map(|certificate| certificate.der.clone()).collect();
    let path = path::validate_for(Purpose::TimeStamping, &chain, anchors, token.info.time, provider);
    Ok(Stamp { time: token.info.time, authority: leaf.subject_text(), path })
}

/// The signed attributes bind content, its type, and the certificate (RFC 5652 §5.3, RFC 5035 §3, RFC 5816 §2.2.1).
fn check_attributes(token: &Token, leaf: &Certificate) -> Result<(), StampError> {
    let signer = &token.signer;
    let required = |oid, words| signer.attribute(oid)?.ok_or(StampError::Malformed(words));
    if required(CONTENT_TYPE, "it does not sign its content's type")?.oid()? != TST_INFO {
        return Err(StampError::Malformed("it signs another type of content"));
    }
    if required(MESSAGE_DIGEST, "it does not sign its content")?.octets()? != signer.hash.digest(&token.content) {
        return Err(StampError::Signature("it signs other content"));
    }
    let named = (signer.attribute(SIGNING_CERTIFICATE)?, signer.attribute(SIGNING_CERTIFICATE_V2)?);
    if named.0.is_none() && named.1.is_none() {
        return Err(StampError::Malformed("it does not name its certificate"));
    }
    if let Some(value) = named.0 {
        // What SHA-1 says here only says which certificate is meant; that is in the store anyway.
        let names = first(value)?.take()?.octets()? == Sha1::digest(&leaf.der).as_slice();
        if !names {
            return Err(StampError::Signature("it names another certificate"));
        }
    }
    if let Some(value) = named.1 {
        let mut parts = first(value)?;
        let hash = match parts.take_if(|e| e.is(Tag::Sequence)) {
            Some(algorithm) => Hash::of_oid(algorithm.sequence()?.take()?.oid()?)
                .ok_or(StampError::Malformed("it names its certificate by an unknown hash"))?,
            None => Hash::Sha256,
        };
        if parts.take()?.octets()? != hash.digest(&leaf.der) {
            return Err(StampError::Signature("it names another certificate"));
        }
    }
    Ok(())
}

/// The first certificate that a signing-certificate attribute names: the signer's.
fn first(value: Element<'_>) -> Result<Parts<'_>, StampError> {
    value.sequence()?.take()?.sequence()?.take()?.sequence()
}

/// Where a token names only the kind of key, the hash function beside it says the rest (RFC 5754 §3).
fn signature_algorithm(named: &AlgorithmIdentifierOwned, hash: Hash) -> Result<AlgorithmIdentifierOwned, StampError> {
    let by_hash = |arc: &str, [a, b, c]: [u8; 3]| {
        let last = match hash {
            Hash::Sha256 => a,
            Hash::Sha384 => b,
            Hash::Sha512 => c,
        };
        ObjectIdentifier::new(&format!("{arc}.{last}")).map_err(|_| StampError::Malformed("its signature algorithm is none"))
    };
    let oid = match named.oid {
        RSA => by_hash("1.2.840.113549.1.1", [11, 12, 13])?,
        EC_PUBLIC_KEY => by_hash("1.2.840.10045.4.3", [2, 3, 4])?,
        _ => return Ok(named.clone()),
    };
    Ok(AlgorithmIdentifierOwned { oid, parameters: None })
}
