//! Tokens that OpenSSL made (`data/make.sh`), and what becomes of them.

#![allow(clippy::unwrap_used)]

use omt_crypto::{Provider, ProviderName};
use omt_pki::{
    AnchorSource, Certificate, TrustAnchors,
    path::{self, PathError, Purpose},
};
use omt_timestamp::{Stamp, StampError, Token, token_in, verify};
use std::sync::Arc;

const MESSAGE: &[u8] = include_bytes!("data/message");
const ECDSA: &[u8] = include_bytes!("data/ecdsa.tsr");
const RSA: &[u8] = include_bytes!("data/rsa.tsr");
const UPSTART: &[u8] = include_bytes!("data/upstart.tsr");
const ROOT: &[u8] = include_bytes!("data/root.pem");

fn provider() -> Arc<dyn Provider> {
    ProviderName::AwsLc.provider()
}

fn anchors(pem: &[u8]) -> TrustAnchors {
    let mut anchors = TrustAnchors::default();
    anchors.add_pem(pem, AnchorSource::Tenant).unwrap();
    anchors
}

fn verified(token: &[u8], message: &[u8], anchors: &TrustAnchors) -> Result<Stamp, StampError> {
    verify(&Token::parse(token)?, message, anchors, provider().as_ref())
}

#[test]
fn what_an_authority_under_an_anchor_made_is_trusted() {
    for (response, name) in [(ECDSA, "CN=authority"), (RSA, "CN=rsa")] {
        let token = token_in(response).unwrap();
        let stamp = verified(token, MESSAGE, &anchors(ROOT)).unwrap();
        assert!(stamp.authority.contains(name), "{}", stamp.authority);
        assert_eq!(stamp.path.as_ref().map(|path| path.source), Ok(AnchorSource::Tenant));
        assert_eq!(stamp.time, Token::parse(token).unwrap().info.time);
        // Nobody else's word makes it trusted, and it is about nothing else.
        assert_eq!(verified(token, MESSAGE, &TrustAnchors::default()).unwrap().path, Err(PathError::NoAnchor));
        assert_eq!(verified(token, b"what is not", &anchors(ROOT)), Err(StampError::Mismatch));
    }
}

#[test]
fn only_who_may_stamp_is_believed() {
    let token = token_in(UPSTART).unwrap();
    // Its issuer is an authority, which may issue nothing.
    assert_eq!(verified(token, MESSAGE, &anchors(ROOT)).unwrap().path, Err(PathError::NotAnIssuer(1)));
    let issuer = Certificate::from_pem_bundle(include_bytes!("data/issuer.pem")).unwrap().remove(0);
    let path = |pem: &[u8], purpose| {
        let leaf = Certificate::from_pem_bundle(pem).unwrap().remove(0);
        let at = leaf.validity().0 + std::time::Duration::from_secs(60);
        path::validate_for(purpose, &[leaf.der, issuer.der.clone()], &anchors(ROOT), at, provider().as_ref())
    };
    let (mixed, unmarked) = (include_bytes!("data/mixed.pem"), include_bytes!("data/unmarked.pem"));
    let authority = include_bytes!("data/authority.pem");
    assert!(path(authority, Purpose::TimeStamping).is_ok());
    for leaf in [mixed.as_slice(), unmarked] {
        assert!(matches!(path(leaf, Purpose::TimeStamping), Err(PathError::LeafPurpose(_))));
    }
    // The other way about: an authority signs no claims.
    assert!(path(mixed, Purpose::ClaimSigning).is_ok());
    assert!(matches!(path(authority, Purpose::ClaimSigning), Err(PathError::LeafPurpose(_))));
}

#[test]
fn a_changed_byte_is_never_another_word() {
    let token = token_in(ECDSA).unwrap();
    let anchors = anchors(ROOT);
    let said = verified(token, MESSAGE, &anchors).unwrap();
    // What it says stands after the object identifier of its kind, before the certificates.
    let kind = [0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
    let begin = token.windows(kind.len()).position(|w| w == kind).unwrap();
    let content = begin..begin + kind.len() + 120;
    for at in 0..token.len() {
        for bit in [1, 0x80] {
            let mut changed = token.to_vec();
            changed[at] ^= bit;
            // What is not signed may change: versions, certificates that are not needed.
            if let Ok(found) = verified(&changed, MESSAGE, &anchors) {
                assert!(found.time == said.time && found.authority == said.authority && !content.contains(&at), "at {at}");
            }
        }
    }
    for end in 0..token.len() {
        assert!(Token::parse(&token[..end]).is_err(), "{end}");
    }
    let longer = [token, &[0]].concat();
    assert!(Token::parse(&longer).is_err());
    // A whole response is no token.
    assert!(Token::parse(ECDSA).is_err());
}
