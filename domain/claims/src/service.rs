//! The use cases: upload, sign, verify, list, change, archive. Each authorises, loads, lets a pure rule decide, does the heavy
//! work on the pool, stores blobs, and then commits the record and the stored answer in one transaction.

mod archive;
mod direct;
mod drafts;
mod redaction;
mod remembered;
mod shared;
mod signing;
mod storage;
mod turns;
mod upload;
mod verification;

pub use archive::{Fetched, Restoring};
pub use direct::{ContentAddress, Via};
pub use drafts::Changes;
pub use redaction::Redaction;
pub use signing::{Offline, SignRequest};
pub use upload::{NewIngredient, NewManifest};
pub use verification::{Examined, VerifyTarget};

use crate::{Engine, TrustLists, cdn::Cdn, definition::ClaimDefinition, engine::SignPlan, governance::Governance};
use omt_audit::{AuditTrail, Event};
use omt_crypto::SignatureScheme;
use omt_kernel::{
    Actor, Error, ManifestId, Permission, Result, TenantId, TenantSettings,
    manifest::{BlobRef, Classification, ManifestFilter, ManifestRecord, Relationship},
    pool::WorkPool,
    port::{BlobStore, ByteStream, Clock, Content, Database, Entropy, Page, Remembers, Telemetry, UnitOfWork},
};
use omt_pki::Pki;
use serde_json::Value;
use std::{ops::Range, sync::Arc, time::Duration};
use turns::Turns;

/// Everything the use cases reach the world through.
pub struct Dependencies {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The blob store.
    pub blobs: Arc<dyn BlobStore>,
    /// The manifest engine.
    pub engine: Arc<Engine>,
    /// Our certificates.
    pub pki: Arc<Pki>,
    /// Where signing and verifying run.
    pub pool: Arc<WorkPool>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub entropy: Arc<dyn Entropy>,
    /// Whom to trust.
    pub trust: Arc<TrustLists>,
    /// What is counted.
    pub telemetry: Arc<dyn Telemetry>,
    /// Verification results that replicas share, where they do.
    pub shared: Option<SharedResults>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
    /// Who else has a say.
    pub governance: Arc<dyn Governance>,
    /// The content delivery network, where there is one.
    pub cdn: Option<Arc<Cdn>>,
}

pub use shared::SharedResults;

/// How long a verification result is good: certificates end too.
const RESULTS: Duration = Duration::from_secs(300);

/// The use cases.
pub struct Manifests {
    deps: Dependencies,
    /// Verification results by content, trust lists and policy. They end by time too, because certificates do.
    results: moka::future::Cache<[u8; 32], Arc<crate::Verification>>,
    remembered: remembered::Remembered,
    /// Large files take turns before they take a thread of the pool.
    turns: Turns,
    /// Blobs whose use was noted of late.
    touched: moka::future::Cache<(TenantId, String), ()>,
}

/// Content that has arrived: its bytes, digest and beginning.
#[derive(Debug)]
pub struct Uploaded {
    /// The bytes.
    pub content: Content,
    /// Digest and size.
    pub blob: BlobRef,
    /// The name the sender gave.
    pub file_name: Option<String>,
    /// The type the sender declared.
    pub declared_type: Option<String>,
}

/// A request about a manifest that may come twice but must act once.
pub type Once = omt_kernel::once::Once<ManifestRecord>;
/// What came of it.
pub type Outcome = omt_kernel::once::Outcome<ManifestRecord>;

impl Manifests {
    /// The use cases over these dependencies, with this much memory for verification results.
    pub fn new(cache_bytes: u64, deps: Dependencies) -> Self {
        let results = moka::future::Cache::builder()
            .max_capacity(cache_bytes)
            .weigher(|_, v: &Arc<crate::Verification>| v.weight())
            .time_to_live(RESULTS)
            .build();
        let touched = moka::future::Cache::builder().max_capacity(100_000).time_to_live(Duration::from_secs(12 * 3600)).build();
        let remembered = remembered::Remembered::new();
        Self { deps, results, remembered, turns: Turns::new(), touched }
    }

    /// What is remembered here and may change elsewhere.
    pub fn remembered(&self) -> Arc<dyn Remembers> {
        Arc::new(self.remembered.clone())
    }

    /// The directory for uploads on their way in.
    pub fn spool_dir(&self) -> &std::path::Path {
        self.deps.blobs.spool_dir()
    }

    /// One record of the actor's tenant.
    pub async fn get(&self, actor: &Actor, id: ManifestId) -> Result<ManifestRecord> {
        actor.require(Permission::ManifestRead)?;
        let record = self.load(actor, id).await?;
        self.note_read(actor, &record).await?;
        Ok(record)
    }

    /// Records of the actor's tenant that the actor can see, newest first.
    pub async fn list(&self, actor: &Actor, mut filter: ManifestFilter, page: Page) -> Result<Vec<ManifestRecord>> {
        actor.require(Permission::ManifestRead)?;
        filter.reach = Some(actor.reach.clone());
        self.deps.database.replica().await?.manifests().list(&actor.tenant, &filter, page).await
    }

