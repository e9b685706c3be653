//! URLs that let a caller fetch or bring one object for a short time, without the bytes passing through this server.

use crate::{s3::S3BlobStore, s3_fault::failed};
use aws_sdk_s3::presigning::PresigningConfig;
use base64::{Engine, engine::general_purpose::STANDARD};
use omt_kernel::{
    Error, Kind, OffsetDateTime, Result, TenantId,
    error::Context,
    manifest::BlobRef,
    port::{BlobStore, Content, DirectDownload, DirectUpload},
};
use std::time::Duration;

fn config(expires: Duration) -> Result<PresigningConfig> {
    PresigningConfig::expires_in(expires).context("a presigned URL cannot live so long")
}

impl S3BlobStore {
    /// Where a direct upload lands: beside the blobs, never in their place, so that bytes under a blob's name are always its own.
    fn staging_key(&self, tenant: &TenantId, sha256: &str) -> String {
        format!("{}.uploads/{tenant}/{sha256}", self.url.prefix)
    }

    pub(crate) async fn get_url(&self, tenant: &TenantId, blob: &BlobRef, wanted: &DirectDownload) -> Result<String> {
        let request = self
            .client
            .get_object()
            .bucket(&self.url.bucket)
            .key(self.key(tenant, blob)?)
            .response_content_type(&wanted.media_type)
            .response_content_disposition(&wanted.disposition)
            .response_cache_control("private, no-store")
            .presigned(config(wanted.expires)?)
            .await
            .map_err(|e| failed("sign a URL", &e))?;
        Ok(request.uri().to_owned())
    }

    pub(crate) async fn put_url(&self, tenant: &TenantId, blob: &BlobRef, expires: Duration) -> Result<DirectUpload> {
        let digest = hex::decode(&blob.sha256).context("a blob's name is not a digest")?;
        // As for every other object: a bucket may refuse what is not encrypted as it asks.
        let (sse, kms_key) = self.encryption();
        let request = self
            .client
            .put_object()
            .bucket(&self.url.bucket)
            .key(self.staging_key(tenant, &blob.sha256))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key)
            // The service refuses other bytes; one that does not check is caught when the upload is taken.
            .checksum_sha256(STANDARD.encode(digest))
            .content_length(blob.size.cast_signed())
            .presigned(config(expires)?)
            .await
            .map_err(|e| failed("sign a URL", &e))?;
        let headers = request.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(DirectUpload { url: request.uri().to_owned(), headers })
    }

    pub(crate) async fn staged(&self, tenant: &TenantId, sha256: &str, max: u64) -> Result<Option<(BlobRef, Content)>> {
        let key = self.staging_key(tenant, sha256);
        let Some(size) = self.head(&key).await?.map(|head| head.size) else {
            // Where there is no bucket there is no upload either, but that is another answer.
            return self.check().await.map(|()| None);
        };
        if size > max {
            return Err(Error::new(Kind::TooLarge, "CONTENT_TOO_LARGE", format!("the upload is over the limit of {max} bytes")));
        }
        let blob = BlobRef { sha256: sha256.to_owned(), size };
        match self.download(&key, &blob).await {
            Ok(content) => Ok(Some((blob, content))),
            Err(error) if error.code == "BLOB_DAMAGED" => Err(Error::unprocessable_field(
                "UPLOAD_MISMATCH",
                "upload",
                "the uploaded bytes have another SHA-256 than was announced",
            )),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn unstage(&self, tenant: &TenantId, sha256: &str) -> Result<()> {
        let key = self.staging_key(tenant, sha256);
        self.client.delete_object().bucket(&self.url.bucket).key(key).send().await.map_err(|e| failed("remove an upload", &e))?;
        Ok(())
    }

    /// Removes direct uploads that nobody took.
    pub(crate) async fn unstage_older(&self, before: OffsetDateTime) -> Result<u64> {
        let mut removed = 0;
        let mut start: Option<String> = None;
        loop {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.url.bucket)
                .prefix(format!("{}.uploads/", self.url.prefix))
                .set_start_after(start)
                .send()
                .await
                .map_err(|e| failed("list uploads", &e))?;
            for object in page.contents() {
                let at = object.last_modified().and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok());
                let (Some(key), Some(at)) = (object.key(), at) else { continue };
                if at < before {
                    match self.client.delete_object().bucket(&self.url.bucket).key(key).send().await {
                        Ok(_) => removed += 1,
                        // It keeps none of the others.
                        Err(error) => tracing::warn!(key, error = %failed("remove an upload", &error), "an old upload stays"),
                    }
                }
            }
            start = page.contents().last().and_then(|object| object.key()).map(str::to_owned);
            if page.is_truncated() != Some(true) {
                return Ok(removed);
            }
        }
    }
}
