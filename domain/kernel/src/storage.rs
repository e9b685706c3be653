//! Stored blobs: which tier holds them, and which manifests need them.

use crate::{ManifestId, TenantId, manifest::BlobRef, manifest::Classification, manifest::ManifestState};
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

/// A manifest that needs a blob, as far as the blob's fate depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobUse {
    /// The manifest.
    pub manifest: ManifestId,
    /// Its sensitivity.
    pub classification: Classification,
    /// Where it is in its life.
    pub state: ManifestState,
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
    fn idle_blobs_move_down() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(1000);
        let tier = |days: i64, archived| TierRules::default().tier(now - Duration::days(days), archived, now);
        assert_eq!((tier(0, false), tier(89, false), tier(90, false)), (Tier::Hot, Tier::Hot, Tier::Warm));
        assert_eq!((tier(364, false), tier(365, false)), (Tier::Warm, Tier::Cold));
        assert_eq!((tier(0, true), tier(365, true)), (Tier::Warm, Tier::Cold));
    }
}
