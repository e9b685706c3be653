//! Blob stores: a directory, or an S3 bucket. The URL's scheme picks.

mod file;
mod gate;
mod s3;
mod s3_url;

#[cfg(test)]
mod contract;

pub use file::FileBlobStore;
pub use s3::S3BlobStore;
pub use s3_url::S3Url;

use omt_kernel::{Error, Kind, Result, port::BlobStore};
use std::{path::Path, sync::Arc};

/// Opens the blob store behind a URL: `file:PATH` or `s3://BUCKET/PREFIX?…` (see [`S3Url`]). `spool` is a local directory for
/// temporary files; a directory store keeps its own, on the same file system.
pub async fn open(url: &str, spool: &Path) -> Result<Arc<dyn BlobStore>> {
    match url.split_once(':') {
        Some(("file", path)) if !path.is_empty() => {
            Ok(Arc::new(FileBlobStore::open(Path::new(path.strip_prefix("//").unwrap_or(path)))?))
        }
        Some(("s3", _)) => Ok(Arc::new(S3BlobStore::open(&url.parse()?, spool).await?)),
        _ => Err(Error::new(Kind::Invalid, "BAD_CONFIGURATION", "blob.url must begin with file: or s3:")),
    }
}
