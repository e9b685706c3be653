//! What shadow versions would have stood against. Counted in this process, since it began: the metric adds up over processes, and the
//! log names the manifests.

use crate::model::{Severity, Verdict};
use omt_kernel::{OffsetDateTime, TenantId};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Shadow versions that are counted at once; the longest unasked is forgotten, and begins anew.
const KEPT: u64 = 2_000;

/// What a shadow version said when guards asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The version.
    pub version: u32,
    /// Since when it is counted.
    pub since: OffsetDateTime,
    /// How often guards asked.
    pub asked: u64,
    /// How often it would have stood against.
    pub failed: u64,
    /// How often each rule of the severity error was broken.
    pub rules: BTreeMap<String, u64>,
}

/// The counts of this process.
pub(crate) struct Tally(moka::sync::Cache<(TenantId, String, u32), Arc<Mutex<Findings>>>);

impl Tally {
    pub(crate) fn new() -> Self {
        Self(moka::sync::Cache::new(KEPT))
    }

    fn of(&self, tenant: &TenantId, name: &str, version: u32, now: OffsetDateTime) -> Arc<Mutex<Findings>> {
        let fresh = || Findings { version, since: now, asked: 0, failed: 0, rules: BTreeMap::new() };
        self.0.get_with((tenant.clone(), name.to_owned(), version), || Arc::new(Mutex::new(fresh())))
    }

    /// Counts a verdict.
    pub(crate) fn note(&self, tenant: &TenantId, verdict: &Verdict, now: OffsetDateTime) {
        let kept = self.of(tenant, &verdict.policy, verdict.version, now);
        let mut findings = kept.lock().unwrap_or_else(PoisonError::into_inner);
        findings.asked += 1;
        findings.failed += u64::from(!verdict.passed);
        for rule in verdict.rules.iter().filter(|rule| !rule.passed && rule.severity == Severity::Error) {
            *findings.rules.entry(rule.rule.clone()).or_default() += 1;
        }
    }

    /// What was counted; counting begins when it is first asked for, at the latest.
    pub(crate) fn findings(&self, tenant: &TenantId, name: &str, version: u32, now: OffsetDateTime) -> Findings {
        self.of(tenant, name, version, now).lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deadline, Facts, Policy, rules::Compiled};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn what_would_have_failed_is_counted_by_rule() {
        let policy: Policy = serde_json::from_value(json!({ "name": "p", "shadow": true, "rules": [
            { "name": "titled", "rule_type": "required_field", "severity": "error", "field_path": "manifest.title" },
            { "name": "large", "rule_type": "value_constraint", "severity": "warning", "field_path": "manifest.size", "min_value": 9 },
        ] }))
        .unwrap();
        let compiled = Compiled::new(policy, 3);
        let (tally, tenant) = (Tally::new(), TenantId::default_tenant());
        let (then, later) = (OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH + Duration::from_secs(5));
        for title in ["", "A", ""] {
            let facts = Facts::new(json!({ "manifest": { "title": title, "size": 1 } }));
            tally.note(&tenant, &compiled.evaluate(&facts, &Deadline::after(Duration::from_secs(60))), then);
        }
        let found = tally.findings(&tenant, "p", 3, later);
        assert_eq!((found.since, found.asked, found.failed), (then, 3, 2));
        assert_eq!(found.rules, BTreeMap::from([("titled".to_owned(), 2)]));
        assert_eq!(tally.findings(&tenant, "p", 4, later).asked, 0, "each version by itself");
    }
}
