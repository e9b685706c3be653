//! Verifying content: the engine's validation, between checks of our own before and after it.

use super::{
    Engine, LARGE, len, open,
    stamp::{self, StampVerdict},
    verdict,
};
use crate::{
    engine::context,
    guard,
    jumbf::ManifestStore,
    media::{Embedding, Media},
    post_quantum::{self, PostQuantum, Signed},
    report::VerificationReport,
};
use c2pa::{Context, Reader};
use omt_crypto::{
    certificate_signature,
    cose::{self, ParsedSign1},
};
use omt_kernel::{PqRequirement, Result, port::Content};
use omt_pki::{
    AnchorSource, Certificate, TrustAnchors,
    path::{self, PathError, TrustedPath},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use time::OffsetDateTime;

/// Whether a chain leads to an anchor.
pub(super) type PathVerdict = std::result::Result<TrustedPath, PathError>;

/// The trust anchors of one tenant, by what they are trusted for.
#[derive(Debug, Clone, Default)]
pub struct TrustLists {
    /// Claim signers.
    pub signers: TrustAnchors,
    /// Time-stamp authorities.
    pub timestamps: TrustAnchors,
    /// Post-quantum signers.
    pub post_quantum: TrustAnchors,
}

impl TrustLists {
    /// Changes with every anchor: the lists' version, for cache keys.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for list in [&self.signers, &self.timestamps, &self.post_quantum] {
            hash.update(list.digest());
        }
        hash.finalize().into()
    }
}

/// What to verify, and by whose rules.
#[derive(Debug)]
pub struct VerifyRequest<'a> {
    /// The content.
    pub content: &'a Content,
    /// What it is.
    pub media: Media,
    /// A manifest store beside it, which then counts instead of an embedded one.
    pub sidecar: Option<&'a [u8]>,
    /// Whom to trust.
    pub trust: &'a TrustLists,
    /// What to demand of post-quantum protection.
    pub post_quantum: PqRequirement,
    /// Now.
    pub now: OffsetDateTime,
    /// Also make the crJSON and the chain of custody, which cost extra.
    pub detail: bool,
}

/// What verification found.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Verification {
    /// The report.
    pub report: VerificationReport,
    /// The C2PA crJSON of all manifests, when asked for and readable.
    pub crjson: Option<serde_json::Value>,
    /// Actions and ingredients as a tree, when asked for and readable.
    pub custody: Option<serde_json::Value>,
}

impl Verification {
    /// About how many bytes it takes.
    pub fn weight(&self) -> u32 {
        let report = &self.report;
        let lists = [&report.status_codes].into_iter().chain(report.ingredients.iter().map(|i| &i.codes));
        let statuses: usize = lists.map(|c| c.success.len() + c.informational.len() + c.failure.len()).sum();
        let entries = statuses + report.assertions_verified.len() + report.issues.len() + report.warnings.len();
        let details: usize = [&self.crjson, &self.custody].into_iter().flatten().map(|v| v.to_string().len() * 2).sum();
        u32::try_from(4096 + entries * 512 + details).unwrap_or(u32::MAX)
    }

    fn unreadable(present: bool, code: &str, reason: impl Into<String>) -> Self {
        Self { report: VerificationReport::unreadable(present, code, reason), crjson: None, custody: None }
    }
}

/// What our own reading of the store gives, beside the engine's.
pub(super) struct OwnChecks {
    /// The engine was not asked about trust; our own path validation is the answer.
    pub(super) decides_trust: bool,
    /// Label of each manifest whose claim signature is post-quantum and holds, and whether its signer is trusted.
    pub(super) pure_post_quantum: BTreeMap<String, bool>,
    /// Labels of manifests whose classical claim signature holds although the engine says it does not: it takes a leaf
    /// without an organisation for a bad signature.
    pub(super) nameless_signer: BTreeSet<String>,
    /// Whether any manifest has a claim signature that neither the engine nor we could verify.
    pub(super) unsupported_left: bool,
    /// The active claim's parsed signature.
    pub(super) active: Option<ParsedSign1>,
    /// The certificate of whoever signed it.
    pub(super) leaf: Option<Certificate>,
    /// The active claim signer's chain.
    pub(super) path: PathVerdict,
    /// The active chain, where it leads to no anchor but every certificate was signed by the next.
    pub(super) linked: Option<Vec<Certificate>>,
    /// Post-quantum verdict on the active manifest.
    pub(super) post_quantum: PostQuantum,
    /// Where the countersigner's anchor came from.
    pub(super) post_quantum_source: Option<AnchorSource>,
    /// The active claim signature's time-stamp.
    pub(super) stamp: StampVerdict,
}

