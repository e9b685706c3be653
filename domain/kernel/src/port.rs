//! The ports: what use cases need of the world. Each is small and object-safe; the composition root picks the adapters.

use crate::{
    ApiKeyId, ManifestId, Result, TenantId, TenantSettings, UserId,
    manifest::{BlobRef, ManifestFilter, ManifestRecord},
    record::{ApiKeyRecord, CertificateRecord, IdempotencyRecord, RefreshTokenRecord, UserRecord, VerificationRecord},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use std::{
    ops::Range,
    path::{Path, PathBuf},
};
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

/// Bytes on their way into or out of the blob store: small ones in memory, large ones in a temporary file.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file that is removed when this is dropped, unless the blob store took it over.
    File(TemporaryFile),
    /// In a file that belongs to the blob store; read only.
    Stored(PathBuf),
}

/// A file that is removed on drop.
#[derive(Debug)]
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Takes charge of the file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // Already gone when the blob store renamed it into place; nothing else can be done about a failure here.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A stream of content.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Immutable bytes, per tenant, named by their SHA-256. Putting the same bytes twice is one blob.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores `content`, whose digest and size the caller has computed. Durable when it returns.
    async fn put(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<()>;
    /// Streams a part of a blob.
    async fn read(&self, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Result<ByteStream>;
    /// The blob as something that can be read and sought locally.
    async fn open(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Content>;
    /// Whether it is there with the right size.
    async fn exists(&self, tenant: &TenantId, blob: &BlobRef) -> Result<bool>;
    /// Removes it, if there.
    async fn delete(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()>;
    /// Can it be written to? For readiness.
    async fn check(&self) -> Result<()>;
    /// A directory for temporary files, where there is room for uploads.
    fn spool_dir(&self) -> &Path;
}

/// A page of a list, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Continue after this identifier.
    pub after: Option<Uuid>,
    /// At most this many.
    pub limit: u32,
}

/// Opens transactions.
#[async_trait]
pub trait Database: Send + Sync {
    /// Opens a transaction that may write. Dropping it rolls back.
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>>;
    /// A view for reads, without a transaction around them.
    async fn read(&self) -> Result<Box<dyn UnitOfWork>>;
    /// Does it answer, with the schema this build knows? For readiness.
    async fn check(&self) -> Result<()>;
}

/// One transaction and the repositories inside it.
#[async_trait]
pub trait UnitOfWork: Send + Sync {
    /// Manifests.
    fn manifests(&self) -> &dyn ManifestRepository;
    /// Kept verification results.
    fn verifications(&self) -> &dyn VerificationRepository;
    /// Users, keys and tokens.
    fn identities(&self) -> &dyn IdentityRepository;
    /// Tenants.
    fn tenants(&self) -> &dyn TenantRepository;
    /// Stored answers.
    fn idempotency(&self) -> &dyn IdempotencyRepository;
    /// Our own certificates.
    fn certificates(&self) -> &dyn CertificateRepository;
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
    /// Replaces the record if its revision is still `expected`; false when it is not.
    async fn update(&self, record: &ManifestRecord, expected: i64) -> Result<bool>;
    /// Newest first.
    async fn list(&self, tenant: &TenantId, filter: &ManifestFilter, page: Page) -> Result<Vec<ManifestRecord>>;
}

/// Kept verification results.
#[async_trait]
pub trait VerificationRepository: Send + Sync {
    /// Adds a result.
    async fn insert(&self, record: &VerificationRecord) -> Result<()>;
    /// A manifest's results, newest first.
    async fn history(&self, tenant: &TenantId, manifest: ManifestId, page: Page) -> Result<Vec<VerificationRecord>>;
}

/// Users, API keys and refresh tokens.
#[async_trait]
pub trait IdentityRepository: Send + Sync {
    /// Adds a user.
    async fn insert_user(&self, user: &UserRecord) -> Result<()>;
    /// Finds a user by login name.
    async fn user_by_name(&self, username: &str) -> Result<Option<UserRecord>>;
    /// Finds a user.
    async fn user(&self, id: UserId) -> Result<Option<UserRecord>>;
    /// Replaces a user's password hash.
    async fn set_password(&self, id: UserId, password_hash: &str) -> Result<()>;
    /// Adds an API key.
    async fn insert_api_key(&self, key: &ApiKeyRecord) -> Result<()>;
    /// Finds an API key by its digest.
    async fn api_key_by_digest(&self, key_sha256: &str) -> Result<Option<ApiKeyRecord>>;
    /// API keys that this tenant's administrators manage, newest first.
    async fn list_api_keys(&self, managed_by: &TenantId, page: Page) -> Result<Vec<ApiKeyRecord>>;
    /// Revokes an API key; false when there is no such unrevoked key.
    async fn revoke_api_key(&self, managed_by: &TenantId, id: ApiKeyId, at: OffsetDateTime) -> Result<bool>;
    /// Adds a refresh token.
    async fn insert_refresh_token(&self, token: &RefreshTokenRecord) -> Result<()>;
    /// Finds a refresh token by its digest.
    async fn refresh_token(&self, token_sha256: &str) -> Result<Option<RefreshTokenRecord>>;
    /// Marks a refresh token as used; false when it was used already.
    async fn use_refresh_token(&self, token_sha256: &str, at: OffsetDateTime) -> Result<bool>;
    /// Forgets every token of a family.
    async fn revoke_family(&self, family: Uuid) -> Result<()>;
}

/// Tenants and their settings.
#[async_trait]
pub trait TenantRepository: Send + Sync {
    /// The settings, if the tenant exists.
    async fn settings(&self, tenant: &TenantId) -> Result<Option<TenantSettings>>;
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
}

/// Our own certificates.
#[async_trait]
pub trait CertificateRepository: Send + Sync {
    /// Adds a certificate.
    async fn insert(&self, record: &CertificateRecord) -> Result<()>;
    /// The newest certificate in each role.
    async fn current(&self) -> Result<Vec<CertificateRecord>>;
}
