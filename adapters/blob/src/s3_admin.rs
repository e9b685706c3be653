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
        LifecycleRuleFilter,
    },
};
use omt_kernel::{OffsetDateTime, Result};

/// Our rules' names begin so; others in the bucket are left as they are.
const OURS: &str = "openmediatrust-";
/// A clock that differs by more has its requests refused (15 minutes) or soon will.
const MAX_SKEW_SECONDS: i64 = 60;

/// What a look at a bucket found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketFinding {
    /// What was looked at.
    pub subject: &'static str,
    /// What is wrong, and how to mend it; none when all is well.
    pub fault: Option<(String, &'static str)>,
}

fn finding(subject: &'static str, fault: Option<(String, &'static str)>) -> BucketFinding {
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
        let probe = async {
            let put = self.client.put_object().bucket(bucket).key(&key).body(Body::from_static(b"ok")).send().await;
            put.map_err(|e| failed("write to the bucket", &e))?;
            let got =
                self.client.get_object().bucket(bucket).key(&key).send().await.map_err(|e| failed("read from the bucket", &e))?;
            let at = got.last_modified().map(instant);
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
                let mend = "allow s3:GetObject, PutObject, DeleteObject, ListBucket, ListBucketMultipartUploads and AbortMultipartUpload";
                out.push(finding("permissions", Some((error.to_string(), mend))));
            }
        }
        out.push(finding("public access", self.public_access().await));
        out
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

    /// The rules that the bucket should have: uploads that never ended go after a day, by themselves too.
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
        Ok(vec![parts.context("a lifecycle rule is incomplete")?, direct.context("a lifecycle rule is incomplete")?])
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
        let same = |a: &LifecycleRule, b: &LifecycleRule| {
            a.id() == b.id()
                && a.status() == b.status()
                && a.abort_incomplete_multipart_upload() == b.abort_incomplete_multipart_upload()
                && a.expiration().and_then(LifecycleExpiration::days) == b.expiration().and_then(LifecycleExpiration::days)
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
