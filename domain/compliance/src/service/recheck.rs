//! Reports that are kept, and looked at again when what they depend on changes, begins or ends.

use super::{Compliance, Said};
use crate::model::{RuleName, Status};
use omt_audit::Event;
use omt_jobs::NewJob;
use omt_kernel::{
    Actor, Error, ManifestId, OffsetDateTime, Result, TenantId,
    error::Context as _,
    governance::{BY_SETTINGS, DueReport, ReportRecord},
    manifest::ManifestRecord,
    port::{Page, UnitOfWork},
    retry,
    tenant::settings,
};
use omt_notify::Notice;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The kind of jobs that look again at what depends on evidence that changed.
pub const RECHECK: &str = "compliance_recheck";
/// The kind of jobs that look again at what something else that changed is about: a policy, a manifest, the tenant's settings. Workers
/// of versions that know nothing of such orders would take them for evidence on which nothing depends, and end them.
pub use omt_kernel::governance::REMEASURE;
/// The kind of the job that looks for what has begun or ended by itself.
pub const LOOK: &str = "compliance_look";
/// Manifests looked at in one query.
const PAGE: u32 = 200;

/// What a job that looks again needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecheckOrder {
    /// What changed: `person:…` and `content:…` of evidence, `policy:<name>`, `manifest:<id>`, a manifest whose bytes are those of
    /// `ingredient:<sha256>`, or `settings` of the tenant.
    pub key: String,
    /// The rules that the policy had then, where it is what changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<BTreeSet<RuleName>>,
}

impl RecheckOrder {
    /// An order to look at what depends on this.
    pub(super) fn new(key: String) -> Self {
        Self { key, rules: None }
    }

    /// The kind of the job that does it.
    fn kind(&self) -> &'static str {
        if self.key.starts_with("person:") || self.key.starts_with("content:") { RECHECK } else { REMEASURE }
    }
}

/// What a look for what is due came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Manifests that were looked at again.
    pub manifests: u64,
    /// Those that could not be; the next look tries again.
    pub failed: u64,
}

/// What looking at one manifest after the other came to.
#[derive(Debug, Default)]
struct Tally {
    looked: Looked,
    /// Why the last one of those that could not be looked at could not.
    last: Option<Error>,
}

impl Tally {
    fn add(&mut self, tenant: &TenantId, id: ManifestId, done: Result<()>) {
        match done {
            Ok(()) => self.looked.manifests += 1,
            Err(error) => {
                tracing::warn!(%tenant, manifest = %id, %error, "compliance could not be looked at again");
                self.looked.failed += 1;
                self.last = Some(error);
            }
        }
    }

    /// Looks at each: one that cannot be evaluated must not hide all others.
    async fn each(
        &mut self,
        manifests: impl IntoIterator<Item = (TenantId, ManifestId)>,
        mut look: impl AsyncFnMut(&TenantId, ManifestId) -> Result<()>,
    ) {
        for (tenant, id) in manifests {
            let done = look(&tenant, id).await;
            self.add(&tenant, id, done);
        }
    }
}

/// Why reports are looked at again.
#[derive(Debug, Clone, Copy)]
enum Why<'a> {
    /// Evidence about the manifest changed, or the manifest.
    Changed,
    /// The policy of this name changed.
    Policy(&'a str),
    /// The tenant's settings changed.
    Settings,
    /// Something began or ended.
    Due,
}

impl Why<'_> {
    /// Whether people are told, besides log and webhooks, when a report turns to failed. One change of a policy or of settings may
    /// turn many at once, and so may the first look at all that was kept before anybody noted when it turns.
    fn tells_people(self, kept: &ReportRecord) -> bool {
        match self {
            Self::Changed => true,
            Self::Policy(name) => kept.policy != name,
            Self::Settings => false,
            Self::Due => kept.turns_at != Some(OffsetDateTime::UNIX_EPOCH),
        }
    }
}

/// What reports by a policy depend on.
pub(super) fn by_policy(name: &str) -> String {
    format!("policy:{name}")
}

/// What reports on manifests with an ingredient of these bytes depend on: how those are classified.
pub(super) fn by_ingredient(sha256: &str) -> String {
    format!("ingredient:{sha256}")
}

/// What reports on a manifest depend on.
pub(super) fn by_manifest(id: ManifestId) -> String {
    format!("manifest:{id}")
}

/// The policy that a key names.
fn policy_of(key: &str) -> Option<&str> {
    key.strip_prefix("policy:")
}

/// The manifest that a key names by itself.
fn manifest_of(key: &str) -> Option<ManifestId> {
    key.strip_prefix("manifest:").and_then(|id| Uuid::parse_str(id).ok()).map(ManifestId)
}

