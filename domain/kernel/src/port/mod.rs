//! The ports: what use cases need of the world. Each is small and object-safe; the composition root picks the adapters.

mod access;
mod badges;
mod broadcast;
mod content;
mod governance;
mod messages;
mod page;

pub use access::{
    ApiKeyRepository, Authorizer, Directory, DirectoryUser, GroupRepository, IssuerClient, People, Person, RoleRepository,
    RoleTable, SessionRepository, UserRepository, Wanted,
};
pub use badges::BadgeRepository;
pub use broadcast::{Broadcast, Local, Remembers, SharedPace, Stale};
pub use content::{Content, StoredFile, TemporaryFile};
pub use governance::{ComplianceRepository, DocumentRepository, NotificationRepository, TaskRepository, WorkflowRepository};
pub use messages::{Listener, Mail, Mailer, TimestampAuthority, WebhookAnswer, WebhookRepository, WebhookSender, no_timestamp};
pub use page::{Page, whole};

use crate::{
    JobId, ManifestId, Result, TenantId, TenantSettings,
    audit::{AuditEntry, AuditFilter, AuditPerson, CheckpointRecord},
    job::{AttemptEnd, DueJob, JobFilter, JobRecord, JobTurn, JobsTurned},
    manifest::{BlobRef, Heading, ManifestFilter, ManifestRecord},
    record::{CertificateRecord, IdempotencyRecord, VerificationRecord},
    storage::{Availability, BlobRole, BlobUse, Lock, Locked, Place, ReplicationState, StoredBlob, Tier, Unreplicated, Usage},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::{collections::BTreeMap, ops::Range, path::Path, time::Duration};
use time::OffsetDateTime;
use uuid::Uuid;

/// The time.
pub trait Clock: Send + Sync {
    /// Now, UTC.
    fn now(&self) -> OffsetDateTime;
}

/// Identifiers and secrets from a source that nobody can guess.
pub trait Entropy: Send + Sync {
    /// A version 7 UUID (RFC 9562 §5.7) for `at`.
    fn uuid_v7(&self, at: OffsetDateTime) -> Uuid;
    /// A version 4 UUID.
    fn uuid_v4(&self) -> Uuid;
    /// 32 random bytes.
    fn secret(&self) -> [u8; 32];
}

/// A stream of content.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// What storing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The bytes were written.
    Written,
    /// They were there already. If no record names them they may be on their way out, so whoever is about to name them asks
    /// again under [`crate::storage::lock_name`].
    Present,
}

