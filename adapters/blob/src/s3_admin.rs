//! Looking after a bucket: what is wrong with it, and the rules that it should have.

use crate::{
    S3BlobStore,
    s3::{failed, instant},
};
use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    primitives::ByteStream as Body,
    types::{
        AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
        LifecycleRuleFilter, NoncurrentVersionExpiration, RestoreRequest,
    },
};
use omt_kernel::{OffsetDateTime, Result};

/// Our rules' names begin so; others in the bucket are left as they are.
const OURS: &str = "openmediatrust-";
/// A clock that differs by more has its requests refused (15 minutes) or soon will.
const MAX_SKEW_SECONDS: i64 = 60;

const KEEPS_VERSIONS: &str =
    "the bucket keeps a version of everything that is deleted, redacted content and ended retention included";
const END_VERSIONS: &str =
    "add a lifecycle rule that ends noncurrent versions (NoncurrentVersionExpiration), or suspend versioning";

/// What a look at a bucket found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketFinding {
    /// What was looked at.
    pub subject: &'static str,
    /// What is wrong, and how to mend it; none when all is well.
    pub fault: Option<(String, &'static str)>,
}

pub(crate) fn finding(subject: &'static str, fault: Option<(String, &'static str)>) -> BucketFinding {
    BucketFinding { subject, fault }
}

impl S3BlobStore {
    /// Looks at reachability, clock, permissions and public access.
    pub async fn examine(&self, now: OffsetDateTime) -> Vec<BucketFinding> {
        let bucket = &self.url.bucket;
        if let Err(error) = self.client.head_bucket().bucket(bucket).send().await {
            let mend =
                "check the URL's bucket, region and endpoint, and that the credentials in the environment are this bucket's";
            return vec![finding("bucket", Some((failed("reach the bucket", &error).to_string(), mend)))];
        }
        let mut out = vec![finding("bucket", None)];
        let key = format!("{}.doctor-{}", self.url.prefix, uuid::Uuid::new_v4());
        let mut locked = None;
        let probe = async {
            let put = self.client.put_object().bucket(bucket).key(&key).body(Body::from_static(b"ok")).send().await;
            put.map_err(|e| failed("write to the bucket", &e))?;
            let got =
                self.client.get_object().bucket(bucket).key(&key).send().await.map_err(|e| failed("read from the bucket", &e))?;
            let at = got.last_modified().map(instant);
            if self.url.archives() {
                self.try_restoring(&key).await?;
            }
            if self.url.object_lock {
                locked = Some(self.examine_lock(&key).await);
            } else if self.head(&key).await?.is_some_and(|head| head.versioned) && !self.ends_versions().await {
                locked = Some(finding("versions", Some((KEEPS_VERSIONS.to_owned(), END_VERSIONS))));
            }
            self.client
                .delete_object()
                .bucket(bucket)
                .key(&key)
                .send()
                .await
                .map_err(|e| failed("delete from the bucket", &e))?;
            self.client
                .list_objects_v2()
                .bucket(bucket)
                .prefix(&self.url.prefix)
                .max_keys(1)
                .send()
                .await
                .map_err(|e| failed("list the bucket", &e))?;
            Ok::<_, omt_kernel::Error>(at)
        };
        match probe.await {
            Ok(at) => {
                out.push(finding("permissions", None));
                let skew = at.map_or(0, |at| (now - at).whole_seconds());
                let fault = format!("this clock differs from the bucket's by {skew} seconds");
                out.push(finding("clock", (skew.abs() > MAX_SKEW_SECONDS).then_some((fault, "set the system clock (NTP)"))));
            }
            Err(error) => {
                let mend = match self.url.archives() {
                    true => {
                        "allow s3:GetObject, PutObject, DeleteObject, RestoreObject, ListBucket, ListBucketMultipartUploads and AbortMultipartUpload"
                    }
                    false => {
                        "allow s3:GetObject, PutObject, DeleteObject, ListBucket, ListBucketMultipartUploads and AbortMultipartUpload"
                    }
                };
                out.push(finding("permissions", Some((error.to_string(), mend))));
            }
        }
        out.extend(locked);
        out.push(finding("public access", self.public_access().await));
        out
    }

    /// Whether a rule over all of our objects ends versions that were deleted or replaced. Who may not read the rules does not know.
    async fn ends_versions(&self) -> bool {
        let ends = |rule: &LifecycleRule| {
            rule.status() == &ExpirationStatus::Enabled
                && rule.noncurrent_version_expiration().is_some()
                && rule.filter().and_then(LifecycleRuleFilter::prefix).is_none_or(|prefix| self.url.prefix.starts_with(prefix))
        };
        self.present_rules().await.is_ok_and(|rules| rules.iter().any(ends))
    }

    /// Whether this server may restore objects: one that is not archived cannot be, and says so only to who may.
    async fn try_restoring(&self, key: &str) -> Result<()> {
        let request = RestoreRequest::builder().days(1).build();
        match self.client.restore_object().bucket(&self.url.bucket).key(key).restore_request(request).send().await {
            Err(error) if error.code() != Some("InvalidObjectState") => Err(failed("restore from the bucket", &error)),
            _ => Ok(()),
        }
    }

