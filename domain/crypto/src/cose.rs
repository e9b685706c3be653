//! COSE_Sign1 as C2PA claims carry it (RFC 9052 §4.2; C2PA 2.2 §13.2), and the post-quantum countersignature of profile
//! `omt-hybrid/1` (RFC 9338 §3.3): unprotected label 11 of the claim signature. Time-stamps stand beside it (C2PA 2.2 §10.3.2.5).

use crate::{
    Algorithm, CryptoError,
    cbor::{self, Major},
};
use ciborium::Value;

/// COSE header label of the algorithm.
const ALG: i64 = 1;
/// COSE header label of the countersignature version 2 (RFC 9338 table 1).
const COUNTERSIGNATURE_V2: i64 = 11;
/// COSE header label of the certificate chain, leaf first (RFC 9360).
const X5CHAIN: i64 = 33;
/// Tag of COSE_Sign1.
const TAG_SIGN1: u64 = 18;
/// Room left in `pad`, so that a template's size is the same whatever its signatures are.
const PAD: usize = 16;

/// The header of a time-stamp over the claim signature, and the deprecated one over the claim.
const SIG_TST2: &str = "sigTst2";
const SIG_TST: &str = "sigTst";
/// Room for a time-stamp token, with the certificates that come with it.
pub const MAX_TOKEN: usize = 10 << 10;

/// Signs bytes; the key is wherever the caller has it.
pub type SignFn<'a> = &'a (dyn Fn(&[u8]) -> Result<Vec<u8>, CryptoError> + 'a);

/// A signer's algorithm and certificate chain, leaf first, without the root.
#[derive(Debug, Clone)]
pub struct SignerCertificates {
    /// The leaf key's algorithm.
    pub algorithm: Algorithm,
    /// DER certificates, leaf first.
    pub chain: Vec<Vec<u8>>,
}

impl SignerCertificates {
    /// The protected header `{1: alg, 33: x5chain}` (a lone certificate is a byte string, RFC 9360 §2).
    fn protected(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.chain.iter().map(|c| c.len() + 5).sum::<usize>());
        cbor::head(&mut out, Major::Map, 2);
        cbor::int(&mut out, ALG);
        cbor::int(&mut out, self.algorithm.cose_id());
        cbor::int(&mut out, X5CHAIN);
        if let [only] = self.chain.as_slice() {
            cbor::bytes(&mut out, only);
        } else {
            cbor::head(&mut out, Major::Array, self.chain.len() as u64);
            for certificate in &self.chain {
                cbor::bytes(&mut out, certificate);
            }
        }
        out
    }
}

/// Everything about a claim signature that does not depend on the claim: made once for a signer, used for many claims.
#[derive(Debug, Clone)]
pub struct Sign1Template {
    protected: Vec<u8>,
    counter_protected: Option<Vec<u8>>,
    stamped: bool,
    reserve: usize,
}

/// What signs a claim.
#[derive(Clone, Copy)]
pub struct Signers<'a> {
    /// Makes the claim signature.
    pub claim: SignFn<'a>,
    /// Makes the countersignature.
    pub counter: Option<SignFn<'a>>,
    /// Gives a time-stamp token about bytes.
    pub stamp: Option<SignFn<'a>>,
}

impl Sign1Template {
    /// A template for a claim signature, with a countersignature where one is given, and with room for a time-stamp where there
    /// will be one.
    pub fn new(claim: &SignerCertificates, counter: Option<&SignerCertificates>, stamped: bool) -> Self {
        let protected = claim.protected();
        let counter_protected = counter.map(SignerCertificates::protected);
        let mut template = Self { protected, counter_protected, stamped, reserve: 0 };
        let signature = vec![0; claim.algorithm.signature_len()];
        let counter_signature = counter.map(|c| vec![0; c.algorithm.signature_len()]);
        let token = stamped.then(|| vec![0; MAX_TOKEN]);
        template.reserve = template.encode(&signature, counter_signature.as_deref(), token.as_deref(), &[PAD]).len();
        template
    }

    /// The exact number of bytes that [`Self::sign`] returns.
    pub fn reserve_size(&self) -> usize {
        self.reserve
    }

