//! What stands against a transition: compliance, organisational policy, classification. One place, whoever asks: a decision, or a
//! signature outside one.

use crate::{definition::Guard, model::Instance};
use async_trait::async_trait;
use omt_kernel::{Result, TenantSettings, manifest::ManifestRecord, port::UnitOfWork};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What says whether content passes policies.
#[async_trait]
pub trait Standing: Send + Sync {
    /// The reasons why content does not pass these policies; none when it does. Where there was no time to say it, that is no reason but
    /// an error of the kind `Unavailable`: whoever asks may ask again.
    async fn against(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        policies: &BTreeSet<String>,
    ) -> Result<Vec<String>>;
}

/// The same, of compliance, of which the claim says more.
#[async_trait]
pub trait ComplianceStanding: Standing {
    /// The same as `against`, in the transaction that makes a move: what is said is kept with it, so that whoever must know hears
    /// when it turns. Refused moves keep nothing.
    async fn deciding(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        policies: &BTreeSet<String>,
    ) -> Result<Vec<String>>;
    /// In the transaction that changes a manifest: what was said of it is looked at again.
    async fn changed(&self, unit: &dyn UnitOfWork, after: &ManifestRecord) -> Result<()>;
    /// Rules by name, and whether each was passed. None says that nobody looked.
    async fn passed(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        policies: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, bool>>;
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
    /// The reasons that stand against these guards now. In a transaction that makes a move, `keep` says so.
    pub(crate) async fn against(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        instance: &Instance,
        guards: &[Guard],
        keep: bool,
    ) -> Result<Vec<String>> {
        let mut reasons = Vec::new();
        for guard in guards {
            match guard {
                Guard::CompliancePassed => {
                    let policies = compliance_policies(instance, record, settings);
                    reasons.extend(match keep {
                        true => self.compliance.deciding(unit, record, settings, &policies).await?,
                        false => self.compliance.against(unit, record, settings, &policies).await?,
                    });
                }
                Guard::PolicyPassed => {
                    let named = settings.policies.get(&record.classification).cloned().unwrap_or_default();
                    reasons.extend(self.policy.against(unit, record, settings, &named).await?);
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
