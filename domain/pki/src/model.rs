//! Names, roles and trust anchors.

use crate::{Certificate, PkiError};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The two parallel hierarchies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hierarchy {
    /// P-384 root and issuer, P-256 leaves.
    Classical,
    /// SLH-DSA-SHA2-128s root, ML-DSA-65 issuer, post-quantum leaves.
    PostQuantum,
}

/// What goes into our certificates' names and URLs.
#[derive(Debug, Clone)]
pub struct PkiSettings {
    /// Organisation (`O`).
    pub organization: String,
    /// ISO 3166 country (`C`).
    pub country: String,
    /// Where OCSP and issuer certificates are served, without a final slash. Must be `http:` or `https:`.
    pub public_url: String,
    /// The product's record in the C2PA Conforming Products List. Without one, leaves carry no `c2pa-cpl-record` extension.
    pub cpl_record: Option<String>,
}

/// Where a trust anchor came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnchorSource {
    /// The built-in C2PA trust list of claim signers.
    C2pa,
    /// The built-in C2PA trust list of time-stamp authorities.
    C2paTsa,
    /// Anchors from the configuration.
    Tenant,
    /// Our own PKI.
    Own,
}

/// A set of trust anchors, found by subject.
#[derive(Debug, Clone, Default)]
pub struct TrustAnchors {
    anchors: Vec<(Certificate, AnchorSource)>,
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
    digest: [u8; 32],
}

impl TrustAnchors {
    /// No anchors.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds an anchor unless it is there already.
    pub fn add(&mut self, certificate: Certificate, source: AnchorSource) {
        if self.anchors.iter().any(|(c, s)| *c == certificate && *s == source) {
            return;
        }
        let mut hash = Sha256::new();
        hash.update(self.digest);
        hash.update(&certificate.der);
        hash.update([source as u8]);
        self.digest = hash.finalize().into();
        self.by_subject.entry(certificate.subject.clone()).or_default().push(self.anchors.len());
        self.anchors.push((certificate, source));
    }
    /// Adds every certificate of a PEM text.
    pub fn add_pem(&mut self, pem: &[u8], source: AnchorSource) -> Result<(), PkiError> {
        for certificate in Certificate::from_pem_bundle(pem)? {
            self.add(certificate, source);
        }
        Ok(())
    }
    /// Anchors whose subject is this name (DER).
    pub fn with_subject<'a>(&'a self, subject: &[u8]) -> impl Iterator<Item = (&'a Certificate, AnchorSource)> + use<'a> {
        self.by_subject.get(subject).into_iter().flatten().map(|at| (&self.anchors[*at].0, self.anchors[*at].1))
    }
    /// Every anchor.
    pub fn iter(&self) -> impl Iterator<Item = &(Certificate, AnchorSource)> {
        self.anchors.iter()
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }
    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }
    /// Changes with every anchor added: the version of the list, for cache keys.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
