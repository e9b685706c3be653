//! Makes the hierarchies of the embedded default at first start, issues leaves when they are first needed, renews them in time.

use crate::{
    AnchorSource, Certificate, Hierarchy, PkiError, PkiSettings, TrustAnchors,
    profile::{self, KeyInfo, Profile, Request},
};
use omt_audit::{AuditTrail, Event};
use omt_crypto::{Algorithm, KeyStore, SignatureScheme, cose::SignerCertificates};
use omt_kernel::{
    Actor, TenantId,
    port::{Clock, Database, Entropy},
    record::CertificateRecord,
    retry,
};
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};
use time::{Duration, OffsetDateTime};

/// Clocks of verifiers may be behind ours by this much.
const BACKDATE: Duration = Duration::minutes(5);

/// Everything needed to sign claims under one scheme.
#[derive(Debug, Clone)]
pub struct SigningIdentity {
    /// The scheme.
    pub scheme: SignatureScheme,
    /// The claim signer's certificates.
    pub claim: SignerCertificates,
    /// The claim signer's key in the key store.
    pub claim_key: String,
    /// The countersigner's certificates and key.
    pub counter: Option<(SignerCertificates, String)>,
    /// SHA-256 of the countersigner's SubjectPublicKeyInfo, for the commitment.
    pub counter_spki_sha256: Option<[u8; 32]>,
    /// The public key in the claim signer's leaf, in its raw encoding.
    pub claim_public: Vec<u8>,
    /// The public key in the countersigner's leaf; empty without one.
    pub counter_public: Vec<u8>,
}

/// The leaf's public key, raw and as SubjectPublicKeyInfo.
fn leaf_key(signer: &SignerCertificates) -> Result<(Vec<u8>, Vec<u8>), PkiError> {
    let leaf = signer.chain.first().ok_or_else(|| PkiError::Malformed("an empty chain".into()))?;
    let spki = Certificate::from_der(leaf)?.spki;
    let (_, public) = omt_crypto::certificate_signature::parse_spki(&spki)?;
    Ok((public, spki))
}

/// Our certificates, by role. Roles: `classical/root`, `classical/issuer`, `classical/leaf/es256`, `pq/root`, `pq/issuer`,
/// `pq/leaf/<algorithm>`.
pub struct Pki {
    keys: Arc<dyn KeyStore>,
    database: Arc<dyn Database>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    audit: Arc<AuditTrail>,
    settings: PkiSettings,
    current: RwLock<HashMap<String, CertificateRecord>>,
    /// One renewal at a time in this process.
    renewing: tokio::sync::Mutex<()>,
}

fn prefix(hierarchy: Hierarchy) -> &'static str {
    match hierarchy {
        Hierarchy::Classical => "classical",
        Hierarchy::PostQuantum => "pq",
    }
}

impl Pki {
    /// Loads what exists and makes what is missing: both roots, both issuers and the leaves of the default scheme.
    pub async fn open(
        keys: Arc<dyn KeyStore>,
        database: Arc<dyn Database>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        audit: Arc<AuditTrail>,
        settings: PkiSettings,
    ) -> Result<Self, PkiError> {
        let current = database.read().await?.certificates().current().await?;
        let current = RwLock::new(current.into_iter().map(|record| (record.role.clone(), record)).collect());
        let pki = Self { keys, database, clock, entropy, audit, settings, current, renewing: tokio::sync::Mutex::new(()) };
        pki.identity(SignatureScheme::DEFAULT).await?;
        Ok(pki)
    }

    /// The identity to sign with under `scheme`, made or renewed first where needed.
    pub async fn identity(&self, scheme: SignatureScheme) -> Result<SigningIdentity, PkiError> {
        let (claim, claim_key) = self.signer(scheme.claim_algorithm()).await?;
        let claim_public = leaf_key(&claim)?.0;
        let (counter, counter_public, counter_spki_sha256) = match scheme.countersignature_algorithm() {
            Some(algorithm) => {
                let signer = self.signer(algorithm).await?;
                let (public, spki) = leaf_key(&signer.0)?;
                (Some(signer), public, Some(<sha2::Sha256 as sha2::Digest>::digest(&spki).into()))
            }
            None => (None, Vec::new(), None),
        };
        Ok(SigningIdentity { scheme, claim, claim_key, counter, counter_spki_sha256, claim_public, counter_public })
    }

