//! Which content a content delivery network may serve, and the URLs at which it does. Pure.
//!
//! A URL without a signature is good for ever and for everybody who has it, so only content that is public gets one. With a secret
//! shared with the network's edge, URLs end by themselves: `?expires=SECONDS&signature=HEX`, where `SECONDS` is the Unix time at
//! which the URL ends and `HEX` the lower-case HMAC-SHA256 under the secret of the URL's path as it is sent, a line feed, and
//! `SECONDS`. The edge compares signatures in constant time, and leaves the query out of its cache key.

use hmac::{Hmac, KeyInit, Mac};
use omt_kernel::{
    OffsetDateTime,
    manifest::{Classification, ManifestRecord, ManifestState},
};
use sha2::Sha256;
use std::fmt::Write as _;

/// The fewest bytes of a secret.
const MIN_SECRET: usize = 32;
/// The most bytes of the URL.
const MAX_URL: usize = 500;

/// Why content is not at the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCdn {
    /// It is not signed.
    Draft,
    /// It was put away.
    Archived,
    /// A legal hold is on it.
    LegalHold,
    /// It was deleted.
    Deleted,
    /// It is too sensitive.
    Classification,
    /// Its workflow has not published it.
    NotPublished,
    /// It lies in another tier than the network reads from.
    OtherTier,
}

impl NotCdn {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Archived => "archived",
            Self::LegalHold => "legal_hold",
            Self::Deleted => "deleted",
            Self::Classification => "classification",
            Self::NotPublished => "not_published",
            Self::OtherTier => "other_tier",
        }
    }
}

/// A content delivery network in front of the blob store's bucket.
pub struct Cdn {
    origin: String,
    path: String,
    secret: Option<Vec<u8>>,
    highest: Classification,
}