impl OwnChecks {
    /// Whether our own check of a manifest's claim signature passed where the engine's cannot.
    pub(super) fn vouches_for(&self, label: &str) -> bool {
        self.pure_post_quantum.contains_key(label) || self.nameless_signer.contains(label)
    }
}

impl Engine {
    /// Verifies. A malformed manifest is a report, not an error; errors are faults of ours.
    pub fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verification> {
        let size = len(request.content)?;
        let _turn = (size >= LARGE).then(|| self.one_large.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        if size == 0 {
            return Ok(Verification::unreadable(false, "manifest.notFound", "the content is empty"));
        }
        let format = match request.media.embedding {
            Embedding::Embedded(format) => Some(format),
            Embedding::Sidecar => None,
        };
        if let Err(hostile) = guard::check(request.media, &mut open(request.content)?) {
            return Ok(Verification::unreadable(true, "general.error", hostile.to_string()));
        }
        let bare = request.media == crate::media::MANIFEST_STORE;
        let store = match (request.sidecar, format) {
            (Some(sidecar), _) => sidecar.to_vec(),
            (None, _) if bare => read_all(request.content)?,
            (None, None) => return Ok(Verification::unreadable(false, "manifest.notFound", "the content has no manifest")),
            (None, Some(format)) => match load(format, request.content)? {
                Ok(store) => store,
                Err(report) => return Ok(self.elsewhere(format, request.content)?.unwrap_or(*report)),
            },
        };
        let parsed = match ManifestStore::parse(&store) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Verification::unreadable(true, "general.error", error.to_string())),
        };
        let decides_trust = is_plain(&parsed, &store);
        let context =
            if decides_trust { self.verifying_plain.clone() } else { self.context_for(&parsed, &store, request.trust)? };
        // The engine judges the very bytes that we parsed, and need not look for them again.
        let (format, stream) = (format.unwrap_or("application/octet-stream"), open(request.content)?);
        let reader = Reader::from_shared_context(&context).with_manifest_data_and_stream(&store, format, stream);
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) => return Ok(Verification::unreadable(true, verdict::error_code(&error), error.to_string())),
        };
        let own = self.own_checks(&parsed, &reader, request, decides_trust);
        let report = verdict::report(&reader, &parsed, own, request);
        let (crjson, custody) =
            if request.detail { (reader.to_crjson_value().ok(), crate::custody::tree(&reader.json())) } else { (None, None) };
        Ok(Verification { report, crjson, custody })
    }

    /// What to say of content without a manifest inside that names one elsewhere in its XMP (C2PA 2.2 §11.5): nothing is fetched.
    fn elsewhere(&self, format: &str, content: &Content) -> Result<Option<Verification>> {
        let reader = Reader::from_shared_context(&self.verifying_plain).with_stream(format, open(content)?);
        Ok(match reader {
            Err(c2pa::Error::RemoteManifestUrl(url)) => {
                let words = format!("the manifest is said to be at {url}, which is not fetched");
                Some(Verification::unreadable(true, "manifest.inaccessible", words))
            }
            _ => None,
        })
    }

    /// A context with only the anchors that this store can need: parsing every anchor costs more than the signatures do.
    fn context_for(&self, store: &ManifestStore<'_>, bytes: &[u8], trust: &TrustLists) -> Result<Arc<Context>> {
        let mut chosen: BTreeMap<[u8; 32], &Certificate> = BTreeMap::new();
        for manifest in &store.manifests {
            let Some(Ok(sign1)) = manifest.signature.map(cose::parse_sign1) else { continue };
            for certificate in sign1.claim.chain.iter().filter_map(|der| Certificate::from_der(der).ok()) {
                for (anchor, _) in trust.signers.with_subject(&certificate.issuer) {
                    chosen.insert(anchor.fingerprint(), anchor);
                }
            }
        }
        let stamped = [b"sigTst".as_slice(), b"c2pa.time-stamp"].iter().any(|mark| guard::find(bytes, mark).is_some());
        if stamped {
            chosen.extend(trust.timestamps.iter().map(|(anchor, _)| (anchor.fingerprint(), anchor)));
        }
        let mut key = Sha256::new();
        chosen.keys().for_each(|fingerprint| key.update(fingerprint));
        let key: [u8; 32] = key.finalize().into();
        if let Some(found) = self.verifying.get(&key) {
            return Ok(found);
        }
        let anchors: String = chosen.values().map(|c| c.to_pem()).collect();
        let made = context(&settings(true, &anchors))?;
        self.verifying.insert(key, made.clone());
        Ok(made)
    }

    fn own_checks(
        &self,
        store: &ManifestStore<'_>,
        reader: &Reader,
        request: &VerifyRequest<'_>,
        decides_trust: bool,
    ) -> OwnChecks {
        let at = request.now;
        let trust = request.trust;
        let mut checks = OwnChecks {
            decides_trust,
            pure_post_quantum: BTreeMap::new(),
            nameless_signer: BTreeSet::new(),
            unsupported_left: false,
            active: None,
            leaf: None,
            path: Err(PathError::Length(0)),
            linked: None,
            post_quantum: PostQuantum::unreadable(),
            post_quantum_source: None,
            stamp: None,
        };
        let active_label = reader.active_label().map(str::to_owned);
        for manifest in &store.manifests {
            let is_active = active_label.as_deref() == Some(manifest.label.as_str());
            let (Some(claim), Some(Ok(sign1))) = (manifest.claim, manifest.signature.map(cose::parse_sign1)) else {
                checks.unsupported_left = true;
                continue;
            };
            if is_active && !same_signer(reader, &sign1) {
                // The engine judged another certificate than the one we read: nothing of ours may vouch for it.
                checks.unsupported_left = true;
                continue;
            }
            let signed_by = Signed::new(&sign1.claim);
            if signed_by.leaf().is_some_and(|leaf| nameless_signer_holds(&sign1, leaf, claim)) {
                checks.nameless_signer.insert(manifest.label.clone());
            }
            let classical = (-39..=-35).contains(&sign1.claim.alg) || matches!(sign1.claim.alg, -7 | -8);
            if sign1.claim.algorithm().is_some_and(|a| a.is_post_quantum())
                && path::usable(&sign1.claim.chain, at).is_ok()
                && signed_by.verify_claim(self.provider(), claim).is_ok()
            {
                let trusted = self.path(&sign1.claim.chain, &trust.post_quantum, at).is_ok();
                checks.pure_post_quantum.insert(manifest.label.clone(), trusted);
            } else if !classical {
                checks.unsupported_left = true;
            }
            if is_active {
                let list =
                    if checks.pure_post_quantum.contains_key(&manifest.label) { &trust.post_quantum } else { &trust.signers };
                checks.stamp = stamp::judge(&sign1, claim, &trust.timestamps, self.provider());
                // The engine's word on a time-stamp is not enough to revive an expired certificate: it does not check that the
                // authority's issuers may issue, and takes claim signers' anchors for it too. Ours is (C2PA 2.2 §15.8).
                let signed = stamp::trusted_time(&checks.stamp);
                checks.path = match signed {
                    // Not remembered: that is by the minute.
                    Some(signed) => path::validate(&sign1.claim.chain, list, signed, self.provider()),
                    None => self.path(&sign1.claim.chain, list, at),
                };
                if checks.path.is_err() {
                    checks.linked = path::links(&sign1.claim.chain, self.provider()).ok();
                }
                let source = std::cell::Cell::new(None);
                let counter = |chain: &[Vec<u8>]| {
                    let verdict = self.path(chain, &trust.post_quantum, at);
                    source.set(verdict.as_ref().ok().map(|path| path.source));
                    verdict
                };
                checks.post_quantum = post_quantum::judge(self.provider(), manifest, &sign1, &counter, signed);
                checks.post_quantum_source = source.get();
                checks.leaf = signed_by.into_leaf();
                checks.active = Some(sign1);
            }
        }
        checks
    }

    /// Path validation with a memory: chains repeat, and a root's SLH-DSA signature is slow to check.
    fn path(&self, chain: &[Vec<u8>], anchors: &TrustAnchors, at: OffsetDateTime) -> PathVerdict {
        let mut key = Sha256::new();
        key.update(anchors.digest());
        key.update(at.unix_timestamp().div_euclid(60).to_be_bytes());
        for certificate in chain {
            key.update((certificate.len() as u64).to_be_bytes());
            key.update(certificate);
        }
        self.validated_paths.get_with(key.finalize().into(), || path::validate(chain, anchors, at, self.provider()))
    }
}

