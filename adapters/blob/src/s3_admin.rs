//! Looking after a bucket: what is wrong with it, and the rules that it should have.

use crate::{
    S3BlobStore,
    s3::instant,
    s3_fault::{Fault, failed, skew},
    s3_parts::Origin,
};
use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
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

const SET_CLOCK: &str = "set the system clock (NTP)";
const KEEPS_VERSIONS: &str =
    "the bucket keeps a version of everything that is deleted, redacted content and ended retention included";
const END_VERSIONS: &str =
    "add a lifecycle rule that ends noncurrent versions (NoncurrentVersionExpiration), or suspend versioning";

/// What a look at a bucket found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketFinding {
    /// What was looked at.
    pub subject: &'static str,
    /// What is wrong, and how to mend it; none when nothing is known to be.
    pub fault: Option<(String, &'static str)>,
    /// What else there is to say: that something could not be found out.
    pub note: Option<&'static str>,
}

pub(crate) fn finding(subject: &'static str, fault: Option<(String, &'static str)>) -> BucketFinding {
    BucketFinding { subject, fault, note: None }
}

impl S3BlobStore {
    /// Looks at reachability, clock, permissions and public access.
    pub async fn examine(&self, now: OffsetDateTime) -> Vec<BucketFinding> {
        let answer = self.client.head_bucket().bucket(&self.url.bucket).send().await;
        if let Err(error) = answer {
            return vec![finding("bucket", Some(self.unreachable(&error)))];
        }
        let mut out = vec![finding("bucket", None)];
        let mut more = Vec::new();
        match self.try_permissions(&mut more).await {
            Ok(at) => {
                out.push(finding("permissions", None));
                let skew = at.map_or(0, |at| (now - at).whole_seconds());
                let fault = format!("this clock differs from the bucket's by {skew} seconds");
                out.push(finding("clock", (skew.abs() > MAX_SKEW_SECONDS).then_some((fault, SET_CLOCK))));
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
        out.extend(more);
        out.push(self.examine_access().await);
        out
    }

    /// Why the bucket cannot be reached, and what to do about it.
    fn unreachable<E>(&self, error: &SdkError<E>) -> (String, &'static str)
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let words = self.head_failed("reach the bucket", error).to_string();
        match self.head_fault(error) {
            Fault::NoBucket => (words, "make the bucket, or correct its name in the URL"),
            Fault::OtherRegion => {
                let region = self.other_region(error).map(|region| format!(", which is {region}")).unwrap_or_default();
                (format!("{words}{region}"), "give the URL the bucket's region: region=…")
            }
            Fault::Clock => {
                let seconds = skew(error).map(|seconds| format!(", by {seconds} seconds")).unwrap_or_default();
                (format!("{words}{seconds}"), SET_CLOCK)
            }
            Fault::Refused => (words, "check that the credentials in the environment are this bucket's, and not expired"),
            Fault::Damaged | Fault::Unavailable => {
                (words, "check the URL's bucket, region and endpoint, and that the service runs and its certificate is trusted")
            }
        }
    }

    /// Does once each thing that this server must be able to do, with an object of its own. Gives the time that the bucket wrote
    /// down for it.
    async fn try_permissions(&self, more: &mut Vec<BucketFinding>) -> Result<Option<OffsetDateTime>> {
        let (bucket, (sse, kms_key)) = (&self.url.bucket, self.encryption());
        let key = format!("{}.doctor-{}", self.url.prefix, uuid::Uuid::new_v4());
        let put = self.client.put_object().bucket(bucket).key(&key).body(Body::from_static(b"ok"));
        let put = put.set_server_side_encryption(sse).set_ssekms_key_id(kms_key).send().await;
        put.map_err(|e| failed("write to the bucket", &e))?;
        let got = self.client.get_object().bucket(bucket).key(&key).send().await;
        let at = got.map_err(|e| failed("read from the bucket", &e))?.last_modified().map(instant);
        if self.url.archives() {
            self.try_restoring(&key).await?;
        }
        if self.url.object_lock {
            more.push(self.examine_lock(&key).await);
        } else if self.head(&key).await?.is_some_and(|head| head.versioned) && !self.ends_versions().await {
            more.push(finding("versions", Some((KEEPS_VERSIONS.to_owned(), END_VERSIONS))));
        }
        let gone = self.client.delete_object().bucket(bucket).key(&key).send().await;
        gone.map_err(|e| failed("delete from the bucket", &e))?;
        let listed = self.client.list_objects_v2().bucket(bucket).prefix(&self.url.prefix).max_keys(1).send().await;
        listed.map_err(|e| failed("list the bucket", &e))?;
        self.try_uploads(&key).await?;
        Ok(at)
    }

    /// Begins an upload in parts, sees it, and gives it up.
    async fn try_uploads(&self, key: &str) -> Result<()> {
        let id = self.begin_parts(key, None, Origin::Itself).await?;
        let listed = self.client.list_multipart_uploads().bucket(&self.url.bucket).prefix(key).send().await;
        // It is given up in any case.
        let ended = self.client.abort_multipart_upload().bucket(&self.url.bucket).key(key).upload_id(id).send().await;
        listed.map_err(|e| failed("list uploads", &e))?;
        ended.map(drop).map_err(|e| failed("abort an upload", &e))
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
