//! S3 object lock: legal holds and retention that the bucket itself keeps. Its objects have versions; what is deleted is hidden by a
//! marker, and its version goes by the bucket's rules (see `s3_admin.rs`) when no lock keeps it.

use crate::{
    BucketFinding, LockRetention,
    s3::S3BlobStore,
    s3_admin::finding,
    s3_archive::Head,
    s3_fault::{failed, is_missing},
};
use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    primitives::DateTime,
    types::{
        ObjectLockEnabled, ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
        ObjectLockRetentionMode,
    },
};
use omt_kernel::{
    Error, OffsetDateTime, Result,
    storage::{Lock, Locked},
};
use std::time::Duration;

impl S3BlobStore {
    /// The retention that an object lacks: never less than it has, in seconds.
    fn lacking(&self, head: &Head, lock: Lock) -> Option<(ObjectLockRetentionMode, OffsetDateTime)> {
        let (mode, until) = (self.url.lock_retention?, lock.retain_until?);
        // Never shorter than was asked for.
        let until = until.replace_nanosecond(0).ok().filter(|whole| *whole >= until).unwrap_or(until + Duration::from_secs(1));
        let until = until.replace_nanosecond(0).unwrap_or(until);
        let (wanted, known) = match (&head.retention, mode) {
            // A mode that was given stays: only who may bypass it may change it.
            (Some((ObjectLockMode::Compliance, known)), _) => (ObjectLockRetentionMode::Compliance, Some(*known)),
            (Some((_, known)), _) => (ObjectLockRetentionMode::Governance, Some(*known)),
            (None, LockRetention::Compliance) => (ObjectLockRetentionMode::Compliance, None),
            (None, LockRetention::Governance) => (ObjectLockRetentionMode::Governance, None),
        };
        known.is_none_or(|known| known < until).then_some((wanted, until))
    }

    pub(crate) async fn is_object_locked(&self, key: &str, lock: Lock) -> Result<bool> {
        if !self.url.object_lock {
            return Ok(true);
        }
        let head = self.head(key).await?;
        Ok(head.is_none_or(|head| head.held == lock.held && self.lacking(&head, lock).is_none()))
    }

    pub(crate) async fn lock_object(&self, key: &str, lock: Lock) -> Result<Locked> {
        if !self.url.object_lock {
            return Ok(Locked::Nothing);
        }
        let head = self.head(key).await?;
        let mut changed = false;
        if !lock.held {
            changed = self.release_versions(key, head.as_ref()).await?;
        }
        let Some(head) = head else { return Ok(if changed { Locked::Changed } else { Locked::Nothing }) };
        if lock.held && !head.held {
            self.put_hold(key, None, ObjectLockLegalHoldStatus::On).await?;
            changed = true;
        }
        if let Some((mode, until)) = self.lacking(&head, lock) {
            let until = DateTime::from_secs(until.unix_timestamp());
            let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(until).build();
            let put = self.client.put_object_retention().bucket(&self.url.bucket).key(key).retention(retention).send();
            put.await.map_err(|e| failed("set a blob's retention", &e))?;
            changed = true;
        }
        Ok(if changed { Locked::Changed } else { Locked::AsBefore })
    }

    async fn put_hold(&self, key: &str, version: Option<&str>, status: ObjectLockLegalHoldStatus) -> Result<()> {
        let hold = ObjectLockLegalHold::builder().status(status).build();
        let put = self.client.put_object_legal_hold().bucket(&self.url.bucket).key(key).legal_hold(hold);
        match put.set_version_id(version.map(str::to_owned)).send().await {
            Ok(_) => Ok(()),
            // A version that went meanwhile is held by nobody.
            Err(error) if version.is_some() && (is_missing(&error) || error.code() == Some("NoSuchVersion")) => Ok(()),
            Err(error) => Err(failed("set a blob's legal hold", &error)),
        }
    }

    /// Releases every version of an object, those that a marker hides too: nothing else would ever let them go. Whether any was held.
    async fn release_versions(&self, key: &str, current: Option<&Head>) -> Result<bool> {
        let mut released = false;
        let (mut from_key, mut from_version): (Option<String>, Option<String>) = (None, None);
        loop {
            let page = self
                .client
                .list_object_versions()
                .bucket(&self.url.bucket)
                .prefix(key)
                .set_key_marker(from_key)
                .set_version_id_marker(from_version)
                .send()
                .await
                .map_err(|e| failed("list a blob's versions", &e))?;
            for version in page.versions().iter().filter(|version| version.key() == Some(key)) {
                let Some(id) = version.version_id() else { continue };
                let held = match current.filter(|_| version.is_latest() == Some(true)) {
                    Some(head) => head.held,
                    None => self.is_version_held(key, id).await?,
                };
                if held {
                    self.put_hold(key, Some(id), ObjectLockLegalHoldStatus::Off).await?;
                    released = true;
                }
            }
            if page.is_truncated() != Some(true) {
                return Ok(released);
            }
            (from_key, from_version) = (page.next_key_marker, page.next_version_id_marker);
        }
    }

    async fn is_version_held(&self, key: &str, version: &str) -> Result<bool> {
        match self.client.head_object().bucket(&self.url.bucket).key(key).version_id(version).send().await {
            Ok(found) => Ok(Head::from(found).held),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(self.head_failed("look at a blob's version", &error)),
        }
    }

    /// What a lock needs: the bucket's lock and versions, and the permissions, tried on an object that is there.
    pub(crate) async fn examine_lock(&self, probe: &str) -> BucketFinding {
        let bucket = &self.url.bucket;
        let mend = "object lock is switched on when a bucket is made, with versioning; or take object_lock=true out of the URL";
        let configuration = self.client.get_object_lock_configuration().bucket(bucket).send().await;
        let enabled = match configuration {
            Ok(answer) => answer.object_lock_configuration().and_then(|c| c.object_lock_enabled().cloned()),
            Err(error) if error.code() == Some("ObjectLockConfigurationNotFoundError") => None,
            Err(error) => {
                return finding("object lock", Some((failed("read the bucket's object lock", &error).to_string(), PERMIT)));
            }
        };
        if enabled != Some(ObjectLockEnabled::Enabled) {
            return finding("object lock", Some(("object lock is not enabled in the bucket".to_owned(), mend)));
        }
        match self.head(probe).await {
            Ok(head) if head.as_ref().is_some_and(|head| head.versioned) => {}
            Ok(_) => return finding("object lock", Some(("versioning is not enabled in the bucket".to_owned(), mend))),
            Err(error) => return finding("object lock", Some((error.to_string(), PERMIT))),
        }
        let tried = async {
            self.put_hold(probe, None, ObjectLockLegalHoldStatus::On).await?;
            let seen = self.head(probe).await?.is_some_and(|head| head.held);
            self.put_hold(probe, None, ObjectLockLegalHoldStatus::Off).await?;
            let unseen = || Error::internal("a legal hold was set and is not seen");
            if seen { Ok(()) } else { Err(unseen()) }
        };
        finding("object lock", tried.await.err().map(|error: Error| (error.to_string(), PERMIT)))
    }
}

/// How to mend missing permissions.
const PERMIT: &str = "allow s3:GetBucketObjectLockConfiguration, ListBucketVersions, GetObjectVersion, \
    PutObjectLegalHold, GetObjectLegalHold, PutObjectRetention and GetObjectRetention";
