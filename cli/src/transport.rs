//! What goes over the network unencrypted, or to nobody knows whom.

use crate::config::Config;
use omt_blob::S3Url;
use omt_kernel::{
    storage::Tier,
    url::{host, is_loopback},
};

/// A connection that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub struct Weakness {
    /// The configuration's key.
    pub key: &'static str,
    /// What is wrong.
    pub words: &'static str,
    /// How to mend it.
    pub mend: &'static str,
}

/// The connections to other hosts whose server is not verified.
pub fn weaknesses(config: &Config) -> Vec<Weakness> {
    let queue = config.queue_url();
    let urls = [
        ("database.url", config.database_url()),
        ("database.replica_url", config.database.replica_url.clone()),
        // The database's, where nothing is said.
        ("queue.url", if config.queue.url.is_empty() { String::new() } else { queue }),
        ("cache.url", config.cache.url.clone()),
        ("blob.url", config.blob_url()),
        ("blob.warm_url", config.tier_url(Tier::Warm)),
        ("blob.cold_url", config.tier_url(Tier::Cold)),
        ("replication.url", config.replication.url.clone()),
    ];
    // Derived tiers are where the hot one is.
    let given = |key: &str| match key {
        "blob.warm_url" => !config.blob.warm_url.is_empty(),
        "blob.cold_url" => !config.blob.cold_url.is_empty(),
        _ => true,
    };
    urls.iter().filter(|(key, _)| given(key)).filter_map(|(key, url)| weakness(key, url)).collect()
}

fn weakness(key: &'static str, url: &str) -> Option<Weakness> {
    let elsewhere = |url: &str| host(url).is_some_and(|host| !is_loopback(host));
    let (words, mend) = match url.split(':').next()? {
        "postgres" | "postgresql" => {
            (omt_sql::unverified(url)?, "take sslmode=verify-full, with sslrootcert=FILE for a CA of your own")
        }
        "redis" if elsewhere(url) => ("the connection is not encrypted", "take rediss://"),
        "rediss" if elsewhere(url) && url.ends_with("#insecure") => ("the server is not verified", "take #insecure away"),
        "s3" => {
            let endpoint = url.parse::<S3Url>().ok()?.endpoint?;
            if !endpoint.starts_with("http://") || !elsewhere(&endpoint) {
                return None;
            }
            ("the connection to the bucket is not encrypted", "give the endpoint as https://")
        }
        _ => return None,
    };
    Some(Weakness { key, words, mend })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_verified_is_found() {
        for (url, weak) in [
            ("postgres://omt@db.example.org/omt", false),
            ("postgres://omt@db.example.org/omt?sslmode=require", true),
            ("redis://cache.example.org/", true),
            ("redis://127.0.0.1:6379/", false),
            ("rediss://cache.example.org/", false),
            ("rediss://cache.example.org/#insecure", true),
            ("s3://media?endpoint=http://minio.example.org:9000&path_style=true", true),
            ("s3://media?endpoint=http://127.0.0.1:9000&path_style=true", false),
            ("s3://media?endpoint=https://minio.example.org", false),
            ("s3://media?region=eu-central-1", false),
            ("memory:", false),
            ("sqlite:x.db", false),
            ("file:/x", false),
            ("", false),
        ] {
            assert_eq!(weakness("x", url).is_some(), weak, "{url}");
        }
    }
}
