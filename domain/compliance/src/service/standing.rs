//! Compliance as workflows ask about it: what stands against a move, and what the claim says was passed.

use super::{Compliance, RecheckOrder, Said, policies::missing, recheck};
use async_trait::async_trait;
use omt_kernel::{
    Result,
    manifest::ManifestRecord,
    port::{Page, UnitOfWork},
};
use omt_workflow::{Asked, ComplianceStanding, Keep};
use std::collections::BTreeMap;

impl Compliance {
    /// What each of these policies says; nothing of one that is not there.
    async fn each<'a>(&self, unit: &dyn UnitOfWork, asked: Asked<'a>) -> Result<Vec<(&'a str, Option<Said>)>> {
        if asked.policies.is_empty() {
            return Ok(Vec::new());
        }
        let measured = self.measure(unit, asked.record, asked.settings).await?;
        let mut out = Vec::new();
        for name in asked.policies {
            let policy = self.find(unit, &asked.record.tenant, name).await?;
            out.push((name.as_str(), policy.map(|policy| measured.say(&policy))));
        }
        Ok(out)
    }
}

#[async_trait]
impl ComplianceStanding for Compliance {
    async fn against(&self, unit: &dyn UnitOfWork, asked: Asked<'_>, keep: Keep) -> Result<Vec<String>> {
        if keep == Keep::WithTheMove {
            self.measuring(unit, asked.record.id).await?;
        }
        let mut out = Vec::new();
        for (name, said) in self.each(unit, asked).await? {
            let Some(said) = said else {
                out.push(format!("{name}: {}", missing(name)));
                continue;
            };
            if keep == Keep::WithTheMove {
                self.keep_and_tell(unit, asked.record, &said, true).await?;
            }
            let bad = said.report.rules.iter().filter(|rule| !rule.status.lets_through());
            out.extend(bad.map(|rule| format!("{name}: {} is {}: {}", rule.rule, rule.status, rule.actual)));
        }
        Ok(out)
    }

    async fn passed(&self, unit: &dyn UnitOfWork, asked: Asked<'_>) -> Result<BTreeMap<String, bool>> {
        let mut out = BTreeMap::new();
        let said = self.each(unit, asked).await?.into_iter().filter_map(|(_, said)| said);
        for rule in said.flat_map(|said| said.report.rules) {
            // What was overridden did not pass.
            let passed = rule.status.lets_through() && rule.overridden_by.is_none();
            let all = out.entry(rule.rule.to_string()).or_insert(true);
            *all = *all && passed;
        }
        Ok(out)
    }

    async fn changed(&self, unit: &dyn UnitOfWork, after: &ManifestRecord) -> Result<()> {
        let what = format!("{}:revision:{}", after.id, after.revision);
        // What is made of it is at least as sensitive as it is.
        let mut bytes = vec![&after.source.sha256];
        bytes.extend(after.signed.as_ref().map(|signed| &signed.asset.sha256));
        for sha256 in bytes {
            let key = recheck::by_ingredient(sha256);
            let first = Page { after: None, limit: 1 };
            if !unit.compliance().dependents(&after.tenant, &key, first).await?.is_empty() {
                self.recheck_later(unit, &after.tenant, RecheckOrder::new(key), &what).await?;
            }
        }
        if unit.compliance().reports(&after.tenant, after.id).await?.is_empty() {
            return Ok(());
        }
        let order = RecheckOrder::new(recheck::by_manifest(after.id));
        self.recheck_later(unit, &after.tenant, order, &format!("revision:{}", after.revision)).await
    }
}