/// Immutable bytes, per tenant, named by their SHA-256. Putting the same bytes twice is one blob.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores `content`, whose digest and size the caller has computed. Durable when it returns.
    async fn put(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<Put>;
    /// Stores content that nobody can have stored before, because it was made just now and holds something random; the store need not
    /// look whether it is there. Durable when it returns.
    async fn put_new(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<()> {
        self.put(tenant, blob, content).await.map(drop)
    }
    /// Streams a part of a blob. Fails with [`crate::storage::ARCHIVED`] when it must be restored first.
    async fn read(&self, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Result<ByteStream>;
    /// The blob as something that can be read and sought locally. Fails likewise.
    async fn open(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Content>;
    /// Whether it is there with the right size.
    async fn exists(&self, tenant: &TenantId, blob: &BlobRef) -> Result<bool>;
    /// Whether the store keeps blobs itself from being deleted, where they are locked (see [`Lock`]).
    fn locks(&self) -> bool {
        false
    }
    /// A URL by which a blob can be fetched without us for a time; none where the store has no such URLs. Fails with
    /// [`crate::storage::ARCHIVED`] when it must be restored first.
    async fn direct_download(&self, _: &TenantId, _: &BlobRef, _: &DirectDownload) -> Result<Option<String>> {
        Ok(None)
    }
    /// The name under which new blobs stand in the store's bucket; none where there is no bucket.
    fn object_key(&self, _: &TenantId, _: &BlobRef) -> Option<String> {
        None
    }
    /// A request by which bytes of this digest and size can be brought without us for a time; none where the store has none.
    async fn direct_upload(&self, _: &TenantId, _: &BlobRef, _: Duration) -> Result<Option<DirectUpload>> {
        Ok(None)
    }
    /// What was brought so, if it is there, its digest checked. It stays until it is dropped.
    async fn uploaded(&self, _: &TenantId, _sha256: &str, _max: u64) -> Result<Option<(BlobRef, Content)>> {
        Ok(None)
    }
    /// Drops what was brought so.
    async fn drop_uploaded(&self, _: &TenantId, _sha256: &str) -> Result<()> {
        Ok(())
    }
    /// Can it be written to? For readiness.
    async fn check(&self) -> Result<()>;
    /// A directory for temporary files, where there is room for uploads.
    fn spool_dir(&self) -> &Path;
    /// What and where it is, for the start-up message; no secret.
    fn describe(&self) -> String;
}

/// A blob store as those see it who look after it: what lies there, and taking it away.
#[async_trait]
pub trait BlobStock: BlobStore + TileStore {
    /// Removes a blob, if there.
    async fn delete(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()>;
    /// When a blob was stored, if it is there.
    async fn modified(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Option<OffsetDateTime>>;
    /// What is stored, in the order of keys, after the key `after`.
    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<Listed>>;
    /// Aborts uploads begun before that never ended; how many.
    async fn abort_uploads(&self, before: OffsetDateTime) -> Result<u64>;
    /// Whether blobs that are settled here must be restored before they can be read.
    fn archives(&self) -> bool {
        false
    }
    /// Gives a blob that was read back its final place, from where it may have to be restored. Settling twice is settling once.
    async fn settle(&self, _: &TenantId, _: &BlobRef) -> Result<()> {
        Ok(())
    }
    /// When a blob's bytes can be had. It is there.
    async fn availability(&self, _: &TenantId, _: &BlobRef) -> Result<Availability> {
        Ok(Availability::AtOnce)
    }
    /// Has an archived blob restored; asking again while that is under way changes nothing.
    async fn restore(&self, _: &TenantId, _: &BlobRef) -> Result<()> {
        Ok(())
    }
    /// Locks a blob like that, and no longer holds what should not be held. Retention is only ever prolonged.
    async fn lock(&self, _: &TenantId, _: &BlobRef, _: Lock) -> Result<Locked> {
        Ok(Locked::Nothing)
    }
    /// Whether a blob is locked like that, as far as a look at it shows.
    async fn is_locked(&self, _: &TenantId, _: &BlobRef, _: Lock) -> Result<bool> {
        Ok(true)
    }
}

/// How a blob is to be fetched directly.
#[derive(Debug, Clone)]
pub struct DirectDownload {
    /// How long the URL is good.
    pub expires: Duration,
    /// The `Content-Type` of the answer.
    pub media_type: String,
    /// Its `Content-Disposition`.
    pub disposition: String,
}

/// A request that brings content directly: a `PUT` with these headers.
#[derive(Debug, Clone)]
pub struct DirectUpload {
    /// Where.
    pub url: String,
    /// Headers that the request must have, by name.
    pub headers: Vec<(String, String)>,
}

/// A stored object, as a listing shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its key, which orders the listing.
    pub key: String,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name and size.
    pub blob: BlobRef,
    /// When it was stored.
    pub modified: OffsetDateTime,
}

/// Blob stores by tier.
#[async_trait]
pub trait TieredStore: BlobStore {
    /// Copies a blob to another tier, and reads the copy back: it is good when its SHA-256 is, and is settled only then. One that is not
    /// is left there ([`crate::storage::BLOB_DAMAGED`]): only who looks at records knows whether it may go.
    async fn copy(&self, tenant: &TenantId, blob: &BlobRef, from: Tier, to: Tier) -> Result<()>;
    /// Fails unless the tier has the blob with the right bytes. One that is archived where blobs are archived only after they were
    /// read back counts as right: it was.
    async fn verify(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier) -> Result<()>;
    /// Removes a blob from a tier.
    async fn remove(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier) -> Result<()>;
    /// When a tier got a blob, if it has it.
    async fn modified(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier) -> Result<Option<OffsetDateTime>>;
    /// What a tier holds, in the order of keys, after the key `after`.
    async fn list_tier(&self, tier: Tier, after: Option<&str>, limit: u32) -> Result<Vec<Listed>>;
    /// Aborts uploads to a tier begun before that never ended; how many.
    async fn abort_tier_uploads(&self, tier: Tier, before: OffsetDateTime) -> Result<u64>;
    /// Whether blobs of the tier must be restored before they can be read.
    fn archives(&self, tier: Tier) -> bool;
    /// When a blob's bytes can be had, from the quickest tier that has it.
    async fn availability(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Availability>;
    /// Has an archived blob restored, in that tier.
    async fn restore(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()>;
    /// Whether the tier locks blobs.
    fn locks_in(&self, tier: Tier) -> bool;
    /// Locks a blob in a tier.
    async fn lock(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier, lock: Lock) -> Result<Locked>;
    /// Whether a blob is locked like that in a tier.
    async fn is_locked(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier, lock: Lock) -> Result<bool>;
}

/// Small public objects by path, which may be replaced: the tiles of the audit log.
#[async_trait]
pub trait TileStore: Send + Sync {
    /// Stores an object, replacing one of that path. Durable when it returns.
    async fn put_tile(&self, path: &str, bytes: Bytes) -> Result<()>;
    /// An object's bytes, if there is one.
    async fn tile(&self, path: &str) -> Result<Option<Bytes>>;
    /// Removes an object, if there.
    async fn remove_tile(&self, path: &str) -> Result<()>;
    /// Removes every partial form of a tile (`<path>.p/…`) that is still there.
    async fn remove_partials(&self, path: &str) -> Result<()>;
}

/// What looking after tables did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tended {
    /// Partitions that were made.
    pub made: u64,
    /// Partitions that were empty and went.
    pub gone: u64,
}

/// Opens transactions.
#[async_trait]
pub trait Database: Send + Sync {
    /// Opens a transaction that may write. Dropping it rolls back.
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>>;
    /// A view for reads, without a transaction around them.
    async fn read(&self) -> Result<Box<dyn UnitOfWork>>;
    /// A view for lists and reports, which may be a moment old: of a read replica, where there is one.
    async fn replica(&self) -> Result<Box<dyn UnitOfWork>> {
        self.read().await
    }
    /// Does it answer? For readiness. The schema is compared when a process starts: during an upgrade the first new one migrates,
    /// and the old ones go on serving on what it leaves them.
    async fn check(&self) -> Result<()>;
    /// Looks after the tables themselves, once a day: makes partitions of the months to come, and lets go of empty ones of months
    /// past. Nothing where the database has no partitions.
    async fn tend(&self) -> Result<Tended> {
        Ok(Tended::default())
    }
    /// Whether several transactions may write at the same time; otherwise each waits for the one before.
    fn writes_in_parallel(&self) -> bool {
        false
    }
    /// Writes what a worker did and what it would do next.
    async fn turn_jobs(&self, turn: &JobTurn<'_>) -> Result<JobsTurned> {
        turn_jobs_in(self.begin().await?, turn).await
    }
    /// Open connections by state: `in_use` and `idle`.
    fn connections(&self) -> Vec<(&'static str, u64)>;
}

/// Writes what a worker did and what it would do next, as one transaction: ends of which there is no more to say in one statement.
pub async fn turn_jobs_in(unit: Box<dyn UnitOfWork>, turn: &JobTurn<'_>) -> Result<JobsTurned> {
    let (jobs, mut turned) = (unit.jobs(), JobsTurned::default());
    let plain: Vec<JobId> = turn.ends.iter().filter(|end| end.is_plain()).map(|end| end.job).collect();
    if !plain.is_empty() {
        turned.ended = jobs.end(&plain, turn.worker, &AttemptEnd::Done, None, turn.now).await?;
    }
    for end in turn.ends.iter().filter(|end| !end.is_plain()) {
        turned.ended.extend(jobs.end(&[end.job], turn.worker, end.end, end.progress, end.at).await?);
    }
    if !turn.wanted.is_empty() {
        turned.claimed = jobs.claim(turn.wanted, turn.worker, turn.now, turn.lease).await?;
    }
    unit.commit().await?;
    Ok(turned)
}

/// One transaction and the repositories inside it.
#[async_trait]
pub trait UnitOfWork: Send + Sync {
    /// Manifests.
    fn manifests(&self) -> &dyn ManifestRepository;
    /// Kept verification results.
    fn verifications(&self) -> &dyn VerificationRepository;
    /// Users.
    fn users(&self) -> &dyn UserRepository;
    /// Sessions and refresh tokens.
    fn sessions(&self) -> &dyn SessionRepository;
    /// Roles and group mappings.
    fn roles(&self) -> &dyn RoleRepository;
    /// Groups that SCIM clients made.
    fn groups(&self) -> &dyn GroupRepository;
    /// API keys.
    fn api_keys(&self) -> &dyn ApiKeyRepository;
    /// The audit log.
    fn audit(&self) -> &dyn AuditRepository;
    /// Tenants.
    fn tenants(&self) -> &dyn TenantRepository;
    /// Stored answers.
    fn idempotency(&self) -> &dyn IdempotencyRepository;
    /// Our own certificates.
    fn certificates(&self) -> &dyn CertificateRepository;
    /// Work for later.
    fn jobs(&self) -> &dyn JobRepository;
    /// Stored blobs.
    fn blobs(&self) -> &dyn BlobRepository;
    /// Workflows.
    fn workflows(&self) -> &dyn WorkflowRepository;
    /// What waits for somebody.
    fn tasks(&self) -> &dyn TaskRepository;
    /// Evidence, reports and overrides.
    fn compliance(&self) -> &dyn ComplianceRepository;
    /// Documents in versions.
    fn documents(&self) -> &dyn DocumentRepository;
    /// Messages to people.
    fn notifications(&self) -> &dyn NotificationRepository;
    /// Webhooks.
    fn webhooks(&self) -> &dyn WebhookRepository;
    /// Badges.
    fn badges(&self) -> &dyn BadgeRepository;
    /// Waits until no other transaction, in any process, holds the lock of this name, and holds it until this one ends.
    async fn lock(&self, name: &str) -> Result<()>;
    /// Makes everything durable. An error means that nothing was.
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// Manifests' records. Every query names the tenant.
#[async_trait]
pub trait ManifestRepository: Send + Sync {
    /// Adds a record.
    async fn insert(&self, record: &ManifestRecord) -> Result<()>;
    /// Finds a record of this tenant.
    async fn get(&self, tenant: &TenantId, id: ManifestId) -> Result<Option<ManifestRecord>>;
    /// The revision that a record of this tenant has now. A record with the same revision is the same.
    async fn revision(&self, tenant: &TenantId, id: ManifestId) -> Result<Option<i64>>;
    /// Replaces the record if its revision is still `expected`; false when it is not.
    async fn update(&self, record: &ManifestRecord, expected: i64) -> Result<bool>;
    /// Newest first.
    async fn list(&self, tenant: &TenantId, filter: &ManifestFilter, page: Page) -> Result<Vec<ManifestRecord>>;
    /// Titles and projects of some records.
    async fn headings(&self, tenant: &TenantId, ids: &[ManifestId]) -> Result<BTreeMap<ManifestId, Heading>>;
    /// How many records, of those made since.
    async fn count(&self, tenant: &TenantId, since: Option<OffsetDateTime>) -> Result<u64>;
    /// How many a list with this filter has in all.
    async fn count_where(&self, tenant: &TenantId, filter: &ManifestFilter) -> Result<u64>;
    /// Of every tenant: archived, retention ended before `now`, not held, content not yet deleted.
    async fn expired(&self, now: OffsetDateTime, limit: u32) -> Result<Vec<ManifestRecord>>;
}

/// Stored blobs: where they are and who needs them.
#[async_trait]
pub trait BlobRepository: Send + Sync {
    /// Notes that a manifest needs these blobs, which were used just now. Those not known before are hot.
    async fn add_uses(
        &self,
        tenant: &TenantId,
        manifest: ManifestId,
        blobs: &[(&BlobRef, BlobRole)],
        now: OffsetDateTime,
    ) -> Result<()>;
    /// Notes that a blob was used.
    async fn touch(&self, tenant: &TenantId, sha256: &str, now: OffsetDateTime) -> Result<()>;
    /// Finds a blob.
    async fn find(&self, tenant: &TenantId, sha256: &str) -> Result<Option<StoredBlob>>;
    /// Every tenant's blobs in a tier, the longest unused first, after one of them.
    async fn in_tier(&self, tier: Tier, after: Option<&StoredBlob>, limit: u32) -> Result<Vec<StoredBlob>>;
    /// The manifests that need a blob.
    async fn uses(&self, tenant: &TenantId, sha256: &str) -> Result<Vec<BlobUse>>;
    /// Moves the record from one tier to another; false when it is not in the first.
    async fn set_tier(&self, tenant: &TenantId, sha256: &str, from: Tier, to: Tier) -> Result<bool>;
    /// Notes that a blob is about to be removed from a place. From the commit until it is spared, or until that time, no record can name
    /// it there: whoever tries fails with [`crate::storage::JUST_DELETED`]. Committed before the store is asked.
    async fn doom(&self, tenant: &TenantId, sha256: &str, place: Place, until: OffsetDateTime) -> Result<Uuid>;
    /// That removal is over.
    async fn spare(&self, doom: Uuid) -> Result<()>;
    /// A manifest needs what it has in these roles no longer. Gives the blobs that nobody needs now, and forgets them.
    async fn drop_uses(&self, tenant: &TenantId, manifest: ManifestId, roles: &[BlobRole]) -> Result<Vec<BlobRef>>;
    /// Notes where copies go; since when they go there. What was copied elsewhere before is not there.
    async fn aim_replicas(&self, target: &str, now: OffsetDateTime) -> Result<OffsetDateTime>;
    /// Takes back that blobs were copied before, of at most `limit`; of how many.
    async fn forget_replicas(&self, before: OffsetDateTime, limit: u32) -> Result<u64>;
    /// Every tenant's blobs that are not copied, the oldest first, after one of them.
    async fn unreplicated(&self, after: Option<&Unreplicated>, limit: u32) -> Result<Vec<Unreplicated>>;
    /// Notes that a blob was copied to a target then, or that it is not; false when there is no such blob, or copies go elsewhere.
    async fn set_replicated(&self, tenant: &TenantId, sha256: &str, copied: Option<(&str, OffsetDateTime)>) -> Result<bool>;
    /// How far copies are behind.
    async fn replication(&self) -> Result<ReplicationState>;
    /// Blobs and bytes by tenant and tier.
    async fn usage(&self, tenant: Option<&TenantId>) -> Result<Vec<Usage>>;
}

/// Kept verification results.
#[async_trait]
pub trait VerificationRepository: Send + Sync {
    /// Adds a result.
    async fn insert(&self, record: &VerificationRecord) -> Result<()>;
    /// How many results since.
    async fn count(&self, tenant: &TenantId, since: OffsetDateTime) -> Result<u64>;
    /// A manifest's results, newest first.
    async fn history(&self, tenant: &TenantId, manifest: ManifestId, page: Page) -> Result<Vec<VerificationRecord>>;
}

/// The audit log. Entries are added and read, never changed or removed.
#[async_trait]
pub trait AuditRepository: Send + Sync {
    /// Adds an entry, which waits for its place.
    async fn append(&self, entry: &AuditEntry) -> Result<()>;
    /// Who a subject is in the log.
    async fn person(&self, tenant: &TenantId, subject: &str) -> Result<Option<AuditPerson>>;
    /// Adds a person; nothing when the subject is there already.
    async fn add_person(&self, person: &AuditPerson) -> Result<()>;
    /// The people behind pseudonyms.
    async fn people(&self, pseudonyms: &[String]) -> Result<Vec<AuditPerson>>;
    /// Forgets who stands behind a subject's pseudonym; false when nobody was known.
    async fn erase_person(&self, tenant: &TenantId, subject: &str) -> Result<bool>;
    /// Entries without a place, oldest first.
    async fn waiting(&self, limit: u32) -> Result<Vec<AuditEntry>>;
    /// Gives entries their places, from `first` on.
    async fn place(&self, first: u64, entries: &[AuditEntry]) -> Result<()>;
    /// Entries by place.
    async fn placed(&self, from: u64, limit: u32) -> Result<Vec<AuditEntry>>;
    /// Removes entries that have expired, from the beginning of the log up to this place, at most `limit` of them; how many. The
    /// database refuses it while one of them is younger than the log's retention.
    async fn expire(&self, below: u64, limit: u32) -> Result<u64>;
    /// For how many days the database holds on to entries, 0 for ever.
    async fn kept_for(&self) -> Result<u32>;
    /// Forgets people of whom no entry is left, and who can act no more; how many.
    async fn forget_unmentioned(&self) -> Result<u64>;
    /// Finds an entry of the tenant.
    async fn find(&self, tenant: &TenantId, id: crate::AuditId) -> Result<Option<AuditEntry>>;
    /// Entries of a tenant, newest first.
    async fn search(&self, tenant: &TenantId, filter: &AuditFilter, page: Page) -> Result<Vec<AuditEntry>>;
    /// The newest signed tree head.
    async fn checkpoint(&self) -> Result<Option<CheckpointRecord>>;
    /// Adds a signed tree head.
    async fn add_checkpoint(&self, checkpoint: &CheckpointRecord) -> Result<()>;
}

/// Tenants and their settings.
#[async_trait]
pub trait TenantRepository: Send + Sync {
    /// The settings, if the tenant exists.
    async fn settings(&self, tenant: &TenantId) -> Result<Option<TenantSettings>>;
    /// Every tenant by name, after one of them.
    async fn list(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, OffsetDateTime)>>;
    /// Creates the tenant or replaces its settings.
    async fn put(&self, tenant: &TenantId, settings: &TenantSettings, at: OffsetDateTime) -> Result<()>;
}

/// Answers to requests with an `Idempotency-Key`.
#[async_trait]
pub trait IdempotencyRepository: Send + Sync {
    /// The stored answer.
    async fn get(&self, tenant: &TenantId, subject: &str, key: &str) -> Result<Option<IdempotencyRecord>>;
    /// Stores an answer; false when another request took the key first.
    async fn put(&self, record: &IdempotencyRecord) -> Result<bool>;
    /// Forgets one.
    async fn remove(&self, tenant: &TenantId, subject: &str, key: &str) -> Result<()>;
    /// Forgets answers given to a subject.
    async fn forget_subject(&self, tenant: &TenantId, subject: &str) -> Result<()>;
    /// Forgets the tenant's answers, given to anybody, in which this text stands.
    async fn forget_naming(&self, tenant: &TenantId, text: &str) -> Result<()>;
    /// Forgets answers given before; how many.
    async fn forget(&self, before: OffsetDateTime) -> Result<u64>;
}

/// Our own certificates.
#[async_trait]
pub trait CertificateRepository: Send + Sync {
    /// Adds a certificate.
    async fn insert(&self, record: &CertificateRecord) -> Result<()>;
    /// The newest certificate in each role.
    async fn current(&self) -> Result<Vec<CertificateRecord>>;
    /// A secret that replicas share: the one of this name, or else `new` from now on.
    async fn shared_secret(&self, name: &str, new: [u8; 32], at: OffsetDateTime) -> Result<[u8; 32]>;
}

/// Jobs. The rows are the truth about them: attempts, leases and results survive any worker, queue or server.
#[async_trait]
pub trait JobRepository: Send + Sync {
    /// Adds a job; false when one with its unique key is queued or running.
    async fn enqueue(&self, job: &JobRecord) -> Result<bool> {
        Ok(!self.enqueue_all(std::slice::from_ref(job)).await?.is_empty())
    }
    /// Adds jobs at once; those that were added, in no order. Left out is one whose unique key another has that is queued or running,
    /// or one before it among these.
    async fn enqueue_all(&self, jobs: &[JobRecord]) -> Result<Vec<JobId>>;
    /// The job with this unique key that is queued or running.
    async fn living(&self, unique_key: &str) -> Result<Option<JobRecord>>;
    /// Takes the slot of a recurring job; false when another replica has it.
    async fn take_slot(&self, kind: &str, slot: i64, now: OffsetDateTime) -> Result<bool>;
    /// When a slot of the kind was taken last.
    async fn last_slot_taken_at(&self, kind: &str) -> Result<Option<OffsetDateTime>>;
    /// The most urgent of these kinds that are due, or running on a lease that has ended; with the time at which workers were
    /// last told of each.
    async fn due(&self, kinds: &[&str], now: OffsetDateTime, limit: u32) -> Result<Vec<DueJob>>;
    /// Notes that workers were told of them.
    async fn announced(&self, ids: &[JobId], now: OffsetDateTime) -> Result<()>;
    /// Gives jobs to a worker and counts the attempts; those that are not due (any more) are left out.
    async fn claim(&self, ids: &[JobId], worker: &str, now: OffsetDateTime, lease: OffsetDateTime) -> Result<Vec<JobRecord>>;
    /// A sign of life, with progress where there is some; false when the job is no longer this worker's.
    async fn renew(&self, id: JobId, worker: &str, lease: OffsetDateTime, progress: Option<&serde_json::Value>) -> Result<bool>;
    /// Ends this worker's attempts in the same way, with the last word on their progress; jobs that are no longer its are left out.
    async fn end(
        &self,
        ids: &[JobId],
        worker: &str,
        end: &AttemptEnd,
        progress: Option<&serde_json::Value>,
        now: OffsetDateTime,
    ) -> Result<Vec<JobId>>;
    /// Finds a job.
    async fn get(&self, id: JobId) -> Result<Option<JobRecord>>;
    /// Newest first.
    async fn list(&self, filter: &JobFilter, page: Page) -> Result<Vec<JobRecord>>;
    /// Calls off a job that is queued or running; false when it is neither.
    async fn cancel(&self, id: JobId, now: OffsetDateTime) -> Result<bool>;
    /// Queues a dead or cancelled job again, with all its attempts; false when it is neither, or a job with its key lives.
    async fn replay(&self, id: JobId, now: OffsetDateTime) -> Result<bool>;
    /// How many there are, by kind and state.
    async fn counts(&self) -> Result<Vec<(String, String, u64)>>;
    /// Forgets jobs that were done or cancelled before, and slots taken before but for each kind's last; how many jobs.
    async fn forget(&self, before: OffsetDateTime) -> Result<u64>;
}

/// Tells workers that a job is due. Tickets may be lost or come twice: the job's row decides who does it.
#[async_trait]
pub trait JobTransport: Send + Sync {
    /// Sends tickets for jobs of one kind, the most urgent first.
    async fn announce(&self, kind: &str, due: &[JobId]) -> Result<()>;
    /// What and where it is, for the start-up message; no secret.
    fn describe(&self) -> String;
}

/// Bytes by key, for a while, shared by replicas. Never the truth: a fault is a miss, and a key names all that its value depends on.
#[async_trait]
pub trait Cache: Send + Sync {
    /// What was put, if it is still there.
    async fn get(&self, key: &str) -> Option<Bytes>;
    /// Keeps a value for a time.
    async fn put(&self, key: &str, value: Bytes, ttl: Duration);
    /// Does it answer? For `doctor`; readiness does not depend on it.
    async fn check(&self) -> Result<()>;
    /// What and where it is, for the start-up message; no secret.
    fn describe(&self) -> String;
}

/// What is read when metrics are asked for, rather than counted as it happens.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Whether the database answered. Where it did not, nothing else is known but connections.
    pub database_up: bool,
    /// Jobs by kind and state.
    pub jobs: Vec<(String, String, u64)>,
    /// Database connections by state.
    pub connections: Vec<(&'static str, u64)>,
    /// Bytes by storage tier.
    pub storage: Vec<(String, u64)>,
    /// How far the replication target is behind, and the lag in seconds; none where there is no target.
    pub replication: Option<(ReplicationState, f64)>,
}

/// Counts and times what happens, for those who operate the platform. No call may block or fail.
pub trait Telemetry: Send + Sync {
    /// A request to a route was answered.
    fn request(&self, route: &str, method: &str, status: u16, took: Duration);
    /// A request was refused, with this code.
    fn refused(&self, code: &'static str);
    /// An attempt at a job ended so, after so long; the job had waited so long since it was due.
    fn attempt(&self, kind: &str, outcome: &'static str, took: Duration, waited: Duration);
    /// Content was verified.
    fn verified(&self, state: &str);
    /// A manifest was `created`, `signed` or `archived`.
    fn manifest(&self, event: &'static str);
    /// A cache was asked.
    fn cache(&self, cache: &'static str, hit: bool);
    /// A shadow version of a policy was asked by a guard, and the content passed it or not.
    fn shadow_policy(&self, passed: bool);
    /// Content was read from the replication target, because no tier gave it.
    fn replica_read(&self);
    /// Everything in the text format of Prometheus.
    fn render(&self, gauges: &Gauges) -> Result<String>;
}
