//! What a tenant may set.

use crate::{
    Error, Kind, Result, TenantId,
    manifest::Classification,
    port::UnitOfWork,
    storage::{Tier, TierRules},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The settings of the tenant that somebody acts in; 403 `UNKNOWN_TENANT` where it is gone.
pub async fn settings(unit: &dyn UnitOfWork, tenant: &TenantId) -> Result<TenantSettings> {
    let found = unit.tenants().settings(tenant).await?;
    found.ok_or_else(|| Error::new(Kind::Forbidden, "UNKNOWN_TENANT", "the tenant does not exist"))
}

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
    /// The workflow whose approval content of a classification needs before it is signed.
    pub approval: BTreeMap<Classification, String>,
    /// Compliance policies that workflows on content of a classification must pass.
    pub compliance: BTreeMap<Classification, BTreeSet<String>>,
    /// Organisational policies that workflows on content of a classification must pass.
    pub policies: BTreeMap<Classification, BTreeSet<String>>,
    /// Days that content of a classification is kept; `retention_days` where nothing is said.
    pub retention_days_by_classification: BTreeMap<Classification, u32>,
    /// What may be exported, and where.
    pub export: ExportRules,
    /// Roles that clear content, by area: `trademark` and `legal`.
    pub clearance_roles: BTreeMap<String, BTreeSet<String>>,
    /// Whether messages go out by mail besides, where a mail server is configured.
    pub email_notifications: bool,
    /// The highest classification that a tier may hold; any where nothing is said.
    pub storage_clearance: BTreeMap<Tier, Classification>,
}

/// Export control.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportRules {
    /// Destinations, ISO 3166-1 alpha-2, to which nothing goes.
    pub denied_destinations: BTreeSet<String>,
    /// Classification codes, such as `5A002`, and the destinations to which they may go; to none when empty.
    pub controlled: BTreeMap<String, BTreeSet<String>>,
    /// Audiences that get nothing, whether it is controlled or not.
    pub denied_audiences: BTreeSet<String>,
    /// Areas whose location in content is worth a warning.
    pub areas: Vec<Area>,
    /// Countries that are such areas, ISO 3166-1 alpha-2: what metadata says in words or codes is enough.
    pub countries: BTreeSet<String>,
}

/// A circle on the earth, in whole units so that settings compare exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Area {
    /// What it is called.
    pub name: String,
    /// Latitude of its middle in millionths of a degree, north positive.
    pub latitude_e6: i64,
    /// Longitude of its middle in millionths of a degree, east positive.
    pub longitude_e6: i64,
    /// Radius in kilometres, including what counts as near.
    pub radius_km: u32,
}

impl TenantSettings {
    /// Whether compliance may say something else of content by these settings than by others.
    pub fn measures_otherwise(&self, than: &Self) -> bool {
        let all = |s: &Self| {
            let (days, classes) = (s.retention_days, s.retention_days_by_classification.clone());
            (s.approval.clone(), days, classes, s.export.clone(), s.storage_clearance.clone())
        };
        all(self) != all(than)
    }

    /// Days that content of a classification is kept.
    pub fn retention_for(&self, classification: Classification) -> u32 {
        self.retention_days_by_classification.get(&classification).copied().unwrap_or(self.retention_days)
    }

    /// Whether a tier may hold content of a classification.
    pub fn may_hold(&self, tier: Tier, classification: Classification) -> bool {
        self.storage_clearance.get(&tier).is_none_or(|highest| classification <= *highest)
    }

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
            approval: BTreeMap::new(),
            compliance: BTreeMap::new(),
            policies: BTreeMap::new(),
            // Public content for seven years, secrets for twenty.
            retention_days_by_classification: [
                (Classification::Public, 2_555),
                (Classification::Internal, 1_825),
                (Classification::Confidential, 3_650),
                (Classification::Secret, 7_300),
                (Classification::TopSecret, 7_300),
            ]
            .into(),
            export: ExportRules::default(),
            clearance_roles: ["trademark", "legal"]
                .map(|area| (area.to_owned(), ["approver", "manager"].map(String::from).into()))
                .into(),
            email_notifications: true,
            storage_clearance: BTreeMap::new(),
        }
    }
}
