//! Asking an authority (RFC 3161 §2.4).

use crate::{
    StampError, Token,
    asn1::{Element, trim},
    token::{Hash, SHA256},
};
use der::{
    Encode, Sequence, Tag,
    asn1::{Null, OctetString, UintRef},
};
use sha2::{Digest, Sha256};
use spki::AlgorithmIdentifier;

/// The longest reason that is repeated.
const MAX_WORDS: usize = 200;

/// What an authority is asked to stamp, and the number by which its answer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imprint {
    digest: [u8; 32],
    nonce: [u8; 16],
}

#[derive(Sequence)]
struct MessageImprint {
    hash_algorithm: AlgorithmIdentifier<Null>,
    hashed_message: OctetString,
}

#[derive(Sequence)]
struct TimeStampReq<'a> {
    version: u8,
    message_imprint: MessageImprint,
    nonce: UintRef<'a>,
    cert_req: bool,
}

impl Imprint {
    /// Of these bytes. The number must not be guessed by others, nor used again.
    pub fn of(message: &[u8], nonce: [u8; 16]) -> Self {
        Self { digest: Sha256::digest(message).into(), nonce }
    }

    /// Whether a token is the answer about it.
    pub fn is_answered_by(&self, token: &Token) -> bool {
        let info = &token.info;
        info.hash == Hash::Sha256 && info.imprint == self.digest && info.nonce.as_deref() == Some(trim(&self.nonce))
    }
}

/// A TimeStampReq, DER: with SHA-256, a nonce, and the wish for certificates in the answer.
pub fn request(imprint: &Imprint) -> Result<Vec<u8>, StampError> {
    let failed = |_| StampError::Malformed("the request cannot be written");
    let algorithm = AlgorithmIdentifier { oid: SHA256, parameters: Some(Null) };
    let hashed_message = OctetString::new(imprint.digest).map_err(failed)?;
    let message_imprint = MessageImprint { hash_algorithm: algorithm, hashed_message };
    let nonce = UintRef::new(&imprint.nonce).map_err(failed)?;
    TimeStampReq { version: 1, message_imprint, nonce, cert_req: true }.to_der().map_err(failed)
}

/// Why there is no token in an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no TimeStampResp.
    #[error("the answer is none: {0}")]
    Malformed(#[from] StampError),
    /// The authority grants none: its status (RFC 3161 §2.4.2) and its words.
    #[error("the authority grants no time-stamp (status {status}{words})")]
    Status {
        /// 2 rejection, 3 waiting, 4 and 5 about revocation.
        status: u8,
        /// What it says about it, with what separates it.
        words: String,
    },
}

/// The TimeStampToken in a TimeStampResp, as it stands.
pub fn token_in(response: &[u8]) -> Result<&[u8], Refusal> {
    let mut parts = Element::only(response)?.sequence()?;
    let mut info = parts.take()?.sequence()?;
    let status = match info.take()?.integer()? {
        [] => 0,
        [one] => *one,
        _ => return Err(StampError::Malformed("its status is none").into()),
    };
    // Granted, or granted with modifications.
    if status > 1 {
        let free = info.take_if(|e| e.is(Tag::Sequence)).map(|e| e.parts()).transpose()?.unwrap_or_default();
        let said: Vec<_> = free.iter().map(|text| String::from_utf8_lossy(text.value())).collect();
        let said: String = said.join("; ").chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
        return Err(Refusal::Status { status, words: if said.is_empty() { said } else { format!(": {said}") } });
    }
    Ok(parts.take()?.whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_rfc_says() {
        let imprint = Imprint::of(b"abc", [0, 0x80, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let der = request(&imprint).unwrap();
        let mut parts = Element::only(&der).unwrap().sequence().unwrap();
        assert_eq!(parts.take().unwrap().integer().unwrap(), [1]);
        let mut about = parts.take().unwrap().sequence().unwrap();
        assert_eq!(about.take().unwrap().sequence().unwrap().take().unwrap().oid().unwrap(), SHA256);
        assert_eq!(about.take().unwrap().octets().unwrap(), Sha256::digest(b"abc").as_slice());
        assert_eq!(parts.take().unwrap().integer().unwrap(), trim(&imprint.nonce));
        assert_eq!(parts.take().unwrap().value(), [0xff]);
        assert!(parts.take().is_err());
    }

    #[test]
    fn refusals_say_why() {
        // SEQUENCE { SEQUENCE { INTEGER 2, SEQUENCE { UTF8String "no" } } }
        let refused = [0x30, 9, 0x30, 7, 2, 1, 2, 0x30, 4 - 2, 0x0c, 0];
        assert!(matches!(token_in(&refused), Err(Refusal::Status { status: 2, .. })));
        let words = [0x30, 11, 0x30, 9, 2, 1, 2, 0x30, 4, 0x0c, 2, b'n', b'o'];
        assert_eq!(token_in(&words).unwrap_err().to_string(), "the authority grants no time-stamp (status 2: no)");
        for bad in [&[][..], &[0x30, 0], &[0x30, 5, 0x30, 3, 2, 1, 0], &[0x30, 0x80, 0, 0], b"<html>"] {
            assert!(matches!(token_in(bad), Err(Refusal::Malformed(_))), "{bad:?}");
        }
    }
}