    /// Words about what is particular to this bucket; none when nothing is.
    pub fn remarks(&self) -> Vec<String> {
        let mut out = Vec::new();
        if let Some(class) = self.url.storage_class.as_deref().filter(|_| self.url.archives()) {
            let hours = self.url.restore_seconds().div_ceil(3600);
            out.push(format!("class {class}: content is restored before it is read, which may take {hours} hours"));
        }
        out
    }

    /// Whether its rules do what nothing else does: the versions that a bucket with object lock keeps go by them alone.
    pub fn needs_rules(&self) -> bool {
        self.url.object_lock
    }

    /// Whether the bucket's content could be read by anybody.
    async fn public_access(&self) -> Option<(String, &'static str)> {
        let mend = "block public access to the bucket: content is served through this server or by presigned URLs only";
        match self.client.get_public_access_block().bucket(&self.url.bucket).send().await {
            Ok(answer) => {
                let block = answer.public_access_block_configuration();
                let blocked = block.is_some_and(|b| {
                    b.block_public_acls() == Some(true)
                        && b.block_public_policy() == Some(true)
                        && b.ignore_public_acls() == Some(true)
                        && b.restrict_public_buckets() == Some(true)
                });
                (!blocked).then(|| ("public access is not blocked wholly".to_owned(), mend))
            }
            Err(error) if error.code() == Some("NoSuchPublicAccessBlockConfiguration") => {
                Some(("public access is not blocked".to_owned(), mend))
            }
            // Other services have no such setting.
            Err(_) => None,
        }
    }

    /// The rules that the bucket should have: uploads that never ended go after a day, by themselves too. With object lock, so do
    /// versions that were deleted or replaced, and markers that hide nothing any more; the bucket keeps those that are locked.
    fn rules(&self) -> Result<Vec<LifecycleRule>> {
        use omt_kernel::error::Context as _;
        let place =
            if self.url.prefix.is_empty() { "root".to_owned() } else { self.url.prefix.trim_end_matches('/').replace('/', "-") };
        let rule = |name: &str, prefix: String| {
            LifecycleRule::builder()
                .id(format!("{OURS}{place}-{name}"))
                .status(ExpirationStatus::Enabled)
                .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        };
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(1).build();
        let parts = rule("unfinished-uploads", self.url.prefix.clone()).abort_incomplete_multipart_upload(abort).build();
        let direct = rule("direct-uploads", format!("{}.uploads/", self.url.prefix))
            .expiration(LifecycleExpiration::builder().days(1).build())
            .build();
        let mut rules = vec![parts, direct];
        if self.url.object_lock {
            let old = NoncurrentVersionExpiration::builder().noncurrent_days(1).build();
            rules.push(
                rule("old-versions", self.url.prefix.clone())
                    .noncurrent_version_expiration(old)
                    .expiration(LifecycleExpiration::builder().expired_object_delete_marker(true).build())
                    .build(),
            );
        }
        rules.into_iter().map(|rule| rule.context("a lifecycle rule is incomplete")).collect()
    }

    async fn present_rules(&self) -> Result<Vec<LifecycleRule>> {
        match self.client.get_bucket_lifecycle_configuration().bucket(&self.url.bucket).send().await {
            Ok(answer) => Ok(answer.rules().to_vec()),
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Ok(Vec::new()),
            Err(error) => Err(failed("read the bucket's lifecycle rules", &error)),
        }
    }

    /// Writes our rules and leaves others as they are. Gives the names of ours.
    pub async fn apply_rules(&self) -> Result<Vec<String>> {
        use omt_kernel::error::Context as _;
        let ours = self.rules()?;
        let names: Vec<String> = ours.iter().filter_map(|rule| rule.id().map(str::to_owned)).collect();
        let mut all = self.present_rules().await?;
        all.retain(|rule| !rule.id().is_some_and(|id| names.iter().any(|name| name == id)));
        all.extend(ours);
        let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(all)).build().context("lifecycle rules")?;
        self.client
            .put_bucket_lifecycle_configuration()
            .bucket(&self.url.bucket)
            .lifecycle_configuration(configuration)
            .send()
            .await
            .map_err(|e| failed("write the bucket's lifecycle rules", &e))?;
        Ok(names)
    }

    /// The names of our rules that the bucket lacks, or has in another form.
    pub async fn missing_rules(&self) -> Result<Vec<String>> {
        let present = self.present_rules().await?;
        let marker =
            |rule: &LifecycleRule| rule.expiration().and_then(LifecycleExpiration::expired_object_delete_marker) == Some(true);
        let same = |a: &LifecycleRule, b: &LifecycleRule| {
            a.id() == b.id()
                && a.status() == b.status()
                && a.abort_incomplete_multipart_upload() == b.abort_incomplete_multipart_upload()
                && a.expiration().and_then(LifecycleExpiration::days) == b.expiration().and_then(LifecycleExpiration::days)
                && marker(a) == marker(b)
                && a.noncurrent_version_expiration().and_then(NoncurrentVersionExpiration::noncurrent_days)
                    == b.noncurrent_version_expiration().and_then(NoncurrentVersionExpiration::noncurrent_days)
                && a.filter().and_then(LifecycleRuleFilter::prefix) == b.filter().and_then(LifecycleRuleFilter::prefix)
        };
        let missing = self.rules()?.into_iter().filter(|rule| !present.iter().any(|found| same(found, rule)));
        Ok(missing.filter_map(|rule| rule.id().map(str::to_owned)).collect())
    }

    /// What and where it is.
    pub fn place(&self) -> String {
        self.url.to_string()
    }
}
