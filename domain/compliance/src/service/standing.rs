//! Compliance as workflows ask about it: what stands against a move, and what the claim says was passed.

use super::{Compliance, RecheckOrder};
use async_trait::async_trait;
use omt_kernel::{Result, TenantSettings, manifest::ManifestRecord, port::UnitOfWork};
use omt_workflow::{ComplianceStanding, Standing};
use std::collections::{BTreeMap, BTreeSet};

impl Compliance {
    /// The reasons why content does not pass these policies. Reports are kept where `keep` says so, if the transaction is.
    async fn reasons(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        policies: &BTreeSet<String>,
        keep: bool,
    ) -> Result<Vec<String>> {
        if keep {
            self.measuring(unit, record.id).await?;
        }
        let mut out = Vec::new();
        for name in policies {
            // A policy that is asked for and not there is not passed.
            let policy = match self.policy(unit, &record.tenant, name).await {
                Ok(policy) => policy,
                Err(error) if error.code == "UNKNOWN_POLICY" => {
                    out.push(format!("{name}: {}", error.message));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let said = self.evaluate(unit, record, settings, &policy).await?;
            if keep {
                self.keep_and_tell(unit, record, &said, true).await?;
            }
            let bad = said.report.rules.iter().filter(|rule| !rule.status.lets_through());
            out.extend(bad.map(|rule| format!("{name}: {} is {}: {}", rule.rule, rule.status, rule.actual)));
        }
        Ok(out)
    }
}

#[async_trait]
impl Standing for Compliance {
    async fn against(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        policies: &BTreeSet<String>,
    ) -> Result<Vec<String>> {
        self.reasons(unit, record, settings, policies, false).await
    }
}

#[async_trait]
impl ComplianceStanding for Compliance {
    async fn deciding(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        policies: &BTreeSet<String>,
    ) -> Result<Vec<String>> {
        self.reasons(unit, record, settings, policies, true).await
    }

    async fn changed(&self, unit: &dyn UnitOfWork, after: &ManifestRecord) -> Result<()> {
        if unit.compliance().reports(&after.tenant, after.id).await?.is_empty() {
            return Ok(());
        }
        let what = format!("revision:{}", after.revision);
        let order = RecheckOrder::new(super::recheck::by_manifest(after.id));
        self.recheck_later(unit, &after.tenant, order, &what).await
    }

    async fn passed(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        settings: &TenantSettings,
        policies: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, bool>> {
        let mut out = BTreeMap::new();
        for name in policies {
            let policy = self.policy(unit, &record.tenant, name).await?;
            for rule in self.evaluate(unit, record, settings, &policy).await?.report.rules {
                // What was overridden did not pass.
                let passed = rule.status.lets_through() && rule.overridden_by.is_none();
                let all = out.entry(rule.rule.to_string()).or_insert(true);
                *all = *all && passed;
            }
        }
        Ok(out)
    }
}