/// Settings for verification: no network, bounded, and with these anchors.
pub(super) fn settings(trust: bool, anchors: &str) -> serde_json::Value {
    let mut settings = json!({
        "core": { "allowed_network_hosts": [], "max_decompressed_manifest_size_in_mb": 16 },
        "verify": { "ocsp_fetch": false, "remote_manifest_fetch": false, "verify_trust": trust },
    });
    if !anchors.is_empty() {
        settings["trust"] = json!({ "trust_anchors": anchors });
    }
    settings
}

/// Whether the store is one manifest whose trust depends on its signer's chain alone: no ingredient manifests, time-stamps,
/// revocation answers or identity assertions. Then our own path validation, which remembers chains, can answer for the engine,
/// which would verify the whole chain again each time.
fn is_plain(store: &ManifestStore<'_>, bytes: &[u8]) -> bool {
    let marks: [&[u8]; 4] = [b"sigTst", b"rVals", b"c2pa.time-stamp", b"c2pa.certificate-status"];
    let identities = store.manifests.iter().flat_map(|m| &m.assertions).any(|(label, _)| label.starts_with("cawg.identity"));
    store.manifests.len() == 1 && !identities && marks.iter().all(|mark| guard::find(bytes, mark).is_none())
}

/// Whether the engine's certificate of the active signer is the one we read.
fn same_signer(reader: &Reader, sign1: &ParsedSign1) -> bool {
    let Some(info) = reader.active_manifest().and_then(|m| m.signature_info()) else { return false };
    let theirs = Certificate::first_pem_der(info.cert_chain());
    theirs.is_some() && theirs.as_ref() == sign1.claim.chain.first()
}