    /// Signs `claim` (its CBOR bytes, detached) and returns a tagged COSE_Sign1 of exactly [`Self::reserve_size`] bytes. The
    /// time-stamp is asked for last: about the claim signature, which the countersignature covers too.
    pub fn sign(&self, claim: &[u8], signers: Signers<'_>) -> Result<Vec<u8>, CryptoError> {
        let signature = (signers.claim)(&sig_structure(&self.protected, claim))?;
        let counter_signature = match (&self.counter_protected, signers.counter) {
            (Some(protected), Some(countersign)) => {
                Some(countersign(&countersign_structure(&self.protected, protected, claim, &signature))?)
            }
            (None, None) => None,
            _ => return Err(CryptoError::Malformed("countersigner without a countersignature or the reverse")),
        };
        let token = match signers.stamp {
            Some(stamp) if self.stamped => Some(stamp(&stamped_structure(&self.protected, &stamped_signature(&signature)))?),
            None if !self.stamped => None,
            _ => return Err(CryptoError::Malformed("a time-stamp without room for it or the reverse")),
        };
        let encode = |pads: &[usize]| self.encode(&signature, counter_signature.as_deref(), token.as_deref(), pads);
        let bare = encode(&[0]).len();
        let missing = self.reserve.checked_sub(bare).ok_or(CryptoError::DoesNotFit { need: bare, have: self.reserve })?;
        // A longer byte string has a longer head, so that one pad cannot be of every length; two can (C2PA 2.2 §13.2.3).
        let pads = |missing: usize| [0, 1, 2, 4].into_iter().filter_map(move |head| missing.checked_sub(head));
        let fits = |out: &Vec<u8>| out.len() == self.reserve;
        let one = pads(missing).map(|pad| encode(&[pad])).find(fits);
        let two = || missing.checked_sub(SECOND_PAD).and_then(|missing| pads(missing).map(|pad| encode(&[pad, 0])).find(fits));
        one.or_else(two).ok_or(CryptoError::DoesNotFit { need: bare + 1, have: self.reserve })
    }

    fn encode(&self, signature: &[u8], counter_signature: Option<&[u8]>, token: Option<&[u8]>, pads: &[usize]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.reserve.max(4096));
        cbor::head(&mut out, Major::Tag, TAG_SIGN1);
        cbor::head(&mut out, Major::Array, 4);
        cbor::bytes(&mut out, &self.protected);
        let counter = self.counter_protected.as_deref().zip(counter_signature);
        let entries = u64::from(counter.is_some()) + u64::from(token.is_some()) + pads.len() as u64;
        cbor::head(&mut out, Major::Map, entries);
        if let Some((protected, signature)) = counter {
            cbor::int(&mut out, COUNTERSIGNATURE_V2);
            cbor::head(&mut out, Major::Array, 3);
            cbor::bytes(&mut out, protected);
            cbor::head(&mut out, Major::Map, 0);
            cbor::bytes(&mut out, signature);
        }
        if let Some(token) = token {
            cbor::text(&mut out, SIG_TST2);
            cbor::head(&mut out, Major::Map, 1);
            cbor::text(&mut out, "tstTokens");
            cbor::head(&mut out, Major::Array, 1);
            cbor::head(&mut out, Major::Map, 1);
            cbor::text(&mut out, "val");
            cbor::bytes(&mut out, token);
        }
        for (name, pad) in ["pad", "pad2"].iter().zip(pads) {
            cbor::text(&mut out, name);
            cbor::bytes(&mut out, &vec![0; *pad]);
        }
        out.push(0xf6); // null: the payload is detached
        cbor::bytes(&mut out, signature);
        out
    }
}

/// The bytes that a second, empty pad takes.
const SECOND_PAD: usize = 6;

/// What a time-stamp token is about: the `Sig_structure` of a countersignature, `["CounterSignature", body_protected, h'', payload]`
/// (C2PA 2.2 §10.3.2.5.2). The payload is the claim signature as a CBOR byte string, or the claim for the deprecated header.
pub fn stamped_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(protected.len() + payload.len() + 40);
    cbor::head(&mut out, Major::Array, 4);
    cbor::text(&mut out, "CounterSignature");
    cbor::bytes(&mut out, protected);
    cbor::bytes(&mut out, &[]);
    cbor::bytes(&mut out, payload);
    out
}

fn stamped_signature(signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(signature.len() + 4);
    cbor::bytes(&mut out, signature);
    out
}

/// A time-stamp of a claim signature, as it stands in the header.
#[derive(Debug, Clone, PartialEq)]
pub struct StampHeader {
    /// A TimeStampToken, or in the deprecated header a TimeStampResp.
    pub token: Vec<u8>,
    /// Whether it is about the claim alone: the deprecated header.
    pub of_claim: bool,
}