impl Compliance {
    /// Makes a job that looks again at what depends on this. `what` tells this change from others of the same: a job that runs
    /// already may have looked before it.
    pub(super) async fn recheck_later(
        &self,
        unit: &dyn UnitOfWork,
        tenant: &TenantId,
        order: RecheckOrder,
        what: &str,
    ) -> Result<()> {
        let kind = order.kind();
        let unique_key = Some(format!("{kind}:{tenant}:{}:{what}", order.key));
        let job = NewJob {
            tenant: Some(tenant.clone()),
            kind,
            payload: serde_json::to_value(&order).context("an order cannot be written")?,
            unique_key,
            priority: 5,
            run_at: self.deps.clock.now(),
            max_attempts: 8,
        };
        self.deps.jobs.enqueue(unit, job).await.map(drop)
    }

    /// Waits until nobody else measures this manifest, so that of two who see it turn only one tells, and the last one is right.
    pub(super) async fn measuring(&self, unit: &dyn UnitOfWork, manifest: ManifestId) -> Result<()> {
        unit.lock(&format!("compliance:{manifest}")).await
    }

    /// Keeps a report, and tells author and managers when it turned to failed, where `people` says so. What it said before, where
    /// one was kept.
    pub(super) async fn keep(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        said: &Said,
        people: bool,
    ) -> Result<Option<String>> {
        let report = &said.report;
        let before = unit.compliance().reports(&record.tenant, record.id).await?;
        let before = before.into_iter().find(|old| old.policy == report.policy).map(|old| old.status);
        let kept = ReportRecord {
            tenant: record.tenant.clone(),
            manifest: record.id,
            policy: report.policy.clone(),
            status: report.status.to_string(),
            keys: said.keys.clone(),
            data: serde_json::to_value(report).context("a report cannot be written")?,
            at: report.checked_at,
            // One that nobody could find before is due for a look: what changed while it was written did not find it either.
            turns_at: if before.is_some() { said.turns_at } else { Some(report.checked_at) },
        };
        unit.compliance().put_report(&kept).await?;
        if people && before.as_deref().is_some_and(|before| before != "failed") && report.status == Status::Failed {
            let data = json!({
                "manifest_id": record.id, "policy": report.policy, "status": report.status, "before": before,
                "content": record.title,
            });
            let audience = [record.created_by.clone(), "role:manager".to_owned()].into();
            let notice = Notice { audience, kind: "compliance.failed", data, manifest: record.id };
            self.deps.notices.tell(unit, &record.tenant, notice).await?;
        }
        Ok(before)
    }

    /// Keeps a report, and tells everybody who listens when it says otherwise than the one before; author and managers where
    /// `people` says so.
    pub(super) async fn keep_and_tell(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        said: &Said,
        people: bool,
    ) -> Result<()> {
        let before = self.keep(unit, record, said, people).await?;
        let status = said.report.status;
        let Some(before) = before.filter(|before| before != status.as_str()) else { return Ok(()) };
        let entry = Event::new("compliance.turn", "manifest", record.id)
            .tell("compliance.changed", record)
            .detail(json!({ "policy": said.report.policy, "from": before, "to": status }));
        self.deps.audit.append(unit, &Actor::system(record.tenant.clone()), entry).await
    }

    /// Looks again at everything that depends on what changed: how many manifests, and why the last one of those that could not
    /// be looked at could not. An order about rules that a policy has no more ends; another one is about those that it has.
    pub async fn recheck(&self, tenant: &TenantId, order: &RecheckOrder) -> Result<(Looked, Option<Error>)> {
        let (mut tally, mut after) = (Tally::default(), None);
        if let Some(id) = manifest_of(&order.key) {
            tally.add(tenant, id, self.recheck_one(tenant, id, Why::Changed).await);
            return Ok((tally.looked, tally.last));
        }
        let why = match policy_of(&order.key) {
            Some(name) => Why::Policy(name),
            None if order.key == BY_SETTINGS => Why::Settings,
            None => Why::Changed,
        };
        loop {
            let read = self.deps.database.read().await?;
            if self.is_superseded(read.as_ref(), tenant, order).await? {
                return Ok((tally.looked, None));
            }
            let page = Page { after, limit: PAGE };
            let found = read.compliance().dependents(tenant, &order.key, page).await?;
            drop(read);
            let Some(last) = found.last() else { return Ok((tally.looked, tally.last)) };
            after = Some(last.0);
            let found = found.into_iter().map(|id| (tenant.clone(), id));
            tally.each(found, async |tenant, id| self.recheck_one(tenant, id, why).await).await;
        }
    }

    /// Whether a policy has other rules than those that an order is about.
    async fn is_superseded(&self, unit: &dyn UnitOfWork, tenant: &TenantId, order: &RecheckOrder) -> Result<bool> {
        let (Some(name), Some(rules)) = (policy_of(&order.key), &order.rules) else { return Ok(false) };
        Ok(self.policy(unit, tenant, name).await?.rules != *rules)
    }

