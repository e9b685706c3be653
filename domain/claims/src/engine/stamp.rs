//! Time-stamps of claim signatures (C2PA 2.2 §10.3.2.5): asked for at signing, judged at verifying.

use super::sign::SignPlan;
use crate::report::Status;
use omt_crypto::{
    CryptoError, Provider,
    cose::{MAX_TOKEN, ParsedSign1, StampHeader},
};
use omt_kernel::{
    Error,
    port::{TimestampAuthority, no_timestamp},
};
use omt_pki::{TrustAnchors, path::PathError};
use omt_timestamp::{Imprint, Stamp, StampError, Token};
use sha2::{Digest, Sha256};
use std::{sync::Mutex, time::Instant};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// How far an authority's clock may be from ours when it stamps what we made just now.
const SKEW: Duration = Duration::minutes(10);

/// A time-stamp that holds.
pub(super) struct Stamped {
    pub(super) stamp: Stamp,
    /// It is about the claim alone: the deprecated header. Who had it made could sign years later, with a key that leaked since.
    of_claim: bool,
}

impl Stamped {
    /// Whether the signature was there at the time that it says, by the word of an authority that is trusted.
    pub(super) fn is_trusted(&self) -> bool {
        self.stamp.path.is_ok() && !self.of_claim
    }
}

/// Whether a claim signature's time-stamp holds; none where there is none.
pub(super) type StampVerdict = Option<Result<Stamped, StampError>>;

/// Judges a claim signature's time-stamp.
pub(super) fn judge(sign1: &ParsedSign1, claim: &[u8], anchors: &TrustAnchors, provider: &dyn Provider) -> StampVerdict {
    let header = match sign1.stamp.as_ref()? {
        Ok(header) => header,
        Err(_) => return Some(Err(StampError::Malformed("its header holds not one token"))),
    };
    Some(hold(sign1, header, claim, anchors, provider))
}

fn hold(
    sign1: &ParsedSign1,
    header: &StampHeader,
    claim: &[u8],
    anchors: &TrustAnchors,
    provider: &dyn Provider,
) -> Result<Stamped, StampError> {
    // The deprecated header has the authority's whole answer, which some writers put into the other too.
    let token = omt_timestamp::token_in(&header.token).unwrap_or(&header.token);
    let stamp = omt_timestamp::verify(&Token::parse(token)?, &sign1.stamped(header, claim), anchors, provider)?;
    Ok(Stamped { stamp, of_claim: header.of_claim })
}

/// When a claim was signed, by the word of an authority that is trusted.
pub(super) fn trusted_time(verdict: &StampVerdict) -> Option<OffsetDateTime> {
    let stamped = verdict.as_ref()?.as_ref().ok()?;
    stamped.is_trusted().then_some(stamped.stamp.time)
}

/// What C2PA calls it (2.2 §15.8): what went well, and what did not, which leaves the claim valid.
pub(super) fn statuses(verdict: &Result<Stamped, StampError>, url: &str) -> (Vec<Status>, Option<Status>) {
    let status = |code: &str, words: String| Status { code: code.into(), url: Some(url.to_owned()), explanation: Some(words) };
    match verdict {
        Ok(Stamped { stamp, of_claim }) => {
            let when = stamp.time.format(&Rfc3339).unwrap_or_default();
            let about = if *of_claim { "the claim, and not its signature, was" } else { "the signature was" };
            let validated = status("timeStamp.validated", format!("{about} stamped at {when} by {}", stamp.authority));
            match &stamp.path {
                Ok(_) => (vec![validated, status("timeStamp.trusted", "the time-stamp authority is trusted".into())], None),
                Err(error @ PathError::Validity(0)) => {
                    (vec![validated], Some(status("timeStamp.outsideValidity", error.to_string())))
                }
                Err(error) => (vec![validated], Some(status("timeStamp.untrusted", format!("time-stamp authority: {error}")))),
            }
        }
        Err(error) => {
            let code = match error {
                StampError::Malformed(_) => "timeStamp.malformed",
                StampError::Mismatch => "timeStamp.mismatch",
                StampError::Signature(_) => "timeStamp.untrusted",
            };
            (Vec::new(), Some(status(code, error.to_string())))
        }
    }
}

/// Asks an authority for one signing's time-stamp.
pub(super) struct Stamping<'a> {
    authority: &'a dyn TimestampAuthority,
    provider: &'a dyn Provider,
    nonce: [u8; 16],
    now: OffsetDateTime,
    /// When that was: writing a large asset takes long.
    begun: Instant,
    /// The manifest engine tells no reasons.
    refusal: Mutex<Option<Error>>,
}

impl<'a> Stamping<'a> {
    pub(super) fn new(authority: &'a dyn TimestampAuthority, provider: &'a dyn Provider, plan: &SignPlan) -> Self {
        // Of the plan's secret, so that nobody can have asked for it before.
        let secret: [u8; 32] = Sha256::new().chain_update(b"time-stamp").chain_update(plan.salts).finalize().into();
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&secret[..16]);
        Self { authority, provider, nonce, now: plan.now, begun: Instant::now(), refusal: Mutex::new(None) }
    }

    /// A token about these bytes, which holds.
    pub(super) fn stamp(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.ask(message).map_err(|error| {
            *self.refusal.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
            CryptoError::Malformed("no time-stamp")
        })
    }

    fn ask(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let imprint = Imprint::of(message, self.nonce);
        let request = omt_timestamp::request(&imprint).map_err(no_timestamp)?;
        let answer = self.authority.ask(request)?;
        let der = omt_timestamp::token_in(&answer).map_err(no_timestamp)?;
        let token = Token::parse(der).map_err(no_timestamp)?;
        if der.len() > MAX_TOKEN {
            return Err(no_timestamp("its token is longer than there is room for"));
        }
        if !imprint.is_answered_by(&token) {
            return Err(no_timestamp("the answer is not to what was asked"));
        }
        // Whom to trust is for those who verify to say.
        let stamp = omt_timestamp::verify(&token, message, &TrustAnchors::default(), self.provider);
        let stamp = stamp.map_err(no_timestamp)?;
        if (stamp.time - (self.now + self.begun.elapsed())).abs() > SKEW {
            return Err(no_timestamp("its clock and ours are more than ten minutes apart"));
        }
        Ok(der.to_vec())
    }

    /// Why there was none.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.refusal.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}