    /// The root certificates of one hierarchy as PEM.
    pub fn roots_pem(&self, hierarchy: Hierarchy) -> String {
        let role = format!("{}/root", prefix(hierarchy));
        self.record(&role).map(|r| profile::pem_bundle([r.der.as_slice()])).unwrap_or_default()
    }

    /// One of our issuers' certificates (DER) by serial number.
    pub fn issuer_by_serial(&self, serial: &str) -> Option<Vec<u8>> {
        let current = self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        current.values().find(|r| !r.role.contains("/leaf/") && r.serial == serial).map(|r| r.der.clone())
    }

    /// Adds our roots of one hierarchy to a set of anchors, as the tenant's own.
    pub fn add_roots(&self, hierarchy: Hierarchy, anchors: &mut TrustAnchors) -> Result<(), PkiError> {
        anchors.add_pem(self.roots_pem(hierarchy).as_bytes(), AnchorSource::Own)
    }

    async fn signer(&self, algorithm: Algorithm) -> Result<(SignerCertificates, String), PkiError> {
        let hierarchy = if algorithm.is_post_quantum() { Hierarchy::PostQuantum } else { Hierarchy::Classical };
        let role = format!("{}/leaf/{algorithm}", prefix(hierarchy));
        let issuer_role = format!("{}/issuer", prefix(hierarchy));
        if !(self.fresh(&role, Profile::Leaf) && self.fresh(&issuer_role, Profile::Issuer)) {
            let _guard = self.renewing.lock().await;
            self.ensure(hierarchy, algorithm, &role, &issuer_role).await?;
        }
        let missing = || PkiError::Malformed(format!("no certificate for {role}"));
        let leaf = self.record(&role).ok_or_else(missing)?;
        let issuer = self.record(&issuer_role).ok_or_else(missing)?;
        Ok((SignerCertificates { algorithm, chain: vec![leaf.der, issuer.der] }, leaf.key_name))
    }

    /// Makes what is missing, in one transaction that other processes wait for.
    async fn ensure(&self, hierarchy: Hierarchy, algorithm: Algorithm, role: &str, issuer_role: &str) -> Result<(), PkiError> {
        let (root_algorithm, issuer_algorithm) = match hierarchy {
            Hierarchy::Classical => (Algorithm::Es384, Algorithm::Es384),
            Hierarchy::PostQuantum => (Algorithm::SlhDsaSha2_128s, Algorithm::MlDsa65),
        };
        let root_role = format!("{}/root", prefix(hierarchy));
        // From here on nothing else writes certificates, so that nothing has to be made twice.
        let unit = retry::transaction(self.entropy.as_ref(), async || {
            let unit = self.database.begin().await?;
            unit.lock("pki").await?;
            Ok(unit)
        })
        .await?;
        // Another process may have made them since we looked.
        self.remember(unit.certificates().current().await?);
        let mut made: HashMap<String, CertificateRecord> = HashMap::new();
        let steps = [
            (Profile::Root, root_role.as_str(), root_algorithm, root_role.as_str()),
            (Profile::Issuer, issuer_role, issuer_algorithm, root_role.as_str()),
            (Profile::Leaf, role, algorithm, issuer_role),
        ];
        for (profile, role, algorithm, issuer_role) in steps {
            // A new issuer makes everything below it new.
            if made.is_empty() && self.fresh(role, profile) {
                continue;
            }
            let issuer = made.get(issuer_role).cloned().or_else(|| self.record(issuer_role));
            let record = self.issue(profile, role, algorithm, issuer).await?;
            unit.certificates().insert(&record).await?;
            let detail = serde_json::json!({ "role": record.role, "algorithm": algorithm.to_string(), "key": record.key_name });
            let event = Event::new("certificate.issue", "certificate", &record.serial).detail(detail);
            self.audit.append(unit.as_ref(), &Actor::system(TenantId::default_tenant()), event).await?;
            made.insert(role.to_owned(), record);
        }
        unit.commit().await?;
        self.remember(made.into_values());
        Ok(())
    }

