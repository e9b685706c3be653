//! Blob stores: a directory, or an S3 bucket. The URL's scheme picks.

mod file;
mod s3;
mod s3_access;
mod s3_admin;
mod s3_archive;
mod s3_fault;
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

/// Whether what is named so can be a blob's; anything else is not ours.
fn is_name(shard: &str, digest: &str) -> bool {
    digest.len() == 64 && digest.starts_with(shard) && digest.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether two stores are the same place: what is moved from one to the other would be gone. One within the other is no harm, as long as
/// it is hidden there, like the tiers beside the hot one.
pub fn same_place(one: &str, other: &str) -> Result<bool> {
    Ok(match (place(one)?, place(other)?) {
        (Place::Bucket(one), Place::Bucket(other)) => {
            one.bucket == other.bucket && one.endpoint == other.endpoint && one.prefix == other.prefix
        }
        (Place::Directory(one), Place::Directory(other)) => one == other,
        _ => false,
    })
}

enum Place {
    Bucket(Box<S3Url>),
    Directory(std::path::PathBuf),
    Unknown,
}

fn place(url: &str) -> Result<Place> {
    if url.starts_with("s3:") {
        return Ok(Place::Bucket(Box::new(url.parse()?)));
    }
    let Some(path) = url.strip_prefix("file:") else { return Ok(Place::Unknown) };
    Ok(std::path::absolute(path.strip_prefix("//").unwrap_or(path)).map_or(Place::Unknown, Place::Directory))
}

/// Whether one of two stores lies within the other, so that what is removed from one is gone from both.
pub fn overlap(one: &str, other: &str) -> Result<bool> {
    Ok(match (place(one)?, place(other)?) {
        (Place::Bucket(one), Place::Bucket(other)) => {
            let nested = one.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&one.prefix);
            one.bucket == other.bucket && one.endpoint == other.endpoint && nested
        }
        (Place::Directory(one), Place::Directory(other)) => one.starts_with(&other) || other.starts_with(&one),
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
    fn the_same_place_is_found() {
        for (one, other, same) in [
            ("s3://abc/x", "s3://abc/x/?storage_class=DEEP_ARCHIVE", true),
            ("s3://abc/x", "s3://abc/x/.cold?storage_class=DEEP_ARCHIVE", false),
            ("s3://abc/x", "s3://abc/x?endpoint=https://other.example.org", false),
            ("file:/a/b", "file:///a/b/", true),
            ("file:/a/b", "file:/a/b/.cold", false),
        ] {
            assert_eq!((same_place(one, other).unwrap(), same_place(other, one).unwrap()), (same, same), "{one} {other}");
        }
    }

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
