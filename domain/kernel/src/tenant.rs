//! What a tenant may set.

use crate::{manifest::Classification, storage::TierRules};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// When a verification demands a good post-quantum countersignature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PqRequirement {
    /// Never: its state is reported only.
    Off,
    /// When the claim commits to one, so that stripping it shows.
    #[default]
    WhenCommitted,
    /// Always.
    Always,
    /// Always, and the countersignature alone carries trust: for the day ES256 falls.
    PqOnly,
}

impl PqRequirement {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::WhenCommitted => "when_committed",
            Self::Always => "always",
            Self::PqOnly => "pq_only",
        }
    }
}

/// A tenant's settings. Unknown keys are refused, so that a typing error cannot silently mean the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSettings {
    /// Pure post-quantum claims (`omt-pq/1`), which other validators report as `algorithm.unsupported`.
    pub private_profile: bool,
    /// A thumbnail of image content in the manifest.
    pub thumbnails: bool,
    /// What verification demands of the countersignature.
    pub post_quantum: PqRequirement,
    /// Days that archived content is kept.
    pub retention_days: u32,
    /// When stored bytes move to cheaper storage.
    pub tiers: TierRules,
    /// The same for some classifications.
    pub tiers_by_classification: BTreeMap<Classification, TierRules>,
}

impl TenantSettings {
    /// The rules for content of a classification.
    pub fn tiers_for(&self, classification: Classification) -> TierRules {
        self.tiers_by_classification.get(&classification).copied().unwrap_or(self.tiers)
    }
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self {
            private_profile: false,
            thumbnails: true,
            post_quantum: PqRequirement::default(),
            retention_days: 3650,
            tiers: TierRules::default(),
            tiers_by_classification: BTreeMap::new(),
        }
    }
}
