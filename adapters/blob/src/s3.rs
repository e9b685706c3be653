//! The blob store in an S3 bucket: `PREFIX<tenant>/<first two digits>/<sha256>`.
//!
//! S3 answers a `PUT` when the object is durable. Objects are named by their digest, so a retried upload writes the same bytes
//! under the same name.

use crate::{
    s3_archive::Head,
    s3_fault::{failed, is_missing},
    s3_parts::{Origin, damaged},
    s3_url::{Encryption, S3Url},
};
use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, retry::RetryConfig,
        timeout::TimeoutConfig,
    },
    error::ProvideErrorMetadata,
    primitives::ByteStream as Body,
    types::{Object, ServerSideEncryption, StorageClass},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use omt_kernel::{
    Error, Kind, OffsetDateTime, Result, TenantId,
    error::{Context, not_written},
    manifest::BlobRef,
    port::{BlobStock, BlobStore, ByteStream, Content, DirectDownload, DirectUpload, Listed, Put, TemporaryFile},
    storage::{ARCHIVED, Availability, archived},
};
use sha2::{Digest, Sha256};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::io::AsyncWriteExt;

/// Larger objects go up in parts.
const SINGLE: u64 = 32 << 20;
/// Far below what one copy may have, so that none takes long to answer.
const COPY_PART: u64 = 256 << 20;
/// Smaller objects are opened in memory.
const IN_MEMORY: u64 = 8 << 20;
const SPOOLING: &str = "cannot write in the spool directory";
/// What comes back broken is asked for again so often.
const DOWNLOADS: u32 = 3;

/// Blobs in a bucket.
pub struct S3BlobStore {
    pub(crate) client: Client,
    pub(crate) url: S3Url,
    /// Larger objects are copied within the bucket in parts, of this size.
    pub(crate) copy_part: u64,
    spool: PathBuf,
}

