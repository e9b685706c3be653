//! Looking after what lies in a bucket.

use crate::{
    s3::{S3BlobStore, instant},
    s3_fault::{failed, is_missing},
};
use async_trait::async_trait;
use omt_kernel::{
    Error, OffsetDateTime, Result, TenantId,
    manifest::BlobRef,
    port::{BlobStock, Listed},
    storage::{Availability, Lock, Locked},
};

#[async_trait]
impl BlobStock for S3BlobStore {
    async fn delete(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()> {
        let key = self.key(tenant, blob)?;
        match self.client.delete_object().bucket(&self.url.bucket).key(key).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(failed("remove a blob", &error)),
        }
    }

    async fn modified(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Option<OffsetDateTime>> {
        Ok(self.head(&self.key(tenant, blob)?).await?.map(|head| head.modified))
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<Listed>> {
        // Names that begin with a dot are other tiers and direct uploads, and a slash comes after them.
        let mut start = Some(format!("{}{}", self.url.prefix, after.unwrap_or("/")));
        loop {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.url.bucket)
                .prefix(&self.url.prefix)
                .set_start_after(start)
                .max_keys(limit.min(1000).cast_signed())
                .send()
                .await
                .map_err(|e| failed("list the bucket", &e))?;
            let found: Vec<Listed> = page.contents().iter().filter_map(|object| self.listed(object)).collect();
            // A page may hold nothing of ours, and not be the last.
            if !found.is_empty() || page.is_truncated() != Some(true) {
                return Ok(found);
            }
            start = page.contents().last().and_then(|object| object.key()).map(str::to_owned);
        }
    }

    async fn abort_uploads(&self, before: OffsetDateTime) -> Result<u64> {
        let (mut aborted, mut from_key, mut from_upload) = (0, None, None);
        loop {
            let page = self
                .client
                .list_multipart_uploads()
                .bucket(&self.url.bucket)
                .prefix(&self.url.prefix)
                .set_key_marker(from_key)
                .set_upload_id_marker(from_upload)
                .send()
                .await
                .map_err(|e| failed("list uploads", &e))?;
            for upload in page.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                if upload.initiated().map_or(OffsetDateTime::UNIX_EPOCH, instant) >= before {
                    continue;
                }
                match self.client.abort_multipart_upload().bucket(&self.url.bucket).key(key).upload_id(id).send().await {
                    Ok(_) => aborted += 1,
                    // It ended meanwhile.
                    Err(error) if is_missing(&error) => {}
                    // It keeps none of the others.
                    Err(error) => tracing::warn!(key, error = %failed("abort an upload", &error), "an old upload stays"),
                }
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            (from_key, from_upload) = (page.next_key_marker, page.next_upload_id_marker);
        }
        Ok(aborted + self.unstage_older(before).await?)
    }

    fn archives(&self) -> bool {
        self.url.archives()
    }

    async fn settle(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()> {
        self.archive(&self.key(tenant, blob)?, blob).await
    }

    async fn availability(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Availability> {
        let head = self.head(&self.key(tenant, blob)?).await?;
        head.map(|head| head.availability()).ok_or_else(|| Error::internal("a blob is missing"))
    }

    async fn restore(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()> {
        self.bring_back(&self.key(tenant, blob)?).await
    }

    async fn lock(&self, tenant: &TenantId, blob: &BlobRef, lock: Lock) -> Result<Locked> {
        self.lock_object(&self.key(tenant, blob)?, lock).await
    }

    async fn is_locked(&self, tenant: &TenantId, blob: &BlobRef, lock: Lock) -> Result<bool> {
        self.is_object_locked(&self.key(tenant, blob)?, lock).await
    }
}