    /// Makes a key and a certificate for it. `issuer` is ignored for a root.
    async fn issue(
        &self,
        profile: Profile,
        role: &str,
        algorithm: Algorithm,
        issuer: Option<CertificateRecord>,
    ) -> Result<CertificateRecord, PkiError> {
        let now = self.clock.now();
        let mut serial = [0u8; 16];
        serial.copy_from_slice(&self.entropy.secret()[..16]);
        serial[0] = (serial[0] & 0x7f) | 0x40;
        let key_name = format!("{role}/{}", hex::encode(&serial[..8]));
        let (keys, settings, role) = (self.keys.clone(), self.settings.clone(), role.to_owned());
        let work = move || {
            let subject = KeyInfo { algorithm, public: keys.generate(&key_name, algorithm)? };
            let (issuer_key, issuer_role, issuer_serial, issuer) = match issuer.filter(|_| profile != Profile::Root) {
                None if profile != Profile::Root => return Err(PkiError::Malformed(format!("no issuer for {role}"))),
                None => (key_name.clone(), role.clone(), None, subject.clone()),
                Some(record) => {
                    let found = keys.public_key(&record.key_name)?;
                    let missing = || omt_crypto::KeyStoreError::NoSuchKey(record.key_name.clone());
                    let (algorithm, public) = found.ok_or_else(missing)?;
                    (record.key_name.clone(), record.role.clone(), Some(record.serial), KeyInfo { algorithm, public })
                }
            };
            let request = Request {
                profile,
                common_name: &common_name(&role),
                serial,
                not_before: now - BACKDATE,
                subject: &subject,
                issuer_common_name: &common_name(&issuer_role),
                issuer: &issuer,
                issuer_serial: issuer_serial.as_deref(),
            };
            let der = profile::issue(&request, &settings, |tbs| Ok(keys.sign(&issuer_key, tbs)?))?;
            let certificate = Certificate::from_der(&der)?;
            let (serial, not_after) = (certificate.serial(), certificate.validity().1);
            Ok(CertificateRecord { role, serial, key_name, der, not_after, created_at: now })
        };
        // Key generation and an SLH-DSA signature take a good part of a second.
        tokio::task::spawn_blocking(work).await.map_err(|e| PkiError::Malformed(format!("issuing ended early: {e}")))?
    }

    fn remember(&self, records: impl IntoIterator<Item = CertificateRecord>) {
        let mut current = self.current.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        current.extend(records.into_iter().map(|record| (record.role.clone(), record)));
    }

    fn record(&self, role: &str) -> Option<CertificateRecord> {
        self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(role).cloned()
    }

    fn fresh(&self, role: &str, profile: Profile) -> bool {
        self.record(role).is_some_and(|record| is_fresh(record.not_after, profile, self.clock.now()))
    }
}

/// Whether a certificate need not be replaced yet.
pub fn is_fresh(not_after: OffsetDateTime, profile: Profile, now: OffsetDateTime) -> bool {
    now + profile.renew_before() < not_after
}

fn common_name(role: &str) -> String {
    match role.split('/').collect::<Vec<_>>().as_slice() {
        ["classical", "root"] => "OpenMediaTrust Root CA".into(),
        ["classical", "issuer"] => "OpenMediaTrust Claim Signing CA".into(),
        ["classical", "leaf", _] => "OpenMediaTrust Claim Signer".into(),
        ["pq", "root"] => "OpenMediaTrust Post-Quantum Root CA".into(),
        ["pq", "issuer"] => "OpenMediaTrust Post-Quantum Claim Signing CA".into(),
        ["pq", "leaf", algorithm] => format!("OpenMediaTrust Claim Signer {}", algorithm.to_uppercase()),
        _ => role.to_owned(),
    }
}