impl ParsedSign1 {
    /// The bytes that its time-stamp must be about.
    pub fn stamped(&self, header: &StampHeader, claim: &[u8]) -> Vec<u8> {
        let of_signature = || stamped_signature(&self.claim.signature);
        if header.of_claim {
            stamped_structure(&self.claim.protected, claim)
        } else {
            stamped_structure(&self.claim.protected, &of_signature())
        }
    }
}

/// The one token of a `tstContainer` (C2PA 2.2 §10.3.2.5.4).
fn stamp_header(unprotected: &[(Value, Value)]) -> Option<Result<StampHeader, CryptoError>> {
    let (container, of_claim) = match (cbor::get_text(unprotected, SIG_TST2), cbor::get_text(unprotected, SIG_TST)) {
        (Some(container), _) => (container, false),
        (None, Some(container)) => (container, true),
        (None, None) => return None,
    };
    let read = || {
        let tokens = cbor::get_text(container.as_map()?, "tstTokens")?.as_array()?;
        let [one] = tokens.as_slice() else { return None };
        Some(StampHeader { token: cbor::get_text(one.as_map()?, "val")?.as_bytes()?.clone(), of_claim })
    };
    Some(read().ok_or(CryptoError::Malformed("time-stamp")))
}

/// `Sig_structure` of RFC 9052 §4.4: `["Signature1", body_protected, external_aad = h'', payload]`.
pub fn sig_structure(protected: &[u8], claim: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(protected.len() + claim.len() + 32);
    cbor::head(&mut out, Major::Array, 4);
    cbor::text(&mut out, "Signature1");
    cbor::bytes(&mut out, protected);
    cbor::bytes(&mut out, &[]);
    cbor::bytes(&mut out, claim);
    out
}

/// `Countersign_structure` of RFC 9338 §3.3: `["CounterSignatureV2", body_protected, sign_protected, h'', payload, [signature]]`.
pub fn countersign_structure(protected: &[u8], sign_protected: &[u8], claim: &[u8], signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(protected.len() + sign_protected.len() + claim.len() + signature.len() + 64);
    cbor::head(&mut out, Major::Array, 6);
    cbor::text(&mut out, "CounterSignatureV2");
    cbor::bytes(&mut out, protected);
    cbor::bytes(&mut out, sign_protected);
    cbor::bytes(&mut out, &[]);
    cbor::bytes(&mut out, claim);
    cbor::head(&mut out, Major::Array, 1);
    cbor::bytes(&mut out, signature);
    out
}

/// One signature with the headers that bind it: the claim signature or the countersignature.
#[derive(Debug, Clone, PartialEq)]
pub struct SignatureBlock {
    /// The protected header's bytes as they stand in the file.
    pub protected: Vec<u8>,
    /// The algorithm's COSE identifier, known to us or not.
    pub alg: i64,
    /// DER certificates, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl SignatureBlock {
    /// The algorithm, when we know it.
    pub fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::from_cose_id(self.alg)
    }
}

/// A parsed claim signature.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedSign1 {
    /// The claim signature.
    pub claim: SignatureBlock,
    /// The countersignature: absent, present and well-formed, or present and malformed.
    pub countersignature: Option<Result<SignatureBlock, CryptoError>>,
    /// The time-stamp: absent, present, or present and malformed.
    pub stamp: Option<Result<StampHeader, CryptoError>>,
}

/// Parses a COSE_Sign1, tagged or not, with a detached payload.
pub fn parse_sign1(bytes: &[u8]) -> Result<ParsedSign1, CryptoError> {
    // The reserved space after the structure may hold zeros that some writers leave instead of a pad header.
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    let value = cbor::decode(bytes).or_else(|e| if end < bytes.len() { cbor::decode(&bytes[..end]) } else { Err(e) })?;
    let value = untag(value, TAG_SIGN1);
    let Value::Array(parts) = value else { return Err(CryptoError::Malformed("COSE_Sign1 is not an array")) };
    let [protected, unprotected, _payload, signature]: [Value; 4] =
        parts.try_into().map_err(|_| CryptoError::Malformed("COSE_Sign1 has not four parts"))?;
    let Value::Map(unprotected) = unprotected else { return Err(CryptoError::Malformed("unprotected header")) };
    let claim = block(protected, signature, Some(&unprotected))?;
    let countersignature = cbor::get_int(&unprotected, COUNTERSIGNATURE_V2).map(countersignature);
    let stamp = stamp_header(&unprotected);
    Ok(ParsedSign1 { claim, countersignature, stamp })
}

fn untag(value: Value, tag: u64) -> Value {
    match value {
        Value::Tag(found, inner) if found == tag => *inner,
        other => other,
    }
}

