//! `s3://BUCKET/PREFIX?region=…&endpoint=…&path_style=true&sse=…&kms_key=…&storage_class=…&object_lock=true…`

use omt_kernel::{Error, Kind};
use std::{fmt, str::FromStr};

/// Encryption at rest, by the service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Encryption {
    /// The bucket's default.
    #[default]
    BucketDefault,
    /// SSE-S3.
    S3,
    /// SSE-KMS, with this key or the account's default one.
    Kms(Option<String>),
}

/// How quickly, and at what price, archived objects are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retrieval {
    /// Within hours.
    #[default]
    Standard,
    /// Cheapest, within a day or two.
    Bulk,
    /// Within minutes; not out of DEEP_ARCHIVE.
    Expedited,
}

/// Who may end an object's retention early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockRetention {
    /// Those with a permission of their own.
    Governance,
    /// Nobody, the account's owner included.
    Compliance,
}

/// Where a bucket is and how to talk to it. Credentials are not part of it: they come from the environment, a profile or the
/// instance, as for every AWS tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Url {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: empty, or ending in a slash.
    pub prefix: String,
    /// The region; the environment's when absent.
    pub region: Option<String>,
    /// The service's URL, for services other than AWS.
    pub endpoint: Option<String>,
    /// The bucket stands in the path rather than in the host name.
    pub path_style: bool,
    /// Encryption at rest.
    pub encryption: Encryption,
    /// The storage class of objects; the bucket's default when absent.
    pub storage_class: Option<String>,
    /// Days that a restored copy of an archived object can be read.
    pub restored_days: u16,
    /// How archived objects are restored.
    pub retrieval: Retrieval,
    /// Objects under a legal hold get one in the bucket.
    pub object_lock: bool,
    /// Objects whose retention is known get that in the bucket, too.
    pub lock_retention: Option<LockRetention>,
}

/// Days that a restored copy can be read when the URL does not say.
const RESTORED_DAYS: u16 = 3;

impl S3Url {
    /// Whether its objects must be restored before they can be read.
    pub fn archives(&self) -> bool {
        matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
    }

    /// Seconds that a restore takes at most, as a rule.
    pub fn restore_seconds(&self) -> u32 {
        let hours = |n: u32| n * 3600;
        match (self.storage_class.as_deref(), self.retrieval) {
            (Some("GLACIER"), Retrieval::Expedited) => 300,
            (Some("GLACIER"), Retrieval::Standard) => hours(5),
            (Some("GLACIER"), Retrieval::Bulk) | (_, Retrieval::Standard | Retrieval::Expedited) => hours(12),
            (_, Retrieval::Bulk) => hours(48),
        }
    }
}

fn bad(reason: impl fmt::Display) -> Error {
    Error::new(Kind::Invalid, "BAD_CONFIGURATION", format!("blob.url: {reason}"))
}