    /// Writes down who read what is confidential or above.
    async fn note_read(&self, actor: &Actor, record: &ManifestRecord) -> Result<()> {
        if record.classification < Classification::Confidential {
            return Ok(());
        }
        self.deps.audit.record(actor, Event::new("manifest.read", "manifest", record.id)).await
    }

    /// The content to serve for a record: the signed asset, or the draft's source.
    pub fn served(record: &ManifestRecord) -> Result<&BlobRef> {
        storage::check_content(record)?;
        match &record.signed {
            Some(signed) => Ok(&signed.asset),
            None if record.source_kept => Ok(&record.source),
            None => Err(Error::not_found("content")),
        }
    }

    /// Streams a part of a blob of the actor's tenant. The caller has read the record that names it.
    pub async fn read(&self, actor: &Actor, blob: &BlobRef, range: Range<u64>) -> Result<Fetched<ByteStream>> {
        actor.require(Permission::ManifestRead)?;
        self.touch(&actor.tenant, blob).await?;
        let read = self.deps.blobs.read(&actor.tenant, blob, range).await;
        self.fetched(actor, blob, read).await
    }

    /// Authorises and loads in one: what lies outside the actor's reach does not exist for them.
    async fn load(&self, actor: &Actor, id: ManifestId) -> Result<ManifestRecord> {
        let (database, telemetry) = (self.deps.database.as_ref(), self.deps.telemetry.as_ref());
        let found = self.remembered.record(database, telemetry, &actor.tenant, id).await?;
        found.filter(|record| actor.reach.sees(record)).ok_or_else(|| Error::not_found("manifest"))
    }

    async fn settings(&self, actor: &Actor) -> Result<TenantSettings> {
        self.remembered.settings(self.deps.database.as_ref(), &actor.tenant).await
    }

    /// The stored answer to this request, if it was made before.
    pub async fn replay(&self, actor: &Actor, once: Option<&Once>) -> Result<Option<Outcome>> {
        let Some(once) = once else { return Ok(None) };
        once.replay(self.deps.database.read().await?.as_ref(), actor).await
    }

    /// Writes the audit entry and the answer in the mutation's own transaction. When another request with the key won, its answer
    /// counts.
    async fn commit(
        &self,
        actor: &Actor,
        unit: Box<dyn UnitOfWork>,
        record: ManifestRecord,
        once: Option<&Once>,
        event: Event,
    ) -> Result<Outcome> {
        self.deps.audit.append(unit.as_ref(), actor, event).await?;
        if let Some(once) = once
            && !once.keep(unit.as_ref(), actor, &record, self.deps.clock.now()).await?
        {
            let winner = once.replay(unit.as_ref(), actor).await?;
            return winner.ok_or_else(|| Error::internal("a stored answer vanished"));
        }
        unit.commit().await?;
        Ok(Outcome::Done(Box::new(record)))
    }
}

/// What an audit entry's hashes of a record are made of.
fn audited(record: &ManifestRecord) -> Value {
    serde_json::json!({
        "revision": record.revision,
        "state": record.state,
        "title": record.title,
        "department": record.department,
        "project": record.project,
        "classification": record.classification,
        "source": record.source,
        "signed": record.signed,
        "archived": record.archived.as_ref().map(|archived| archived.retain_until.unix_timestamp()),
        "held": record.legal_hold.is_some(),
    })
}

/// A manifest's plan from a record's parts.
fn plan(
    deps: &Dependencies,
    title: &str,
    inspected: &upload::Inspected,
    definition: &ClaimDefinition,
    mut ingredients: Vec<crate::engine::PlannedIngredient>,
    identity: omt_pki::SigningIdentity,
) -> Result<SignPlan> {
    let relationships: Vec<Relationship> = ingredients.iter().map(|i| i.relationship).collect();
    let actions = crate::rules::plan_actions(definition, inspected.has_manifest, &relationships)?;
    if actions.source_is_parent {
        ingredients.push(crate::engine::PlannedIngredient {
            title: title.to_owned(),
            media: inspected.media,
            relationship: Relationship::ParentOf,
            content: None,
        });
    }
    let mut assertions = crate::metadata::assertions(&inspected.extracted, definition.metadata);
    assertions.extend(definition.assertions.iter().map(|custom| crate::engine::PlannedAssertion {
        label: custom.label.clone(),
        json: custom.is_json(),
        data: custom.data.clone(),
        created: false,
    }));
    Ok(SignPlan {
        uuid: deps.entropy.uuid_v4(),
        salts: deps.entropy.secret(),
        title: title.to_owned(),
        media: inspected.media,
        now: deps.clock.now(),
        actions: actions.actions,
        assertions,
        thumbnail: None,
        ingredients,
        source: None,
        identity,
    })
}

/// The scheme a request names, or the default.
pub fn scheme(name: Option<&str>) -> Result<SignatureScheme> {
    name.map_or(Ok(SignatureScheme::DEFAULT), crate::rules::parse_scheme)
}
