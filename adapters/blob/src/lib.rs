//! Blob stores: a directory, or an S3 bucket. The URL's scheme picks.

mod file;
mod gate;
mod s3;
mod s3_admin;
mod s3_archive;
mod s3_lock;
mod s3_parts;
mod s3_presign;
mod s3_stock;
mod s3_url;
mod tiered;
mod tiles;

#[cfg(test)]
mod contract;

pub use file::FileBlobStore;
pub use s3::S3BlobStore;
pub use s3_admin::BucketFinding;
pub use s3_url::{LockRetention, Retrieval, S3Url};
pub use tiered::TieredBlobStore;

use omt_kernel::{Error, Kind, Result, port::BlobStock, storage::Tier};
use std::{path::Path, sync::Arc};

/// Opens the blob store behind a URL: `file:PATH` or `s3://BUCKET/PREFIX?…` (see [`S3Url`]). `spool` is a local directory for
/// temporary files; a directory store keeps its own, on the same file system.
pub async fn open(url: &str, spool: &Path) -> Result<Arc<dyn BlobStock>> {
    match url.split_once(':') {
        Some(("file", path)) if !path.is_empty() => {
            Ok(Arc::new(FileBlobStore::open(Path::new(path.strip_prefix("//").unwrap_or(path)))?))
        }
        Some(("s3", _)) => Ok(Arc::new(S3BlobStore::open(&url.parse()?, spool).await?)),
        _ => Err(Error::new(Kind::Invalid, "BAD_CONFIGURATION", "blob.url must begin with file: or s3:")),
    }
}

/// Whether one of two stores lies within the other, so that what is removed from one is gone from both.
pub fn overlap(one: &str, other: &str) -> Result<bool> {
    let nested = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
    if one.starts_with("s3:") && other.starts_with("s3:") {
        let (one, other): (S3Url, S3Url) = (one.parse()?, other.parse()?);
        return Ok(one.bucket == other.bucket && one.endpoint == other.endpoint && nested(&one.prefix, &other.prefix));
    }
    let directory = |url: &str| {
        let path = url.strip_prefix("file:")?;
        std::path::absolute(path.strip_prefix("//").unwrap_or(path)).ok()
    };
    Ok(match (directory(one), directory(other)) {
        (Some(one), Some(other)) => one.starts_with(&other) || other.starts_with(&one),
        _ => false,
    })
}

/// Where a tier is when the configuration does not say: beside the hot one, on S3 in a class that costs less to keep.
pub fn tier_url(hot: &str, tier: Tier) -> String {
    if tier == Tier::Hot {
        return hot.to_owned();
    }
    if !hot.starts_with("s3:") {
        return format!("{}/.{tier}", hot.trim_end_matches('/'));
    }
    let (place, query) = hot.split_once('?').unwrap_or((hot, ""));
    let class = if tier == Tier::Warm { "STANDARD_IA" } else { "GLACIER_IR" };
    // What belongs to another class goes with it.
    let own = |p: &&str| !["storage_class=", "restored_days=", "retrieval="].iter().any(|name| p.starts_with(name));
    let kept: Vec<&str> = query.split('&').filter(|p| !p.is_empty()).filter(own).collect();
    let query = [kept.as_slice(), &[&format!("storage_class={class}")]].concat().join("&");
    format!("{}/.{tier}?{query}", place.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_within_each_other_are_found() {
        for (one, other, nested) in [
            ("file:/a/b", "file:/a/b", true),
            ("file:/a/b", "file:///a/b/.copy", true),
            ("file:/a/b", "file:/a", true),
            ("file:/a/b", "file:/a/bc", false),
            ("file:/a/b", "s3://abc", false),
            ("s3://abc/x", "s3://abc/x/", true),
            ("s3://abc", "s3://abc/x?region=r", true),
            ("s3://abc/x/y", "s3://abc/x", true),
            ("s3://abc/x", "s3://abc/xy", false),
            ("s3://abc/x", "s3://abd/x", false),
            ("s3://abc/x?endpoint=http://a", "s3://abc/x?endpoint=http://b", false),
        ] {
            assert_eq!((overlap(one, other).unwrap(), overlap(other, one).unwrap()), (nested, nested), "{one} {other}");
        }
        assert!(overlap("s3://a", "s3://abc").is_err());
    }
}