/// `COSE_Countersignature / [+ COSE_Countersignature]`, tag 19 allowed; the first of several counts.
fn countersignature(value: &Value) -> Result<SignatureBlock, CryptoError> {
    const TAG_COUNTERSIGNATURE: u64 = 19;
    let malformed = CryptoError::Malformed("countersignature");
    let mut value = untag(value.clone(), TAG_COUNTERSIGNATURE);
    if let Value::Array(list) = &value
        && let Some(first @ (Value::Array(_) | Value::Tag(TAG_COUNTERSIGNATURE, _))) = list.first()
    {
        value = untag(first.clone(), TAG_COUNTERSIGNATURE);
    }
    let Value::Array(parts) = value else { return Err(malformed) };
    let [protected, _unprotected, signature]: [Value; 3] = parts.try_into().map_err(|_| malformed)?;
    block(protected, signature, None)
}

fn block(protected: Value, signature: Value, unprotected: Option<&[(Value, Value)]>) -> Result<SignatureBlock, CryptoError> {
    let (Value::Bytes(protected), Value::Bytes(signature)) = (protected, signature) else {
        return Err(CryptoError::Malformed("protected header or signature is not a byte string"));
    };
    let Value::Map(header) = cbor::decode(&protected)? else { return Err(CryptoError::Malformed("protected header")) };
    let alg = cbor::get_int(&header, ALG)
        .and_then(Value::as_integer)
        .and_then(|i| i64::try_from(i).ok())
        .ok_or(CryptoError::Malformed("no algorithm in the protected header"))?;
    let repeated = |map: &[(Value, Value)]| (1..map.len()).any(|at| map[..at].iter().any(|(k, _)| *k == map[at].0));
    if repeated(&header) || unprotected.is_some_and(repeated) {
        return Err(CryptoError::Malformed("a header label stands twice"));
    }
    // Label 33, or in claims of C2PA 1.x its name, there also unprotected (C2PA 1.4 §13.2). Two chains would let two readers
    // see two signers.
    let candidates = [
        cbor::get_int(&header, X5CHAIN),
        cbor::get_text(&header, "x5chain"),
        unprotected.and_then(|u| cbor::get_int(u, X5CHAIN)),
        unprotected.and_then(|u| cbor::get_text(u, "x5chain")),
    ];
    if candidates.iter().flatten().count() > 1 || candidates[2].is_some() {
        return Err(CryptoError::Malformed("more than one x5chain, or one where it may not stand"));
    }
    let chain = candidates.into_iter().flatten().next();
    let chain = match chain {
        Some(Value::Bytes(one)) => vec![one.clone()],
        Some(Value::Array(many)) => {
            many.iter().map(|v| v.as_bytes().cloned().ok_or(CryptoError::Malformed("x5chain"))).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(CryptoError::Malformed("x5chain")),
        None => Vec::new(),
    };
    Ok(SignatureBlock { protected, alg, chain, signature })
}

/// The same claim signature without its countersignature: what an attacker or a careless tool would leave. For tests and for
/// showing that stripping is noticed; the freed bytes go to `pad`, so that the length stays.
pub fn strip_countersignature(bytes: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let malformed = CryptoError::Malformed("COSE_Sign1");
    let Value::Tag(TAG_SIGN1, inner) = cbor::decode(bytes)? else { return Err(malformed) };
    let Value::Array(mut parts) = *inner else { return Err(malformed) };
    let Some(Value::Map(unprotected)) = parts.get_mut(1) else { return Err(malformed) };
    unprotected.retain(|(k, _)| k.as_integer() != Some(COUNTERSIGNATURE_V2.into()) && k.as_text() != Some("pad"));
    let entries = unprotected.len();
    let encode = |parts: &Vec<Value>| {
        let mut out = Vec::new();
        ciborium::into_writer(&Value::Tag(TAG_SIGN1, Box::new(Value::Array(parts.clone()))), &mut out)
            .map_err(|_| CryptoError::Malformed("COSE_Sign1"))?;
        Ok::<_, CryptoError>(out)
    };
    let bare = encode(&parts)?.len();
    let missing = bytes.len().saturating_sub(bare + "pad".len() + 1);
    for overhead in [1, 2, 3, 5] {
        let mut padded = parts.clone();
        if let Some(Value::Map(unprotected)) = padded.get_mut(1) {
            unprotected.truncate(entries);
            unprotected.push((Value::Text("pad".into()), Value::Bytes(vec![0; missing.saturating_sub(overhead)])));
        }
        let out = encode(&padded)?;
        if out.len() == bytes.len() {
            return Ok(out);
        }
    }
    Err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProviderName;

    fn hybrid() -> (Sign1Template, Vec<u8>, Vec<u8>) {
        let provider = ProviderName::AwsLc.provider();
        let (es, pq) = (provider.generate(Algorithm::Es256).unwrap(), provider.generate(Algorithm::MlDsa65).unwrap());
        let (es_key, pq_key) = (provider.load(&es).unwrap(), provider.load(&pq).unwrap());
        let template = Sign1Template::new(
            &SignerCertificates { algorithm: Algorithm::Es256, chain: vec![vec![1; 700], vec![2; 800]] },
            Some(&SignerCertificates { algorithm: Algorithm::MlDsa65, chain: vec![vec![3; 5000]] }),
            false,
        );
        let claim = b"a claim".to_vec();
        let signers = Signers { claim: &|m| es_key.sign(m), counter: Some(&|m: &[u8]| pq_key.sign(m)), stamp: None };
        let cose = template.sign(&claim, signers).unwrap();
        let parsed = parse_sign1(&cose).unwrap();
        let tbs = sig_structure(&parsed.claim.protected, &claim);
        provider.verify(Algorithm::Es256, &es.public, &tbs, &parsed.claim.signature).unwrap();
        let counter = parsed.countersignature.unwrap().unwrap();
        assert_eq!(counter.algorithm(), Some(Algorithm::MlDsa65));
        assert_eq!(counter.chain, vec![vec![3; 5000]]);
        let tbs = countersign_structure(&parsed.claim.protected, &counter.protected, &claim, &parsed.claim.signature);
        provider.verify(Algorithm::MlDsa65, &pq.public, &tbs, &counter.signature).unwrap();
        (template, claim, cose)
    }

    #[test]
    fn hybrid_signature_has_the_reserved_size_and_both_parts_verify() {
        let (template, _, cose) = hybrid();
        assert_eq!(cose.len(), template.reserve_size());
    }

    #[test]
    fn time_stamps_of_every_length_fill_their_room() {
        let signer = SignerCertificates { algorithm: Algorithm::Es256, chain: vec![vec![1; 700]] };
        let template = Sign1Template::new(&signer, None, true);
        let seen = std::cell::RefCell::new(Vec::new());
        let lengths = (0..=300).chain(MAX_TOKEN - 300..=MAX_TOKEN).chain([1_000, 5_000, 9_900]);
        for length in lengths {
            let stamp = |message: &[u8]| {
                seen.replace(message.to_vec());
                Ok(vec![7; length])
            };
            let signers = Signers { claim: &|_| Ok(vec![9; 64]), counter: None, stamp: Some(&stamp) };
            let cose = template.sign(b"a claim", signers).unwrap();
            assert_eq!(cose.len(), template.reserve_size(), "{length}");
            let parsed = parse_sign1(&cose).unwrap();
            let header = parsed.stamp.clone().unwrap().unwrap();
            assert_eq!(header, StampHeader { token: vec![7; length], of_claim: false });
            assert_eq!(parsed.stamped(&header, b"a claim"), *seen.borrow());
        }
        let large = |_: &[u8]| Ok(vec![7; MAX_TOKEN + PAD + 20]);
        let signers = Signers { claim: &|_| Ok(vec![9; 64]), counter: None, stamp: Some(&large) };
        assert!(matches!(template.sign(b"a claim", signers), Err(CryptoError::DoesNotFit { .. })));
        assert!(template.sign(b"a claim", Signers { stamp: None, ..signers }).is_err());
    }

    #[test]
    fn stripping_keeps_the_length_and_the_claim_signature() {
        let (_, _, cose) = hybrid();
        let stripped = strip_countersignature(&cose).unwrap();
        assert_eq!(stripped.len(), cose.len());
        let (before, after) = (parse_sign1(&cose).unwrap(), parse_sign1(&stripped).unwrap());
        assert_eq!(before.claim, after.claim);
        assert!(after.countersignature.is_none());
    }

    #[test]
    fn truncated_and_foreign_bytes_are_errors_not_panics() {
        let (_, _, cose) = hybrid();
        for cut in [0, 1, 2, 10, 100, cose.len() - 1] {
            assert!(parse_sign1(&cose[..cut]).is_err(), "{cut}");
        }
        assert!(parse_sign1(b"\xd2\x84\x40\xa0\xf6\x40").is_err());
    }
}