impl FromStr for S3Url {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("s3://").ok_or_else(|| bad("an S3 URL begins with s3://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if !(3..=63).contains(&bucket.len())
            || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        {
            return Err(bad("a bucket's name has 3 to 63 letters, digits, hyphens and dots"));
        }
        let prefix = prefix.trim_matches('/');
        let mut out = Self {
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            region: None,
            endpoint: None,
            path_style: false,
            encryption: Encryption::default(),
            storage_class: None,
            restored_days: RESTORED_DAYS,
            retrieval: Retrieval::default(),
            object_lock: false,
            lock_retention: None,
        };
        let (mut kms_key, mut restores) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| bad(format!("{pair:?} has no value")))?;
            match (name, value) {
                ("region", value) => out.region = Some(value.to_owned()),
                ("endpoint", value) if value.starts_with("http://") || value.starts_with("https://") => {
                    out.endpoint = Some(value.trim_end_matches('/').to_owned());
                }
                ("endpoint", _) => return Err(bad("endpoint must be an http: or https: URL")),
                ("path_style", "true") => out.path_style = true,
                ("path_style", "false") => out.path_style = false,
                ("path_style", _) => return Err(bad("path_style is true or false")),
                ("sse", "s3") => out.encryption = Encryption::S3,
                ("sse", "kms") => out.encryption = Encryption::Kms(None),
                ("sse", _) => return Err(bad("sse is s3 or kms")),
                (
                    "storage_class",
                    "STANDARD" | "STANDARD_IA" | "ONEZONE_IA" | "INTELLIGENT_TIERING" | "GLACIER_IR" | "GLACIER" | "DEEP_ARCHIVE",
                ) => out.storage_class = Some(value.to_owned()),
                ("storage_class", _) => {
                    return Err(bad(
                        "storage_class is STANDARD, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR, GLACIER or DEEP_ARCHIVE",
                    ));
                }
                ("restored_days", value) => {
                    let days = value.parse().ok().filter(|days| (1..=365).contains(days));
                    out.restored_days = days.ok_or_else(|| bad("restored_days is a number from 1 to 365"))?;
                    restores = Some("restored_days");
                }
                ("retrieval", value) => {
                    out.retrieval = match value {
                        "standard" => Retrieval::Standard,
                        "bulk" => Retrieval::Bulk,
                        "expedited" => Retrieval::Expedited,
                        _ => return Err(bad("retrieval is standard, bulk or expedited")),
                    };
                    restores = Some("retrieval");
                }
                ("object_lock", "true") => out.object_lock = true,
                ("object_lock", "false") => out.object_lock = false,
                ("object_lock", _) => return Err(bad("object_lock is true or false")),
                ("lock_retention", "governance") => out.lock_retention = Some(LockRetention::Governance),
                ("lock_retention", "compliance") => out.lock_retention = Some(LockRetention::Compliance),
                ("lock_retention", _) => return Err(bad("lock_retention is governance or compliance")),
                ("kms_key", value) => kms_key = Some(value.to_owned()),
                (name, _) => return Err(bad(format!("there is no parameter {name:?}"))),
            }
        }
        match (&mut out.encryption, kms_key) {
            (Encryption::Kms(key), given) => *key = given,
            (_, Some(_)) => return Err(bad("kms_key needs sse=kms")),
            _ => {}
        }
        if let Some(parameter) = restores.filter(|_| !out.archives()) {
            return Err(bad(format!("{parameter} needs storage_class=GLACIER or DEEP_ARCHIVE; others are read at once")));
        }
        if out.retrieval == Retrieval::Expedited && out.storage_class.as_deref() == Some("DEEP_ARCHIVE") {
            return Err(bad("nothing is restored out of DEEP_ARCHIVE by retrieval=expedited; take standard or bulk"));
        }
        if out.lock_retention.is_some() && !out.object_lock {
            return Err(bad("lock_retention needs object_lock=true"));
        }
        Ok(out)
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)?;
        self.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " at {endpoint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read() {
        let url: S3Url = "s3://media/omt/prod/?region=eu-central-1&sse=kms&kms_key=alias/omt".parse().unwrap();
        assert_eq!((url.bucket.as_str(), url.prefix.as_str()), ("media", "omt/prod/"));
        assert_eq!(url.region.as_deref(), Some("eu-central-1"));
        assert_eq!(url.encryption, Encryption::Kms(Some("alias/omt".into())));
        let url: S3Url = "s3://media?endpoint=http://127.0.0.1:8333/&path_style=true".parse().unwrap();
        assert_eq!((url.prefix.as_str(), url.endpoint.as_deref(), url.path_style), ("", Some("http://127.0.0.1:8333"), true));
    }

    #[test]
    fn archives_say_how_long_a_restore_takes() {
        for (query, archives, seconds) in [
            ("", false, 43_200),
            ("storage_class=GLACIER_IR", false, 43_200),
            ("storage_class=GLACIER&retrieval=expedited", true, 300),
            ("storage_class=GLACIER&restored_days=30", true, 18_000),
            ("storage_class=DEEP_ARCHIVE", true, 43_200),
            ("storage_class=DEEP_ARCHIVE&retrieval=bulk", true, 172_800),
        ] {
            let url: S3Url = format!("s3://media?{query}").parse().unwrap();
            assert_eq!((url.archives(), url.restore_seconds()), (archives, seconds), "{query}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, part) in [
            ("s3:/media", "s3://"),
            ("s3://a", "bucket"),
            ("s3://media?regin=x", "regin"),
            ("s3://media?endpoint=ftp://x", "endpoint"),
            ("s3://media?path_style=1", "path_style"),
            ("s3://media?kms_key=k", "sse=kms"),
            ("s3://media?sse", "value"),
            ("s3://media?storage_class=REDUCED_REDUNDANCY", "DEEP_ARCHIVE"),
            ("s3://media?restored_days=3", "storage_class"),
            ("s3://media?storage_class=GLACIER&restored_days=0", "from 1"),
            ("s3://media?storage_class=GLACIER_IR&retrieval=bulk", "read at once"),
            ("s3://media?storage_class=GLACIER&retrieval=now", "expedited"),
            ("s3://media?storage_class=DEEP_ARCHIVE&retrieval=expedited", "bulk"),
            ("s3://media?object_lock=yes", "true"),
            ("s3://media?object_lock=true&lock_retention=ever", "compliance"),
            ("s3://media?lock_retention=governance", "object_lock=true"),
        ] {
            let error = url.parse::<S3Url>().unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
