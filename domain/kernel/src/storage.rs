//! Stored blobs: which tier holds them, and which manifests need them.

use crate::{
    Error, Kind, ManifestId, TenantId,
    manifest::{BlobRef, Classification, ManifestState},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use time::{Duration, OffsetDateTime};

/// How quickly, and at what price, bytes can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// In use.
    Hot,
    /// Rarely used.
    Warm,
    /// Kept because it must be.
    Cold,
}

impl Tier {
    /// Every tier, the quickest first.
    pub const ALL: [Self; 3] = [Self::Hot, Self::Warm, Self::Cold];

    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tier {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|t| t.as_str() == text).ok_or(())
    }
}

/// Where a copy of a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a tier.
    Tier(Tier),
    /// At the replication target.
    Replica,
}

impl Place {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tier(tier) => tier.as_str(),
            Self::Replica => "replica",
        }
    }
}

/// What a manifest needs a blob for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobRole {
    /// The uploaded content.
    Source,
    /// The signed asset.
    Asset,
    /// The manifest store. Evidence: it outlives the content.
    ManifestStore,
    /// An ingredient.
    Ingredient,
}

impl BlobRole {
    /// Content, as against the evidence about it.
    pub const CONTENT: &'static [Self] = &[Self::Source, Self::Asset, Self::Ingredient];

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Asset => "asset",
            Self::ManifestStore => "manifest_store",
            Self::Ingredient => "ingredient",
        }
    }
}

/// A stored blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name and size.
    pub blob: BlobRef,
    /// Where it is.
    pub tier: Tier,
    /// When it was last asked for.
    pub last_used_at: OffsetDateTime,
}

/// A blob of which the replication target has no copy yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreplicated {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name and size.
    pub blob: BlobRef,
    /// Since when records name it.
    pub created_at: OffsetDateTime,
}

/// How long a store may take while a transaction waits for it: others wait for the transaction.
const WHILE_LOCKED: std::time::Duration = std::time::Duration::from_secs(4);

/// What a call to a store gives that is made under a blob's lock, within a transaction. One that takes too long is an error, to be tried
/// again; whether it was done is then unknown.
pub async fn while_locked<T>(call: impl Future<Output = crate::Result<T>>) -> crate::Result<T> {
    tokio::time::timeout(WHILE_LOCKED, call).await.unwrap_or_else(|_| {
        let words = "the blob store takes too long to answer";
        Err(Error::new(Kind::Unavailable, "BLOB_STORE_SLOW", words).retry_after(10))
    })
}

/// How far the replication target is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicationState {
    /// Blobs that it lacks.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Since when records name the oldest of them.
    pub oldest: Option<OffsetDateTime>,
    /// When a blob was copied last.
    pub last: Option<OffsetDateTime>,
}

impl ReplicationState {
    /// The age of the oldest blob that is not copied; nothing when every one is.
    pub fn lag(&self, now: OffsetDateTime) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| (now - oldest).max(Duration::ZERO))
    }
}

/// A manifest that needs a blob, as far as the blob's fate depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobUse {
    /// The manifest.
    pub manifest: ManifestId,
    /// Its sensitivity.
    pub classification: Classification,
    /// Where it is in its life.
    pub state: ManifestState,
    /// It needs the blob as its evidence, too.
    pub evidence: bool,
    /// It is under a legal hold.
    pub held: bool,
    /// Until when it is kept at least, once it is archived.
    pub retain_until: Option<OffsetDateTime>,
}

/// The code of errors that mean: a stored blob has other bytes than its name says.
pub const BLOB_DAMAGED: &str = "BLOB_DAMAGED";

/// The code of errors that mean: the bytes are being removed just now, and may be stored again when that is over.
pub const JUST_DELETED: &str = "CONTENT_JUST_DELETED";

/// Bytes that are being removed just now.
pub fn just_deleted() -> Error {
    Error::new(Kind::Unavailable, JUST_DELETED, "the same content was being deleted; send it again").retry_after(1)
}

/// The code of errors that mean: the bytes are there, and must be restored before they can be read.
pub const ARCHIVED: &str = "CONTENT_ARCHIVED";

