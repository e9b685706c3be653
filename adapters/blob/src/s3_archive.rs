//! Classes whose objects must be restored before they can be read (GLACIER, DEEP_ARCHIVE): into them, and back.

use crate::{
    s3::{S3BlobStore, instant},
    s3_fault::failed,
    s3_parts::{Origin, source},
    s3_url::Retrieval,
};
use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    operation::head_object::HeadObjectOutput,
    primitives::{DateTime, DateTimeFormat},
    types::{
        ArchiveStatus, ChecksumAlgorithm, GlacierJobParameters, ObjectLockLegalHoldStatus, ObjectLockMode, RestoreRequest,
        StorageClass, Tier,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use omt_kernel::{Error, Kind, OffsetDateTime, Result, error::Context, manifest::BlobRef, storage::Availability};

/// What the service says about an object.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) modified: OffsetDateTime,
    class: StorageClass,
    /// An object of INTELLIGENT_TIERING can be archived without another class.
    archive: Option<ArchiveStatus>,
    restore: Option<String>,
    /// The bucket keeps versions of it.
    pub(crate) versioned: bool,
    /// A legal hold is on.
    pub(crate) held: bool,
    /// Its retention.
    pub(crate) retention: Option<(ObjectLockMode, OffsetDateTime)>,
}

impl From<HeadObjectOutput> for Head {
    fn from(found: HeadObjectOutput) -> Self {
        Self {
            size: found.content_length().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            modified: found.last_modified().map_or(OffsetDateTime::UNIX_EPOCH, instant),
            versioned: found.version_id().is_some_and(|version| version != "null"),
            held: found.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On),
            retention: found.object_lock_mode().cloned().zip(found.object_lock_retain_until_date().map(instant)),
            // The usual class is not mentioned.
            class: found.storage_class.unwrap_or(StorageClass::Standard),
            archive: found.archive_status,
            restore: found.restore,
        }
    }
}

impl Head {
    /// When its bytes can be had.
    pub(crate) fn availability(&self) -> Availability {
        let archived = self.archive.is_some() || matches!(self.class, StorageClass::Glacier | StorageClass::DeepArchive);
        match &self.restore {
            _ if !archived => Availability::AtOnce,
            None => Availability::Archived,
            Some(restore) => restoration(restore),
        }
    }
}

/// Reads `x-amz-restore`: `ongoing-request="true"`, or `ongoing-request="false", expiry-date="Fri, 23 Dec 2012 00:00:00 GMT"`.
fn restoration(header: &str) -> Availability {
    if !header.contains("ongoing-request=\"false\"") {
        return Availability::Restoring;
    }
    let date = header.split("expiry-date=\"").nth(1).and_then(|rest| rest.split('"').next());
    let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
    Availability::Restored(date.as_ref().map(instant))
}

impl S3BlobStore {
    /// Gives an object this store's archive class, by copying it onto itself; one that has it already stays as it is.
    pub(crate) async fn archive(&self, key: &str, blob: &BlobRef) -> Result<()> {
        let Some(class) = self.url.storage_class.as_deref().filter(|_| self.url.archives()).map(StorageClass::from) else {
            return Ok(());
        };
        let missing = || Error::internal("a blob is missing");
        if self.head(key).await?.ok_or_else(missing)?.class == class {
            return Ok(());
        }
        if blob.size > self.copy_part {
            self.write_parts(key, blob, Some(class.clone()), Origin::Itself).await.map(drop)
        } else {
            self.copy_whole(key, blob, &class).await
        }?;
        match self.head(key).await? {
            Some(head) if head.class == class && head.size == blob.size => Ok(()),
            // It would be read like any other, at the price of any other.
            _ => Err(Error::new(Kind::Unavailable, "BLOB_STORE_CLASS", format!("the bucket does not take objects of {class}"))
                .retry_after(60)),
        }
    }

    async fn copy_whole(&self, key: &str, blob: &BlobRef, class: &StorageClass) -> Result<()> {
        let (sse, kms_key) = self.encryption();
        let copied = self
            .client
            .copy_object()
            .bucket(&self.url.bucket)
            .key(key)
            .copy_source(source(&self.url.bucket, key))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .storage_class(class.clone())
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key)
            .send()
            .await
            .map_err(|e| failed("archive a blob", &e))?;
        let digest = STANDARD.encode(hex::decode(&blob.sha256).context("a blob's name is not a digest")?);
        match copied.copy_object_result().and_then(|copy| copy.checksum_sha256()) {
            Some(other) if other != digest => {
                let words = "the blob store archived other bytes than it was given";
                Err(Error::new(Kind::Unavailable, "BLOB_DAMAGED", words).retry_after(5))
            }
            // Some services compute none.
            _ => Ok(()),
        }
    }

    /// Asks for an archived object back. It comes in its own time.
    pub(crate) async fn bring_back(&self, key: &str) -> Result<()> {
        let Some(head) = self.head(key).await? else { return Err(Error::internal("a blob is missing")) };
        if head.availability() != Availability::Archived {
            return Ok(());
        }
        let tier = match self.url.retrieval {
            Retrieval::Standard => Tier::Standard,
            Retrieval::Bulk => Tier::Bulk,
            Retrieval::Expedited => Tier::Expedited,
        };
        let speed = GlacierJobParameters::builder().tier(tier).build().context("a restore is incomplete")?;
        // What is archived within INTELLIGENT_TIERING comes back for good.
        let days = head.archive.is_none().then_some(i32::from(self.url.restored_days));
        let request = RestoreRequest::builder().set_days(days).glacier_job_parameters(speed).build();
        match self.client.restore_object().bucket(&self.url.bucket).key(key).restore_request(request).send().await {
            Ok(_) => Ok(()),
            // Somebody else asked, or it was restored meanwhile.
            Err(error) if matches!(error.code(), Some("RestoreAlreadyInProgress" | "InvalidObjectState")) => Ok(()),
            Err(error) => Err(failed("restore a blob", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restorations_are_read() {
        assert_eq!(restoration("ongoing-request=\"true\""), Availability::Restoring);
        let until = OffsetDateTime::from_unix_timestamp(1_356_220_800).ok();
        let header = "ongoing-request=\"false\", expiry-date=\"Sun, 23 Dec 2012 00:00:00 GMT\"";
        assert_eq!(restoration(header), Availability::Restored(until));
        assert_eq!(restoration("ongoing-request=\"false\""), Availability::Restored(None));
        // What is not understood is not taken for readable.
        assert_eq!(restoration("soon"), Availability::Restoring);
    }
}