impl S3BlobStore {
    /// A store over the bucket; nothing is asked of it yet. Temporary files go to `spool`.
    pub async fn open(url: &S3Url, spool: &Path) -> Result<Self> {
        std::fs::create_dir_all(spool).context("cannot create the spool directory")?;
        let mut shared = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = &url.region {
            shared = shared.region(Region::new(region.clone()));
        }
        let shared = shared.load().await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(url.path_style)
            // Uploads carry the SHA-256 that names them; other services know no other checksum.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            // A clock that the SDK makes up for would still be wrong in presigned URLs, tokens and signatures: it must be seen.
            .disable_clock_skew_correction(true)
            .retry_config(RetryConfig::standard().with_max_attempts(6).with_initial_backoff(Duration::from_millis(100)))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(5))
                    .read_timeout(Duration::from_secs(30))
                    .operation_attempt_timeout(Duration::from_secs(120))
                    .build(),
            );
        if shared.region().is_none() {
            config = config.region(Region::new("us-east-1"));
        }
        if let Some(endpoint) = &url.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(Self { client: Client::from_conf(config.build()), url: url.clone(), copy_part: COPY_PART, spool: spool.to_owned() })
    }

    pub(crate) fn key(&self, tenant: &TenantId, blob: &BlobRef) -> Result<String> {
        let digest = blob.sha256.as_str();
        // Names come from our own records; a wrong one must never become a key.
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::internal("a blob's name is not a digest"));
        }
        Ok(format!("{}{tenant}/{}/{digest}", self.url.prefix, &digest[..2]))
    }

    /// An object of ours; none for what else lies in the bucket.
    pub(crate) fn listed(&self, object: &Object) -> Option<Listed> {
        let key = object.key()?.strip_prefix(&self.url.prefix)?;
        let mut parts = key.split('/');
        let (tenant, shard, digest) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !crate::is_name(shard, digest) {
            return None;
        }
        let size = object.size().and_then(|n| u64::try_from(n).ok())?;
        Some(Listed {
            key: key.to_owned(),
            tenant: TenantId::parse(tenant).ok()?,
            blob: BlobRef { sha256: digest.to_owned(), size },
            modified: object.last_modified().map_or(OffsetDateTime::UNIX_EPOCH, instant),
        })
    }

    pub(crate) fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.url.encryption {
            Encryption::BucketDefault => (None, None),
            Encryption::S3 => (Some(ServerSideEncryption::Aes256), None),
            Encryption::Kms(key) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    /// The class of new objects. What is going to be archived is read back first, so it begins in the bucket's default class.
    fn storage_class(&self) -> Option<StorageClass> {
        self.url.storage_class.as_deref().filter(|_| !self.url.archives()).map(StorageClass::from)
    }

    /// What the service says about an object, if there is one.
    pub(crate) async fn head(&self, key: &str) -> Result<Option<Head>> {
        match self.client.head_object().bucket(&self.url.bucket).key(key).send().await {
            Ok(found) => Ok(Some(Head::from(found))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.head_failed("look for a blob", &error)),
        }
    }

    /// Writes an object at once. Whether the service says that it has the bytes that were sent.
    async fn put_whole(&self, key: &str, blob: &BlobRef, body: Body) -> Result<bool> {
        let (sse, kms_key) = self.encryption();
        let digest = STANDARD.encode(hex::decode(&blob.sha256).context("a blob's name is not a digest")?);
        let put = self
            .client
            .put_object()
            .bucket(&self.url.bucket)
            .key(key)
            .checksum_sha256(&digest)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key)
            .set_storage_class(self.storage_class())
            .content_length(blob.size.cast_signed())
            .body(body)
            .send()
            .await
            .map_err(|e| failed("store a blob", &e))?;
        match put.checksum_sha256() {
            Some(other) if other != digest => Err(damaged()),
            said => Ok(said.is_some()),
        }
    }

    /// Reads an object back that a service which says nothing of checksums has taken. One that is not what was sent goes, since
    /// whoever sent it again would find it there.
    async fn read_back(&self, key: &str, blob: &BlobRef) -> Result<()> {
        let (mut chunks, mut hash) = (self.stream(key, 0..blob.size).await?, Sha256::new());
        while let Some(chunk) = chunks.next().await {
            hash.update(&chunk?);
        }
        if hex::encode(hash.finalize()) == blob.sha256 {
            return Ok(());
        }
        let gone = self.client.delete_object().bucket(&self.url.bucket).key(key).send().await;
        gone.map_err(|e| failed("remove a damaged blob", &e))?;
        Err(damaged())
    }

    /// Streams a part of an object.
    async fn stream(&self, key: &str, range: Range<u64>) -> Result<ByteStream> {
        if range.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let part = Part {
            client: self.client.clone(),
            bucket: self.url.bucket.clone(),
            key: key.to_owned(),
            range,
            cuts: 0,
            restore_seconds: self.url.restore_seconds(),
        };
        let body = part.open().await?;
        let chunks = stream::unfold(Some((part, body)), |state| async move {
            let (mut part, mut body) = state?;
            match part.next(&mut body).await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some((part, body)))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(chunks.boxed())
    }

    /// An object as something that can be read and sought locally; its digest is checked.
    pub(crate) async fn download(&self, key: &str, blob: &BlobRef) -> Result<Content> {
        let mut attempt = 1;
        loop {
            match self.download_once(key, blob).await {
                Err(error) if error.kind == Kind::Unavailable && error.code != ARCHIVED && attempt < DOWNLOADS => {
                    tracing::warn!(%error, attempt, "a download failed");
                    tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn download_once(&self, key: &str, blob: &BlobRef) -> Result<Content> {
        let mut chunks = self.stream(key, 0..blob.size).await?;
        let mut hash = Sha256::new();
        if blob.size <= IN_MEMORY {
            let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0));
            while let Some(chunk) = chunks.next().await {
                bytes.extend_from_slice(&chunk?);
            }
            hash.update(&bytes);
            return self.intact(blob, hash).map(|()| Content::Memory(bytes.into()));
        }
        let temporary = TemporaryFile::new(self.spool.join(format!("get-{}", uuid::Uuid::new_v4())));
        let mut file = tokio::fs::File::create_new(temporary.path()).await.map_err(not_written(SPOOLING))?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(not_written(SPOOLING))?;
        }
        file.flush().await.map_err(not_written(SPOOLING))?;
        self.intact(blob, hash).map(|()| Content::File(temporary))
    }

    fn intact(&self, blob: &BlobRef, hash: Sha256) -> Result<()> {
        if hex::encode(hash.finalize()) == blob.sha256 {
            return Ok(());
        }
        Err(Error::new(Kind::Unavailable, "BLOB_DAMAGED", "a blob came back with other bytes than were stored").retry_after(5))
    }
}

/// A part of an object on its way. Where the connection breaks, the rest is asked for anew.
struct Part {
    client: Client,
    bucket: String,
    key: String,
    /// What is still to come.
    range: Range<u64>,
    /// How often it was cut off since it last brought anything.
    cuts: u32,
    /// How long a restore takes, should it be archived.
    restore_seconds: u32,
}

impl Part {
    async fn open(&self) -> Result<Body> {
        let range = format!("bytes={}-{}", self.range.start, self.range.end - 1);
        match self.client.get_object().bucket(&self.bucket).key(&self.key).range(range).send().await {
            Ok(answer) => Ok(answer.body),
            Err(error) if is_missing(&error) => Err(Error::internal("a blob is missing")),
            Err(error) if error.code() == Some("InvalidObjectState") => Err(archived(self.restore_seconds)),
            Err(error) => Err(failed("read a blob", &error)),
        }
    }

    async fn next(&mut self, body: &mut Body) -> Result<Option<Bytes>> {
        while !self.range.is_empty() {
            match body.next().await {
                Some(Ok(bytes)) if bytes.len() as u64 > self.range.end - self.range.start => {
                    return Err(Error::internal("a blob is longer than its record says"));
                }
                Some(Ok(bytes)) if !bytes.is_empty() => {
                    self.range.start += bytes.len() as u64;
                    self.cuts = 0;
                    return Ok(Some(bytes));
                }
                Some(Ok(_)) => {}
                end => {
                    self.cuts += 1;
                    if self.cuts > DOWNLOADS {
                        let words = "a blob was cut off on its way, again and again";
                        let error = Error::new(Kind::Unavailable, "BLOB_STORE_UNAVAILABLE", words).retry_after(5);
                        return Err(match end {
                            Some(Err(cause)) => error.caused_by(cause),
                            _ => error,
                        });
                    }
                    tokio::time::sleep(Duration::from_millis(50 << self.cuts)).await;
                    *body = self.open().await?;
                }
            }
        }
        Ok(None)
    }
}

pub(crate) fn instant(at: &aws_sdk_s3::primitives::DateTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[async_trait]
impl BlobStore for S3BlobStore {
    async fn put(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<Put> {
        let key = self.key(tenant, blob)?;
        if self.head(&key).await?.is_some_and(|head| head.size == blob.size) {
            return Ok(Put::Present);
        }
        self.put_new(tenant, blob, content).await.map(|()| Put::Written)
    }

    async fn put_new(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<()> {
        let key = self.key(tenant, blob)?;
        let path = match &content {
            Content::Memory(bytes) => {
                // The signature of what is in memory covers its SHA-256.
                return self.put_whole(&key, blob, Body::from(bytes.clone())).await.map(drop);
            }
            Content::File(temporary) => temporary.path(),
            Content::Stored(file) => file.path(),
        };
        let confirmed = if blob.size > SINGLE {
            self.write_parts(&key, blob, self.storage_class(), Origin::File(path)).await?
        } else {
            self.put_whole(&key, blob, Body::from_path(path).await.context("cannot read content")?).await?
        };
        // A service that lost a part must not pass for one that kept it.
        if self.head(&key).await?.is_none_or(|head| head.size != blob.size) {
            let words = "the blob store kept another size than was sent";
            return Err(Error::new(Kind::Unavailable, "BLOB_DAMAGED", words).retry_after(5));
        }
        if !confirmed {
            self.read_back(&key, blob).await?;
        }
        Ok(())
    }

    async fn read(&self, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Result<ByteStream> {
        self.stream(&self.key(tenant, blob)?, range).await
    }

    async fn open(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Content> {
        self.download(&self.key(tenant, blob)?, blob).await
    }

    fn locks(&self) -> bool {
        self.url.object_lock
    }

    async fn direct_download(&self, tenant: &TenantId, blob: &BlobRef, wanted: &DirectDownload) -> Result<Option<String>> {
        // Whoever fetched it would hear of it in the service's words.
        if matches!(self.availability(tenant, blob).await?, Availability::Archived | Availability::Restoring) {
            return Err(archived(self.url.restore_seconds()));
        }
        self.get_url(tenant, blob, wanted).await.map(Some)
    }

    fn object_key(&self, tenant: &TenantId, blob: &BlobRef) -> Option<String> {
        self.key(tenant, blob).ok()
    }

    async fn direct_upload(&self, tenant: &TenantId, blob: &BlobRef, expires: Duration) -> Result<Option<DirectUpload>> {
        self.put_url(tenant, blob, expires).await.map(Some)
    }

    async fn uploaded(&self, tenant: &TenantId, sha256: &str, max: u64) -> Result<Option<(BlobRef, Content)>> {
        self.staged(tenant, sha256, max).await
    }

    async fn drop_uploaded(&self, tenant: &TenantId, sha256: &str) -> Result<()> {
        self.unstage(tenant, sha256).await
    }

    async fn exists(&self, tenant: &TenantId, blob: &BlobRef) -> Result<bool> {
        Ok(self.head(&self.key(tenant, blob)?).await?.is_some_and(|head| head.size == blob.size))
    }

    async fn check(&self) -> Result<()> {
        let answer = self.client.head_bucket().bucket(&self.url.bucket).send().await;
        answer.map(drop).map_err(|e| self.head_failed("reach the bucket", &e))
    }

    fn spool_dir(&self) -> &Path {
        &self.spool
    }

    fn describe(&self) -> String {
        self.url.to_string()
    }
}