/// Bytes that must be restored before they can be read, which usually takes so many seconds.
pub fn archived(seconds: u32) -> Error {
    let words = "the content is in an archive and must be restored before it can be read";
    Error::new(Kind::Unavailable, ARCHIVED, words).retry_after(seconds)
}

/// When a blob's bytes can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// At once, and for as long as it is there.
    AtOnce,
    /// After they were restored, which nobody has asked for.
    Archived,
    /// When the restore that is under way has ended.
    Restoring,
    /// At once, until then; it is not always known.
    Restored(Option<OffsetDateTime>),
}

/// What the store itself is to keep a blob from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lock {
    /// A legal hold: nobody deletes it until that is released.
    pub held: bool,
    /// Nobody deletes it before.
    pub retain_until: Option<OffsetDateTime>,
}

impl Lock {
    /// What all who need a blob ask for together.
    pub fn of(uses: &[BlobUse]) -> Self {
        Self { held: uses.iter().any(|one| one.held), retain_until: uses.iter().filter_map(|one| one.retain_until).max() }
    }
}

/// What locking a blob did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// The store locks nothing, or does not have the blob.
    Nothing,
    /// It was locked like that already.
    AsBefore,
    /// It is now.
    Changed,
}

/// When blobs move to cheaper storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TierRules {
    /// Days since last use until warm.
    pub warm_after_days: u32,
    /// Days since last use until cold.
    pub cold_after_days: u32,
}

impl Default for TierRules {
    fn default() -> Self {
        Self { warm_after_days: 90, cold_after_days: 365 }
    }
}

impl TierRules {
    /// The tier for a blob that was last used then. One that only archived manifests need is warm at once.
    pub fn tier(self, last_used: OffsetDateTime, all_archived: bool, now: OffsetDateTime) -> Tier {
        let idle = now - last_used;
        if idle >= Duration::days(self.cold_after_days.into()) {
            Tier::Cold
        } else if all_archived || idle >= Duration::days(self.warm_after_days.into()) {
            Tier::Warm
        } else {
            Tier::Hot
        }
    }
}

/// The lock of a blob's existence (see [`crate::port::UnitOfWork::lock`]): who removes a blob holds it while they look that no
/// record names it and take it away, and who is about to name a blob that was there before holds it while they look that it
/// still is.
pub fn lock_name(tenant: &TenantId, sha256: &str) -> String {
    format!("blob:{tenant}:{sha256}")
}

/// Bytes and blobs of a tenant in a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The tenant.
    pub tenant: TenantId,
    /// The tier.
    pub tier: Tier,
    /// How many blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_what_all_uses_ask_for() {
        let at = |days| OffsetDateTime::UNIX_EPOCH + Duration::days(days);
        let needs = |held, retain_until| BlobUse {
            manifest: ManifestId(uuid::Uuid::nil()),
            classification: Classification::Internal,
            state: ManifestState::Archived,
            evidence: false,
            held,
            retain_until,
        };
        assert_eq!(Lock::of(&[]), Lock::default());
        assert_eq!(Lock::of(&[needs(false, None)]), Lock::default());
        let all = [needs(false, Some(at(9))), needs(true, None), needs(false, Some(at(3)))];
        assert_eq!(Lock::of(&all), Lock { held: true, retain_until: Some(at(9)) });
    }

    #[test]
    fn lag_is_the_oldest_blobs_age() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(1000);
        let state = |oldest| ReplicationState { oldest, ..ReplicationState::default() };
        assert_eq!(state(None).lag(now), Duration::ZERO);
        assert_eq!(state(Some(now - Duration::seconds(7))).lag(now), Duration::seconds(7));
        assert_eq!(state(Some(now + Duration::seconds(7))).lag(now), Duration::ZERO, "of another clock");
    }

    #[test]
    fn idle_blobs_move_down() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(1000);
        let tier = |days: i64, archived| TierRules::default().tier(now - Duration::days(days), archived, now);
        assert_eq!((tier(0, false), tier(89, false), tier(90, false)), (Tier::Hot, Tier::Hot, Tier::Warm));
        assert_eq!((tier(364, false), tier(365, false)), (Tier::Warm, Tier::Cold));
        assert_eq!((tier(0, true), tier(365, true)), (Tier::Warm, Tier::Cold));
    }
}
