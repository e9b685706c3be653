//! One blob store out of three, by tier. New blobs are hot; a blob is read wherever it is, the quickest tier first, so that a
//! move never hides it.

use async_trait::async_trait;
use futures_util::TryStreamExt;
use omt_kernel::{
    Error, Kind, OffsetDateTime, Result, TenantId,
    manifest::BlobRef,
    port::{BlobStock, BlobStore, ByteStream, Content, DirectDownload, DirectUpload, Listed, Put, Telemetry, TieredStore},
    storage::{ARCHIVED, Availability, BLOB_DAMAGED, Lock, Locked, Tier},
};
use sha2::{Digest, Sha256};
use std::{ops::Range, path::Path, sync::Arc};

/// The tiers.
pub struct TieredBlobStore {
    pub(crate) hot: Arc<dyn BlobStock>,
    warm: Arc<dyn BlobStock>,
    cold: Arc<dyn BlobStock>,
    replica: Option<(Arc<dyn BlobStock>, Arc<dyn Telemetry>)>,
}

impl TieredBlobStore {
    /// A store out of three.
    pub fn new(hot: Arc<dyn BlobStock>, warm: Arc<dyn BlobStock>, cold: Arc<dyn BlobStock>) -> Self {
        Self { hot, warm, cold, replica: None }
    }

    /// The same, reading from a replica what no tier gives.
    pub fn with_replica(self, replica: Arc<dyn BlobStock>, telemetry: Arc<dyn Telemetry>) -> Self {
        Self { replica: Some((replica, telemetry)), ..self }
    }

    /// The replica, when it has a blob that the tiers could not give for this reason.
    async fn rescue(&self, tenant: &TenantId, blob: &BlobRef, error: Error) -> Result<&dyn BlobStock> {
        let Some((replica, telemetry)) = &self.replica else { return Err(error) };
        // Why the tiers failed says more than why the replica did.
        if !replica.exists(tenant, blob).await.unwrap_or(false) {
            return Err(error);
        }
        tracing::warn!(%tenant, sha256 = blob.sha256, %error, "no tier gives a blob; it is read from the replica");
        telemetry.replica_read();
        Ok(replica.as_ref())
    }