impl Cdn {
    /// A network at this `https:` URL. With a secret its URLs are signed, and content up to `highest` may have one.
    pub fn new(url: &str, secret: &str, highest: Classification) -> Result<Self, String> {
        let rest = url.strip_prefix("https://").ok_or("blob.cdn_url must begin with https://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/%".contains(&b);
        if host.is_empty() || url.len() > MAX_URL || !rest.bytes().all(plain) {
            return Err("blob.cdn_url must be a host and a path, without user, query and fragment".to_owned());
        }
        if !secret.is_empty() && secret.len() < MIN_SECRET {
            return Err(format!("blob.cdn_secret must have at least {MIN_SECRET} bytes"));
        }
        if secret.is_empty() && highest != Classification::Public {
            return Err("blob.cdn_max_classification other than public needs blob.cdn_secret: other URLs never end".to_owned());
        }
        let path = path.trim_matches('/');
        Ok(Self {
            origin: format!("https://{host}"),
            path: if path.is_empty() { "/".to_owned() } else { format!("/{path}/") },
            secret: (!secret.is_empty()).then(|| secret.as_bytes().to_vec()),
            highest,
        })
    }

    /// Whether URLs are signed, and so end by themselves.
    pub fn signs(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether a manifest's content may be at the network, by its record alone.
    pub fn admits(&self, record: &ManifestRecord) -> Result<(), NotCdn> {
        match record.state {
            _ if record.content_deleted_at.is_some() => Err(NotCdn::Deleted),
            ManifestState::Draft => Err(NotCdn::Draft),
            ManifestState::Archived => Err(NotCdn::Archived),
            ManifestState::Signed if record.legal_hold.is_some() => Err(NotCdn::LegalHold),
            ManifestState::Signed if record.classification > self.highest => Err(NotCdn::Classification),
            ManifestState::Signed => Ok(()),
        }
    }

    /// Where an object is, without a signature: what is purged.
    pub fn place(&self, key: &str) -> String {
        format!("{}{}", self.origin, self.path_of(key))
    }

    /// The URL of an object, good until `ends` where it is signed.
    pub fn url(&self, key: &str, ends: OffsetDateTime) -> String {
        let path = self.path_of(key);
        let mac = self.secret.as_ref().and_then(|secret| Hmac::<Sha256>::new_from_slice(secret).ok());
        let Some(mut mac) = mac else { return self.place(key) };
        let expires = ends.unix_timestamp();
        mac.update(format!("{path}\n{expires}").as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        format!("{}{path}?expires={expires}&signature={signature}", self.origin)
    }

    fn path_of(&self, key: &str) -> String {
        let mut path = self.path.clone();
        for byte in key.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                path.push(char::from(byte));
            } else {
                // Writing to a string never fails.
                let _ = write!(path, "%{byte:02X}");
            }
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::{
        ManifestId, TenantId,
        manifest::{Archived, BlobRef, LegalHold},
    };

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn urls_are_the_base_and_the_key() {
        for (base, url) in [
            ("https://cdn.example.org", "https://cdn.example.org/omt/default/ab/abcd"),
            ("https://cdn.example.org/", "https://cdn.example.org/omt/default/ab/abcd"),
            ("https://cdn.example.org/media//", "https://cdn.example.org/media/omt/default/ab/abcd"),
        ] {
            let cdn = Cdn::new(base, "", Classification::Public).unwrap();
            assert_eq!(cdn.url("omt/default/ab/abcd", OffsetDateTime::UNIX_EPOCH), url);
        }
        let cdn = Cdn::new("https://cdn.example.org", "", Classification::Public).unwrap();
        assert_eq!(cdn.place("a b?#%é/c"), "https://cdn.example.org/a%20b%3F%23%25%C3%A9/c");
    }

    /// printf '/media/omt/default/ab/abcd\n1795300000' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    #[test]
    fn signatures_are_those_of_openssl() {
        let cdn = Cdn::new("https://cdn.example.org/media/", SECRET, Classification::Internal).unwrap();
        let ends = OffsetDateTime::from_unix_timestamp(1_795_300_000).unwrap();
        let signature = "72e36ae7dd62b3dab5e90ae1bd59d8025e400d8b0bc1d789625ff7c1d1f21a62";
        let url = format!("https://cdn.example.org/media/omt/default/ab/abcd?expires=1795300000&signature={signature}");
        assert_eq!(cdn.url("omt/default/ab/abcd", ends), url);
        assert_eq!(cdn.place("omt/default/ab/abcd"), "https://cdn.example.org/media/omt/default/ab/abcd");
        let later = cdn.url("omt/default/ab/abcd", ends + time::Duration::SECOND);
        assert!(!later.contains(signature));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for url in [
            "",
            "cdn.example.org",
            "http://cdn.example.org",
            "https://",
            "https:///x",
            "https://u@cdn.example.org/",
            "https://cdn.example.org/?a=b",
            "https://cdn.example.org/#x",
            "https://cdn.example.org/ x",
        ] {
            assert!(Cdn::new(url, "", Classification::Public).is_err(), "{url}");
        }
        let refused = |secret: &str, highest| Cdn::new("https://cdn.example.org", secret, highest).err().unwrap_or_default();
        assert!(refused("short", Classification::Public).contains("blob.cdn_secret"));
        assert!(refused("", Classification::Internal).contains("blob.cdn_max_classification"));
        assert_eq!(refused(SECRET, Classification::TopSecret), "");
    }

    #[test]
    fn only_what_is_signed_open_and_there_is_at_the_network() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let record = ManifestRecord {
            id: ManifestId(uuid::Uuid::nil()),
            tenant: TenantId::default_tenant(),
            revision: 1,
            state: ManifestState::Signed,
            title: String::new(),
            creator: String::new(),
            department: None,
            project: None,
            organization: None,
            classification: Classification::Public,
            media_type: String::new(),
            file_name: None,
            source: BlobRef { sha256: String::new(), size: 0 },
            source_kept: false,
            definition: serde_json::Value::Null,
            metadata: serde_json::Value::Null,
            ingredients: vec![],
            signed: None,
            created_by: String::new(),
            created_at: now,
            updated_at: now,
            archived: None,
            legal_hold: None,
            content_deleted_at: None,
        };
        let open = Cdn::new("https://cdn.example.org", "", Classification::Public).unwrap();
        let closed = Cdn::new("https://cdn.example.org", SECRET, Classification::Internal).unwrap();
        assert_eq!((open.admits(&record), closed.admits(&record)), (Ok(()), Ok(())));
        let with = |change: &dyn Fn(&mut ManifestRecord)| {
            let mut record = record.clone();
            change(&mut record);
            (open.admits(&record).err(), closed.admits(&record).err())
        };
        let both = |why| (Some(why), Some(why));
        assert_eq!(with(&|r| r.state = ManifestState::Draft), both(NotCdn::Draft));
        let archive = |r: &mut ManifestRecord| {
            r.state = ManifestState::Archived;
            r.archived = Some(Archived { at: now, retain_until: now });
        };
        assert_eq!(with(&archive), both(NotCdn::Archived));
        let hold = LegalHold { reason: String::new(), placed_by: String::new(), placed_at: now };
        assert_eq!(with(&|r| r.legal_hold = Some(hold.clone())), both(NotCdn::LegalHold));
        assert_eq!(with(&|r| r.content_deleted_at = Some(now)), both(NotCdn::Deleted));
        assert_eq!(with(&|r| r.classification = Classification::Internal), (Some(NotCdn::Classification), None));
        assert_eq!(with(&|r| r.classification = Classification::Confidential), both(NotCdn::Classification));
    }
}
