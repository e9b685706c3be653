//! Large objects go in parts: up from a file, or from the object itself when it gets another class.

use crate::{s3::S3BlobStore, s3_fault::failed};
use aws_sdk_s3::{
    operation::upload_part::UploadPartOutput,
    primitives::{ByteStream as Body, Length},
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, StorageClass},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use omt_kernel::{Error, Kind, Result, error::Context, manifest::BlobRef};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

/// The usual part of what is sent.
const PART: u64 = 16 << 20;
/// S3 allows 10,000 of them.
const MAX_PARTS: u64 = 9_000;
const HASHED_AT_ONCE: usize = 256 << 10;

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

/// What the service has is not what was sent.
pub(crate) fn damaged() -> Error {
    let words = "content was changed on its way to the blob store";
    Error::new(Kind::Unavailable, "BLOB_DAMAGED", words).retry_after(5)
}

/// The SHA-256 of a part of a file, as S3 writes it.
fn checksum(path: &Path, start: u64, length: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let (mut part, mut hash, mut buffer) = (file.take(length), Sha256::new(), vec![0; HASHED_AT_ONCE]);
    loop {
        match part.read(&mut buffer)? {
            0 => return Ok(STANDARD.encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
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
    /// Writes an object of a class in parts; none of it is there before the last. Whether the service says of every part that it
    /// has the bytes that were sent.
    pub(crate) async fn write_parts(
        &self,
        key: &str,
        blob: &BlobRef,
        class: Option<StorageClass>,
        origin: Origin<'_>,
    ) -> Result<bool> {
        let id = self.begin_parts(key, class, origin).await?;
        let done = self.write_all_parts(key, &id, blob, origin).await;
        if done.is_err() {
            // If this fails too, the sweep aborts the upload after a day.
            let _ = self.client.abort_multipart_upload().bucket(&self.url.bucket).key(key).upload_id(id).send().await;
        }
        done
    }

    /// Begins an upload in parts; its identifier.
    pub(crate) async fn begin_parts(&self, key: &str, class: Option<StorageClass>, origin: Origin<'_>) -> Result<String> {
        let (sse, kms_key) = self.encryption();
        let upload = self
            .client
            .create_multipart_upload()
            .bucket(&self.url.bucket)
            .key(key)
            // Copies are made where the bytes are; they are read back before anything depends on them.
            .set_checksum_algorithm(matches!(origin, Origin::File(_)).then_some(ChecksumAlgorithm::Sha256))
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key)
            .set_storage_class(class)
            .send()
            .await
            .map_err(|e| failed(origin.doing()[0], &e))?;
        upload.upload_id.ok_or_else(|| Error::internal("S3 gave an upload no identifier"))
    }

    async fn write_all_parts(&self, key: &str, id: &str, blob: &BlobRef, origin: Origin<'_>) -> Result<bool> {
        let usual = match origin {
            Origin::File(_) => PART,
            Origin::Itself => self.copy_part,
        };
        let size = usual.max(blob.size.div_ceil(MAX_PARTS));
        let (mut parts, mut confirmed) = (Vec::new(), true);
        for (number, start) in (1i32..).zip((0..blob.size).step_by(usize::try_from(size).unwrap_or(usize::MAX))) {
            let range = start..(start + size).min(blob.size);
            let part = CompletedPart::builder().part_number(number);
            parts.push(match origin {
                Origin::File(path) => {
                    let sent = self.send_part(key, id, number, path, range).await?;
                    confirmed &= sent.checksum_sha256.is_some();
                    part.set_e_tag(sent.e_tag).set_checksum_sha256(sent.checksum_sha256).build()
                }
                Origin::Itself => part.set_e_tag(self.copy_part(key, id, number, range).await?).build(),
            });
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
        Ok(confirmed)
    }

    async fn send_part(&self, key: &str, id: &str, number: i32, path: &Path, range: Range<u64>) -> Result<UploadPartOutput> {
        let (from, length) = (path.to_owned(), range.end - range.start);
        let start = range.start;
        let hashed = tokio::task::spawn_blocking(move || checksum(&from, start, length)).await;
        let checksum = hashed.context("a file task ended early")?.context("cannot read content")?;
        let body = Body::read_from().path(path).offset(range.start).length(Length::Exact(length));
        let sent = self
            .client
            .upload_part()
            .bucket(&self.url.bucket)
            .key(key)
            .upload_id(id)
            .part_number(number)
            // The service refuses other bytes, where it knows how, and says what it has.
            .checksum_sha256(&checksum)
            .body(body.build().await.context("cannot read content")?)
            .send()
            .await
            .map_err(|e| failed(Origin::File(path).doing()[1], &e))?;
        match sent.checksum_sha256() {
            Some(other) if other != checksum => Err(damaged()),
            _ => Ok(sent),
        }
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