    /// Looks again at every tenant's manifests of which something begins or ends without anybody's doing: consents, clearances,
    /// rights, overrides, licences in metadata, retention.
    pub async fn look(&self) -> Result<Looked> {
        let now = self.deps.clock.now();
        let (mut tally, mut after): (Tally, Option<DueReport>) = (Tally::default(), None);
        loop {
            let found = self.deps.database.read().await?.compliance().due_reports(now, after.as_ref(), PAGE).await?;
            let Some(last) = found.last() else { return Ok(tally.looked) };
            after = Some(last.clone());
            // Several policies may be due on one manifest; all of them are looked at together.
            let manifests: BTreeSet<(TenantId, ManifestId)> = found.into_iter().map(|due| (due.tenant, due.manifest)).collect();
            tally.each(manifests, async |tenant, id| self.recheck_one(tenant, id, Why::Due).await).await;
        }
    }

    async fn recheck_one(&self, tenant: &TenantId, id: ManifestId, why: Why<'_>) -> Result<()> {
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            self.measuring(unit.as_ref(), id).await?;
            let Some(record) = unit.manifests().get(tenant, id).await? else { return Ok(()) };
            let settings = settings(unit.as_ref(), tenant).await?;
            let measured = self.measure(unit.as_ref(), &record, &settings).await?;
            for kept in unit.compliance().reports(tenant, id).await? {
                let said = measured.say(&self.policy(unit.as_ref(), tenant, &kept.policy).await?);
                self.keep_and_tell(unit.as_ref(), &record, &said, why.tells_people(&kept)).await?;
            }
            unit.commit().await
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    fn manifest(n: u128) -> ManifestId {
        ManifestId(Uuid::from_u128(n))
    }

    #[test]
    fn keys_name_what_changed() {
        let id = manifest(7);
        assert_eq!(manifest_of(&by_manifest(id)), Some(id));
        assert_eq!(manifest_of(&by_policy("house")), None);
        assert_eq!(manifest_of("content:00"), None);
        assert_eq!((policy_of(&by_policy("house")), policy_of("content:00")), (Some("house"), None));
    }

    #[test]
    fn older_workers_get_only_orders_that_they_understand() {
        let kind = |key: &str| RecheckOrder::new(key.to_owned()).kind();
        assert_eq!((kind("person:00"), kind("content:00")), (RECHECK, RECHECK));
        assert_eq!((kind(&by_policy("house")), kind(&by_manifest(manifest(7)))), (REMEASURE, REMEASURE));
        assert_eq!(kind(&by_ingredient("00")), REMEASURE);
        let old: RecheckOrder = serde_json::from_value(json!({ "key": "person:00" })).unwrap();
        assert_eq!(old.rules, None, "what they wrote is read");
        assert_eq!(serde_json::to_value(old).unwrap(), json!({ "key": "person:00" }));
    }

    #[tokio::test]
    async fn one_that_cannot_be_evaluated_hides_no_other() {
        let (mut tally, mut seen) = (Tally::default(), Vec::new());
        let all = (1..=4).map(|n| (TenantId::default_tenant(), manifest(n)));
        let look = async |_: &TenantId, id: ManifestId| {
            seen.push(id);
            let broken = id == manifest(1) || id == manifest(3);
            if broken { Err(Error::internal(format!("{id} is broken"))) } else { Ok(()) }
        };
        tally.each(all, look).await;
        assert_eq!(seen, [1, 2, 3, 4].map(manifest));
        assert_eq!(tally.looked, Looked { manifests: 2, failed: 2 });
        assert_eq!(tally.last.unwrap().message, format!("{} is broken", manifest(3)), "the last one is given back");
    }

    #[test]
    fn people_are_not_told_of_many_at_once() {
        let kept = |policy: &str, turns_at| ReportRecord {
            tenant: TenantId::default_tenant(),
            manifest: manifest(1),
            policy: policy.to_owned(),
            status: "passed".to_owned(),
            keys: BTreeSet::new(),
            data: json!({}),
            at: OffsetDateTime::UNIX_EPOCH,
            turns_at,
        };
        let never_looked_at = Some(OffsetDateTime::UNIX_EPOCH);
        let due = Some(OffsetDateTime::UNIX_EPOCH + Duration::days(1));
        assert!(!Why::Policy("house").tells_people(&kept("house", due)));
        assert!(Why::Policy("house").tells_people(&kept("other", due)), "it turned for a reason of its own");
        assert!(!Why::Settings.tells_people(&kept("house", due)));
        assert!(!Why::Due.tells_people(&kept("house", never_looked_at)));
        assert!(Why::Due.tells_people(&kept("house", due)));
        assert!(Why::Changed.tells_people(&kept("house", never_looked_at)), "somebody changed something about it");
    }
}