    async fn read_tiers(&self, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Result<ByteStream> {
        match self.holder(tenant, blob).await?.read(tenant, blob, range.clone()).await {
            // It may have moved on between the question and the reading.
            Err(error) if error.kind == Kind::Internal => self.holder(tenant, blob).await?.read(tenant, blob, range).await,
            other => other,
        }
    }

    async fn open_tiers(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Content> {
        match self.holder(tenant, blob).await?.open(tenant, blob).await {
            Err(error) if error.kind == Kind::Internal => self.holder(tenant, blob).await?.open(tenant, blob).await,
            other => other,
        }
    }

    fn store(&self, tier: Tier) -> &dyn BlobStock {
        match tier {
            Tier::Hot => self.hot.as_ref(),
            Tier::Warm => self.warm.as_ref(),
            Tier::Cold => self.cold.as_ref(),
        }
    }

    /// The quickest tier that has the blob.
    async fn holder(&self, tenant: &TenantId, blob: &BlobRef) -> Result<&dyn BlobStock> {
        for tier in Tier::ALL {
            if self.store(tier).exists(tenant, blob).await? {
                return Ok(self.store(tier));
            }
        }
        // A bucket or a directory that is gone has no blobs, either: that is no fault of the record.
        self.check().await?;
        Err(Error::internal("a blob is missing"))
    }
}

#[async_trait]
impl BlobStore for TieredBlobStore {
    async fn put(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<Put> {
        self.hot.put(tenant, blob, content).await
    }
    async fn put_new(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<()> {
        self.hot.put_new(tenant, blob, content).await
    }
    async fn read(&self, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Result<ByteStream> {
        match self.read_tiers(tenant, blob, range.clone()).await {
            Err(error) => self.rescue(tenant, blob, error).await?.read(tenant, blob, range).await,
            found => found,
        }
    }
    async fn open(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Content> {
        match self.open_tiers(tenant, blob).await {
            Err(error) => self.rescue(tenant, blob, error).await?.open(tenant, blob).await,
            found => found,
        }
    }
    async fn exists(&self, tenant: &TenantId, blob: &BlobRef) -> Result<bool> {
        for tier in Tier::ALL {
            if self.store(tier).exists(tenant, blob).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
    fn locks(&self) -> bool {
        Tier::ALL.into_iter().any(|tier| self.store(tier).locks())
    }
    async fn direct_download(&self, tenant: &TenantId, blob: &BlobRef, wanted: &DirectDownload) -> Result<Option<String>> {
        self.holder(tenant, blob).await?.direct_download(tenant, blob, wanted).await
    }
    fn object_key(&self, tenant: &TenantId, blob: &BlobRef) -> Option<String> {
        self.hot.object_key(tenant, blob)
    }
    async fn direct_upload(
        &self,
        tenant: &TenantId,
        blob: &BlobRef,
        expires: std::time::Duration,
    ) -> Result<Option<DirectUpload>> {
        self.hot.direct_upload(tenant, blob, expires).await
    }
    async fn uploaded(&self, tenant: &TenantId, sha256: &str, max: u64) -> Result<Option<(BlobRef, Content)>> {
        self.hot.uploaded(tenant, sha256, max).await
    }
    async fn drop_uploaded(&self, tenant: &TenantId, sha256: &str) -> Result<()> {
        self.hot.drop_uploaded(tenant, sha256).await
    }
    async fn check(&self) -> Result<()> {
        for tier in Tier::ALL {
            self.store(tier).check().await?;
        }
        Ok(())
    }
    fn spool_dir(&self) -> &Path {
        self.hot.spool_dir()
    }
    fn describe(&self) -> String {
        self.hot.describe()
    }
}

#[async_trait]
impl TieredStore for TieredBlobStore {
    async fn copy(&self, tenant: &TenantId, blob: &BlobRef, from: Tier, to: Tier) -> Result<()> {
        let content = self.store(from).open(tenant, blob).await?;
        self.store(to).put(tenant, blob, content).await?;
        self.verify(tenant, blob, to).await?;
        self.store(to).settle(tenant, blob).await
    }

    async fn verify(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier) -> Result<()> {
        let mut chunks = match self.store(tier).read(tenant, blob, 0..blob.size).await {
            // It was settled, and it is settled only after it was read back.
            Err(error) if error.code == ARCHIVED && self.archives(tier) && self.store(tier).exists(tenant, blob).await? => {
                return Ok(());
            }
            other => other?,
        };
        let mut hash = Sha256::new();
        while let Some(chunk) = chunks.try_next().await? {
            hash.update(&chunk);
        }
        if hex::encode(hash.finalize()) == blob.sha256 {
            return Ok(());
        }
        Err(Error::new(Kind::Unavailable, BLOB_DAMAGED, "a stored blob has other bytes than its name says"))
    }

    async fn remove(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier) -> Result<()> {
        self.store(tier).delete(tenant, blob).await
    }

    async fn modified(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier) -> Result<Option<OffsetDateTime>> {
        self.store(tier).modified(tenant, blob).await
    }

    async fn list_tier(&self, tier: Tier, after: Option<&str>, limit: u32) -> Result<Vec<Listed>> {
        self.store(tier).list(after, limit).await
    }

    async fn abort_tier_uploads(&self, tier: Tier, before: OffsetDateTime) -> Result<u64> {
        self.store(tier).abort_uploads(before).await
    }

    fn archives(&self, tier: Tier) -> bool {
        self.store(tier).archives()
    }

    async fn availability(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Availability> {
        self.holder(tenant, blob).await?.availability(tenant, blob).await
    }

    async fn restore(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()> {
        self.holder(tenant, blob).await?.restore(tenant, blob).await
    }

    fn locks_in(&self, tier: Tier) -> bool {
        self.store(tier).locks()
    }

    async fn lock(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier, lock: Lock) -> Result<Locked> {
        self.store(tier).lock(tenant, blob, lock).await
    }

    async fn is_locked(&self, tenant: &TenantId, blob: &BlobRef, tier: Tier, lock: Lock) -> Result<bool> {
        self.store(tier).is_locked(tenant, blob, lock).await
    }
}
