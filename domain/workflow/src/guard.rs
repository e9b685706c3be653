//! What stands against a transition: compliance, organisational policy, classification. One place, whoever asks: a decision, or a
//! signature outside one.

use crate::{definition::Guard, model::Instance};
use async_trait::async_trait;
use omt_kernel::{Result, TenantSettings, manifest::ManifestRecord, port::UnitOfWork};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What says whether content passes policies of the organisation.
#[async_trait]
pub trait Standing: Send + Sync {
    /// The reasons why content does not pass these policies; none when it does. Where there was no time to say it, that is no reason but
    /// an error of the kind `Unavailable`: whoever asks may ask again.
    async fn against(&self, unit: &dyn UnitOfWork, record: &ManifestRecord, policies: &BTreeSet<String>) -> Result<Vec<String>>;
}

/// What compliance is asked about.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The manifest.
    pub record: &'a ManifestRecord,
    /// The tenant's settings.
    pub settings: &'a TenantSettings,
    /// The names of the policies.
    pub policies: &'a BTreeSet<String>,
}

/// Whether what is said is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Somebody only asks.
    No,
    /// In the transaction that makes a move, with it: so that whoever must know hears when it turns. Refused moves keep nothing.
    WithTheMove,
}

/// What says whether content passes compliance policies, of which the claim says more.
#[async_trait]
pub trait ComplianceStanding: Send + Sync {
    /// The reasons why content does not pass these policies; none when it does. One that is not there is not passed.
    async fn against(&self, unit: &dyn UnitOfWork, asked: Asked<'_>, keep: Keep) -> Result<Vec<String>>;
    /// Rules by name, and whether each was passed. A rule that is not among them was asked by nobody: policies that are not there
    /// have none.
    async fn passed(&self, unit: &dyn UnitOfWork, asked: Asked<'_>) -> Result<BTreeMap<String, bool>>;
    /// In the transaction that changes a manifest: what was said of it is looked at again.
    async fn changed(&self, unit: &dyn UnitOfWork, after: &ManifestRecord) -> Result<()>;
}

/// Those who answer for guards.
#[derive(Clone)]
pub struct Guards {
    /// Compliance.
    pub compliance: Arc<dyn ComplianceStanding>,
    /// Organisational policy.
    pub policy: Arc<dyn Standing>,
}

impl Guards {
    /// The reasons that stand against these guards now.
    pub(crate) async fn against(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        instance: &Instance,
        guards: &[Guard],
        keep: Keep,
    ) -> Result<Vec<String>> {
        let mut reasons = Vec::new();
        for guard in guards {
            match guard {
                Guard::CompliancePassed => {
                    let policies = compliance_policies(instance, record, settings);
                    let asked = Asked { record, settings, policies: &policies };
                    reasons.extend(self.compliance.against(unit, asked, keep).await?);
                }
                Guard::PolicyPassed => {
                    let named = settings.policies.get(&record.classification).cloned().unwrap_or_default();
                    reasons.extend(self.policy.against(unit, record, &named).await?);
                }
                Guard::ClassificationAtMost(most) if record.classification > *most => {
                    reasons.push(format!("the content is classified {}, and {most} is the most", record.classification));
                }
                Guard::ClassificationAtMost(_) => {}
            }
        }
        Ok(reasons)
    }
}

/// The compliance policies that count now: those of the workflow, and those that the tenant has come to ask for since.
pub(crate) fn compliance_policies(instance: &Instance, record: &ManifestRecord, settings: &TenantSettings) -> BTreeSet<String> {
    let asked = settings.compliance.get(&record.classification).into_iter().flatten();
    instance.policies.iter().chain(asked).cloned().collect()
}
