//! Certification path validation (RFC 5280 §6) for claim signers, countersigners and time-stamp authorities.
//!
//! The manifest engine checks chains too, but not that intermediates may issue at all: with it alone any trusted leaf could
//! issue another. This is the check that trust rests on.

use crate::{
    AnchorSource, Certificate, PkiError, TrustAnchors,
    profile::{EKU_CLAIM_SIGNING, EKU_DOCUMENT_SIGNING, EKU_EMAIL_PROTECTION, EKU_TIME_STAMPING},
};
use omt_crypto::{Provider, certificate_signature};
use time::OffsetDateTime;

/// More certificates than any real chain has.
const MAX_CHAIN: usize = 10;

/// The extension that says what a key is for.
const EXTENDED_KEY_USAGE: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.5.29.37");

/// Any extended key usage (RFC 5280 §4.2.1.12).
const ANY_PURPOSE: const_oid::ObjectIdentifier = const_oid::ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// Critical extensions that this validation processes.
const KNOWN_CRITICAL: [&str; 4] = ["2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.32"];

/// What a leaf is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signing claims, or countersigning them.
    ClaimSigning,
    /// Signing time-stamp tokens (RFC 3161 §2.3).
    TimeStamping,
}

/// A chain that leads to an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedPath {
    /// Where the anchor came from.
    pub source: AnchorSource,
    /// Fingerprint of the anchor's certificate.
    pub anchor: [u8; 32],
    /// How many certificates of the chain were used.
    pub used: usize,
}

/// Why a chain is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No certificate, or too many.
    #[error("the chain has {0} certificates")]
    Length(usize),
    /// A certificate is malformed.
    #[error("certificate {0} is malformed")]
    Malformed(usize),
    /// It is not valid at the given time.
    #[error("certificate {0} was not valid at the time")]
    Validity(usize),
    /// The leaf may not do what it did.
    #[error("the leaf may not sign this: {0}")]
    LeafPurpose(&'static str),
    /// An intermediate may not issue certificates, or not so deep.
    #[error("certificate {0} may not issue certificates")]
    NotAnIssuer(usize),
    /// A critical extension is not understood.
    #[error("certificate {0} has an unknown critical extension")]
    UnknownCritical(usize),
    /// A certificate was not signed by the next.
    #[error("certificate {0} was not signed by the next")]
    Signature(usize),
    /// The chain ends without reaching an anchor.
    #[error("no trust anchor issued the chain")]
    NoAnchor,
}

/// Whether each certificate names the next as its issuer and was signed by it, whatever may be trusted.
pub fn links(chain: &[Vec<u8>], provider: &dyn Provider) -> Result<Vec<Certificate>, PathError> {
    let certificates = parse(chain)?;
    for (at, pair) in certificates.windows(2).enumerate() {
        if !signed_by(&pair[0], &pair[1], provider) {
            return Err(PathError::Signature(at));
        }
    }
    Ok(certificates)
}

/// Whether a leaf may sign claims at a time, whoever issued it.
pub fn usable(chain: &[Vec<u8>], at: OffsetDateTime) -> Result<(), PathError> {
    let leaf = chain.first().ok_or(PathError::Length(0))?;
    let leaf = Certificate::from_der(leaf).map_err(|_| PathError::Malformed(0))?;
    check_leaf(&leaf, Purpose::ClaimSigning)?;
    check_common(&leaf, 0, at)
}

/// Validates a claim signer's chain, leaf first, against the anchors, at a time. The anchor itself may be absent from the chain.
pub fn validate(
    chain: &[Vec<u8>],
    anchors: &TrustAnchors,
    at: OffsetDateTime,
    provider: &dyn Provider,
) -> Result<TrustedPath, PathError> {
    validate_for(Purpose::ClaimSigning, chain, anchors, at, provider)
}

