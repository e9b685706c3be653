//! Large objects go in parts: up from a file, or from the object itself when it gets another class.

use crate::s3::{S3BlobStore, failed};
use aws_sdk_s3::{
    primitives::{ByteStream as Body, Length},
    types::{CompletedMultipartUpload, CompletedPart, StorageClass},
};
use omt_kernel::{Error, Result, error::Context, manifest::BlobRef};
use std::{ops::Range, path::Path};

/// The usual part of what is sent.
const PART: u64 = 16 << 20;
/// S3 allows 10,000 of them.
const MAX_PARTS: u64 = 9_000;

/// Where the bytes of a large object come from.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// This file.
    File(&'a Path),
    /// The object as it is.
    Itself,
}

impl Origin<'_> {
    /// For errors: what is done.
    fn doing(self) -> [&'static str; 3] {
        match self {
            Self::File(_) => ["begin an upload", "store a part of a blob", "finish an upload"],
            Self::Itself => ["begin archiving a blob", "archive a part of a blob", "finish archiving a blob"],
        }
    }
}

/// A key as a copy's source names it.
pub(crate) fn source(bucket: &str, key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let encoded = key.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") });
    format!("{bucket}/{}", encoded.collect::<String>())
}

impl S3BlobStore {
    /// Writes an object of a class in parts; none of it is there before the last.
    pub(crate) async fn write_parts(
        &self,
        key: &str,
        blob: &BlobRef,
        class: Option<StorageClass>,
        origin: Origin<'_>,
    ) -> Result<()> {
        let (sse, kms_key) = self.encryption();
        let upload = self
            .client
            .create_multipart_upload()
            .bucket(&self.url.bucket)
            .key(key)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key)
            .set_storage_class(class)
            .send()
            .await
            .map_err(|e| failed(origin.doing()[0], &e))?;
        let id = upload.upload_id().ok_or_else(|| Error::internal("S3 gave an upload no identifier"))?;
        let done = self.write_all_parts(key, id, blob, origin).await;
        if done.is_err() {
            // If this fails too, the sweep aborts the upload after a day.
            let _ = self.client.abort_multipart_upload().bucket(&self.url.bucket).key(key).upload_id(id).send().await;
        }
        done
    }

    async fn write_all_parts(&self, key: &str, id: &str, blob: &BlobRef, origin: Origin<'_>) -> Result<()> {
        let usual = match origin {
            Origin::File(_) => PART,
            Origin::Itself => self.copy_part,
        };
        let size = usual.max(blob.size.div_ceil(MAX_PARTS));
        let mut parts = Vec::new();
        for (number, start) in (1i32..).zip((0..blob.size).step_by(usize::try_from(size).unwrap_or(usize::MAX))) {
            let range = start..(start + size).min(blob.size);
            let tag = match origin {
                Origin::File(path) => self.send_part(key, id, number, path, range).await,
                Origin::Itself => self.copy_part(key, id, number, range).await,
            }?;
            parts.push(CompletedPart::builder().part_number(number).set_e_tag(tag).build());
        }
        self.client
            .complete_multipart_upload()
            .bucket(&self.url.bucket)
            .key(key)
            .upload_id(id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send()
            .await
            .map_err(|e| failed(origin.doing()[2], &e))?;
        Ok(())
    }

    async fn send_part(&self, key: &str, id: &str, number: i32, path: &Path, range: Range<u64>) -> Result<Option<String>> {
        let body = Body::read_from().path(path).offset(range.start).length(Length::Exact(range.end - range.start));
        let sent = self
            .client
            .upload_part()
            .bucket(&self.url.bucket)
            .key(key)
            .upload_id(id)
            .part_number(number)
            .body(body.build().await.context("cannot read content")?)
            .send()
            .await
            .map_err(|e| failed(Origin::File(path).doing()[1], &e))?;
        Ok(sent.e_tag)
    }

    async fn copy_part(&self, key: &str, id: &str, number: i32, range: Range<u64>) -> Result<Option<String>> {
        let copied = self
            .client
            .upload_part_copy()
            .bucket(&self.url.bucket)
            .key(key)
            .upload_id(id)
            .part_number(number)
            .copy_source(source(&self.url.bucket, key))
            .copy_source_range(format!("bytes={}-{}", range.start, range.end - 1))
            .send()
            .await
            .map_err(|e| failed(Origin::Itself.doing()[1], &e))?;
        Ok(copied.copy_part_result.and_then(|part| part.e_tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_encoded() {
        assert_eq!(source("media", "a b/ü+1/00ff"), "media/a%20b/%C3%BC%2B1/00ff");
    }
}