/// Whether a claim's signer has no organisation in its name and its classical signature holds.
fn nameless_signer_holds(sign1: &ParsedSign1, leaf: &Certificate, claim: &[u8]) -> bool {
    let block = &sign1.claim;
    let holds = || {
        let tbs = cose::sig_structure(&block.protected, claim);
        certificate_signature::verify_cose_classical(block.alg, &leaf.spki, &tbs, &block.signature).is_ok()
    };
    !leaf.has_organization() && holds()
}

/// The embedded manifest store, or the report that says why there is none.
fn load(format: &str, content: &Content) -> Result<std::result::Result<Vec<u8>, Box<Verification>>> {
    let mut stream = open(content)?;
    Ok(c2pa::jumbf_io::load_jumbf_from_stream(format, &mut stream).map_err(|error| {
        Box::new(match error {
            c2pa::Error::JumbfNotFound | c2pa::Error::UnsupportedType => {
                Verification::unreadable(false, "manifest.notFound", "the content has no manifest")
            }
            other => Verification::unreadable(true, verdict::error_code(&other), other.to_string()),
        })
    }))
}

fn read_all(content: &Content) -> Result<Vec<u8>> {
    const MAX_STORE: u64 = 64 << 20;
    let mut bytes = Vec::new();
    let mut stream = std::io::Read::take(open(content)?, MAX_STORE);
    omt_kernel::error::Context::context(std::io::Read::read_to_end(&mut stream, &mut bytes), "cannot read content")?;
    Ok(bytes)
}
