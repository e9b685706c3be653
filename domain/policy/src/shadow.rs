//! What shadow versions would have stood against. Counted in this process, since it began: the metric adds up over processes, and the
//! log names the manifests.

use crate::{
    ask::{Ask, LIMIT},
    expression::Deadline,
    facts::Facts,
    model::Verdict,
};
use omt_kernel::{
    ManifestId, OffsetDateTime, Result, TenantId,
    pool::WorkPool,
    port::{Clock, Telemetry},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Shadows that may wait to be asked. One thread asks them: they are in nobody's way.
const WAITING: usize = 64;
/// Shadow versions that are counted at once; the longest unasked is forgotten, and begins anew.
const KEPT: u64 = 2_000;

/// What a shadow version said when guards asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The version.
    pub version: u32,
    /// Since when it is counted.
    pub since: OffsetDateTime,
    /// How often guards asked, and it was said.
    pub asked: u64,
    /// How often they asked and it was left out, because too much was waiting.
    pub dropped: u64,
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
        let fresh = || Findings { version, since: now, asked: 0, dropped: 0, failed: 0, rules: BTreeMap::new() };
        self.0.get_with((tenant.clone(), name.to_owned(), version), || Arc::new(Mutex::new(fresh())))
    }

    /// Counts a verdict.
    pub(crate) fn note(&self, tenant: &TenantId, verdict: &Verdict, now: OffsetDateTime) {
        let kept = self.of(tenant, &verdict.policy, verdict.version, now);
        let mut findings = kept.lock().unwrap_or_else(PoisonError::into_inner);
        findings.asked += 1;
        findings.failed += u64::from(!verdict.passed);
        for rule in verdict.broken() {
            *findings.rules.entry(rule.rule.clone()).or_default() += 1;
        }
    }

    /// Counts that it was left out.
    fn left_out(&self, tenant: &TenantId, name: &str, version: u32, now: OffsetDateTime) {
        let kept = self.of(tenant, name, version, now);
        kept.lock().unwrap_or_else(PoisonError::into_inner).dropped += 1;
    }

    /// What was counted; counting begins when it is first asked for, at the latest.
    pub(crate) fn findings(&self, tenant: &TenantId, name: &str, version: u32, now: OffsetDateTime) -> Findings {
        self.of(tenant, name, version, now).lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks shadows what they say, apart from the guards that brought them up: it only counts.
pub(crate) struct Watch {
    pool: WorkPool,
    /// What was counted.
    pub(crate) tally: Tally,
    clock: Arc<dyn Clock>,
    telemetry: Arc<dyn Telemetry>,
}

impl Watch {
    pub(crate) fn start(clock: Arc<dyn Clock>, telemetry: Arc<dyn Telemetry>) -> Result<Self> {
        Ok(Self { pool: WorkPool::start(1, WAITING)?, tally: Tally::new(), clock, telemetry })
    }

    /// Has a shadow asked soon, and does not wait for it. What there is no room for is left out, and counted.
    pub(crate) fn look(self: &Arc<Self>, shadow: Ask, manifest: ManifestId, facts: Arc<Facts>) {
        let watch = self.clone();
        drop(tokio::spawn(async move {
            let ((tenant, name, version), asking) = (shadow.key().clone(), watch.clone());
            let asked = watch.pool.run(move || asking.ask(shadow, manifest, &facts));
            if let Err(error) = asked.await {
                watch.tally.left_out(&tenant, &name, version, watch.clock.now());
                tracing::warn!(%tenant, policy = name, version, %error, "a shadow policy was not asked");
            }
        }));
    }

    fn ask(&self, shadow: Ask, manifest: ManifestId, facts: &Facts) -> Result<()> {
        let tenant = shadow.key().0.clone();
        let compiled = shadow.compiled()?;
        let verdict = compiled.evaluate(facts, &Deadline::after(LIMIT));
        self.telemetry.shadow_policy(verdict.passed);
        self.tally.note(&tenant, &verdict, self.clock.now());
        if !verdict.passed {
            let rules = verdict.broken().map(|rule| rule.rule.as_str()).collect::<Vec<_>>().join(", ");
            tracing::info!(
                %tenant, policy = verdict.policy, version = verdict.version, %manifest, rules,
                "a shadow policy would stand against this"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, Version, ask::Kept, rules::Compiled};
    use omt_kernel::port::Gauges;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn what_would_have_failed_is_counted_by_rule() {
        let policy: Policy = serde_json::from_value(json!({ "name": "p", "shadow": true, "rules": [
            { "name": "titled", "rule_type": "required_field", "severity": "error", "field_path": "manifest.title" },
            { "name": "large", "rule_type": "value_constraint", "severity": "warning", "field_path": "manifest.size", "min_value": 9 },
        ] }))
        .unwrap();
        let compiled = Compiled::new(policy, 3).unwrap();
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
    struct Still;

    impl Clock for Still {
        fn now(&self) -> OffsetDateTime {
            OffsetDateTime::UNIX_EPOCH
        }
    }

    impl Telemetry for Still {
        fn request(&self, _: &str, _: &str, _: u16, _: Duration) {}
        fn refused(&self, _: &'static str) {}
        fn attempt(&self, _: &str, _: &'static str, _: Duration, _: Duration) {}
        fn verified(&self, _: &str) {}
        fn manifest(&self, _: &'static str) {}
        fn cache(&self, _: &'static str, _: bool) {}
        fn shadow_policy(&self, _: bool) {}
        fn replica_read(&self) {}
        fn render(&self, _: &Gauges) -> Result<String> {
            Ok(String::new())
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_shadow_and_what_has_no_room_is_counted() {
        let (watch, kept, tenant) =
            (Arc::new(Watch::start(Arc::new(Still), Arc::new(Still)).unwrap()), Kept::new(), TenantId::default_tenant());
        let rules = json!([{ "name": "r", "rule_type": "custom_function", "severity": "error", "custom_function": "false" }]);
        let policy: Policy = serde_json::from_value(json!({ "name": "p", "shadow": true, "rules": rules })).unwrap();
        let (free, held) = std::sync::mpsc::channel::<()>();
        let (began, begins) = tokio::sync::oneshot::channel();
        let busy = watch.clone();
        let occupied = tokio::spawn(async move {
            let work = move || {
                let _ = began.send(());
                let _ = held.recv();
                Ok(())
            };
            busy.pool.run(work).await
        });
        begins.await.unwrap();
        for _ in 0..WAITING + 3 {
            let version =
                Version { policy: policy.clone().into(), version: 2, built_in: false, removed: false, created_by: None };
            let facts = Arc::new(Facts::new(json!({ "manifest": { "title": "A" } })));
            watch.look(kept.ask(&tenant, version), ManifestId(uuid::Uuid::nil()), facts);
        }
        let found = || watch.tally.findings(&tenant, "p", 2, OffsetDateTime::UNIX_EPOCH);
        let settled = async |asked: usize| {
            for _ in 0..500 {
                if found().asked == asked as u64 && found().dropped == 3 {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            false
        };
        assert!(settled(0).await, "{:?}", found());
        drop(free);
        occupied.await.unwrap().unwrap();
        assert!(settled(WAITING).await, "{:?}", found());
        assert_eq!((found().failed, found().rules["r"]), (WAITING as u64, WAITING as u64));
    }
}