/// The same for what its leaf is used for.
pub fn validate_for(
    purpose: Purpose,
    chain: &[Vec<u8>],
    anchors: &TrustAnchors,
    at: OffsetDateTime,
    provider: &dyn Provider,
) -> Result<TrustedPath, PathError> {
    let certificates = parse(chain)?;
    check_leaf(&certificates[0], purpose)?;
    for (position, certificate) in certificates.iter().enumerate() {
        check_common(certificate, position, at)?;
        if position > 0 {
            check_issuer(certificate, position)?;
            if purpose == Purpose::TimeStamping {
                check_stamp_issuer(certificate, position)?;
            }
        }
        for (anchor, source) in anchors.with_subject(&certificate.issuer) {
            if signed_by(certificate, anchor, provider) {
                return Ok(TrustedPath { source, anchor: anchor.fingerprint(), used: position + 1 });
            }
        }
        match certificates.get(position + 1) {
            Some(next) if signed_by(certificate, next, provider) => {}
            Some(_) => return Err(PathError::Signature(position)),
            None => return Err(PathError::NoAnchor),
        }
    }
    Err(PathError::NoAnchor)
}

fn parse(chain: &[Vec<u8>]) -> Result<Vec<Certificate>, PathError> {
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(PathError::Length(chain.len()));
    }
    chain.iter().enumerate().map(|(at, der)| Certificate::from_der(der).map_err(|_| PathError::Malformed(at))).collect()
}

fn signed_by(certificate: &Certificate, issuer: &Certificate, provider: &dyn Provider) -> bool {
    certificate.issuer == issuer.subject
        && certificate_signature::verify_x509(
            provider,
            &certificate.signature_algorithm,
            &issuer.spki,
            &certificate.tbs,
            &certificate.signature,
        )
        .is_ok()
}

fn check_common(certificate: &Certificate, position: usize, at: OffsetDateTime) -> Result<(), PathError> {
    let (from, until) = certificate.validity();
    if at < from || at > until {
        return Err(PathError::Validity(position));
    }
    if certificate.critical_extensions().any(|oid| !KNOWN_CRITICAL.contains(&oid.to_string().as_str())) {
        return Err(PathError::UnknownCritical(position));
    }
    Ok(())
}

fn check_leaf(leaf: &Certificate, purpose: Purpose) -> Result<(), PathError> {
    let malformed = |_: PkiError| PathError::Malformed(0);
    if leaf.basic_constraints().map_err(malformed)?.is_some_and(|(ca, _)| ca) {
        return Err(PathError::LeafPurpose("it is a CA"));
    }
    if !leaf.key_usage().map_err(malformed)?.is_some_and(|u| u.digital_signature()) {
        return Err(PathError::LeafPurpose("no digitalSignature key usage"));
    }
    let purposes = leaf.extended_key_usage().map_err(malformed)?;
    if purpose == Purpose::TimeStamping {
        // For nothing else, and whoever does not know that must not use it (RFC 3161 §2.3).
        let critical = leaf.critical_extensions().any(|oid| oid == EXTENDED_KEY_USAGE);
        let only = purposes == [EKU_TIME_STAMPING];
        return if only && critical { Ok(()) } else { Err(PathError::LeafPurpose("it is not for time-stamps alone")) };
    }
    if !purposes.iter().any(|p| [EKU_CLAIM_SIGNING, EKU_EMAIL_PROTECTION, EKU_DOCUMENT_SIGNING].contains(p)) {
        return Err(PathError::LeafPurpose("no claim-signing, e-mail or document-signing extended key usage"));
    }
    Ok(())
}

/// An intermediate that is for something may issue for that only, where authorities share roots with claim signers (CA/Browser Forum
/// Code Signing Requirements §7.1.2.2).
fn check_stamp_issuer(certificate: &Certificate, position: usize) -> Result<(), PathError> {
    let purposes = certificate.extended_key_usage().map_err(|_| PathError::Malformed(position))?;
    let fits = purposes.is_empty() || purposes.iter().any(|p| [EKU_TIME_STAMPING, ANY_PURPOSE].contains(p));
    if fits { Ok(()) } else { Err(PathError::NotAnIssuer(position)) }
}

/// An intermediate must be a CA that may sign certificates, with at most as many CAs below it as it allows.
fn check_issuer(certificate: &Certificate, position: usize) -> Result<(), PathError> {
    let malformed = |_: PkiError| PathError::Malformed(position);
    let (is_ca, path_len) = certificate.basic_constraints().map_err(malformed)?.unwrap_or((false, None));
    let may_sign = certificate.key_usage().map_err(malformed)?.is_none_or(|u| u.key_cert_sign());
    let below = position - 1;
    if is_ca && may_sign && path_len.is_none_or(|limit| usize::from(limit) >= below) {
        Ok(())
    } else {
        Err(PathError::NotAnIssuer(position))
    }
}
