//! Reports that are kept, and looked at again when what they depend on changes, begins or ends.

use super::{Compliance, Said, settings};
use crate::model::Status;
use omt_audit::Event;
use omt_jobs::NewJob;
use omt_kernel::{
    Actor, ManifestId, Result, TenantId,
    error::Context as _,
    governance::{DueReport, ReportRecord},
    manifest::ManifestRecord,
    port::{Page, UnitOfWork},
    retry,
};
use omt_notify::Notice;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The kind of jobs that look again at what depends on something that changed.
pub const RECHECK: &str = "compliance_recheck";
/// The kind of the job that looks for what has begun or ended by itself.
pub const LOOK: &str = "compliance_look";
/// Manifests looked at in one query.
const PAGE: u32 = 200;

/// What a job that looks again needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecheckOrder {
    /// What changed: `person:…` and `content:…` of evidence, `policy:<name>`, or `manifest:<id>`.
    pub key: String,
}

/// What a look for what is due came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// Manifests that were looked at again.
    pub manifests: u64,
    /// Those that could not be; the next look tries again.
    pub failed: u64,
}

/// What reports by a policy depend on.
pub(super) fn by_policy(name: &str) -> String {
    format!("policy:{name}")
}

/// What reports on a manifest depend on.
pub(super) fn by_manifest(id: ManifestId) -> String {
    format!("manifest:{id}")
}

/// The manifest that a key names by itself.
fn manifest_of(key: &str) -> Option<ManifestId> {
    key.strip_prefix("manifest:").and_then(|id| Uuid::parse_str(id).ok()).map(ManifestId)
}

impl Compliance {
    /// Makes a job that looks again at what depends on this. `what` tells this change from others of the same: a job that runs
    /// already may have looked before it.
    pub(super) async fn recheck_later(&self, unit: &dyn UnitOfWork, tenant: &TenantId, key: String, what: &str) -> Result<()> {
        let unique_key = Some(format!("{RECHECK}:{tenant}:{key}:{what}"));
        let job = NewJob {
            tenant: Some(tenant.clone()),
            kind: RECHECK,
            payload: serde_json::to_value(&RecheckOrder { key }).context("an order cannot be written")?,
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

    /// Keeps a report, and tells author and managers when it turned to failed. What it said before, where one was kept.
    pub(super) async fn keep(&self, unit: &dyn UnitOfWork, record: &ManifestRecord, said: &Said) -> Result<Option<String>> {
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
        if before.as_deref().is_some_and(|before| before != "failed") && report.status == Status::Failed {
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

    /// Keeps a report, and tells everybody who listens when it says otherwise than the one before.
    pub(super) async fn keep_and_tell(&self, unit: &dyn UnitOfWork, record: &ManifestRecord, said: &Said) -> Result<()> {
        let before = self.keep(unit, record, said).await?;
        let status = said.report.status;
        let Some(before) = before.filter(|before| before != status.as_str()) else { return Ok(()) };
        let entry = Event::new("compliance.turn", "manifest", record.id)
            .tell("compliance.changed", record)
            .detail(json!({ "policy": said.report.policy, "from": before, "to": status }));
        self.deps.audit.append(unit, &Actor::system(record.tenant.clone()), entry).await
    }

    /// Looks again at everything that depends on what changed; how many manifests.
    pub async fn recheck(&self, tenant: &TenantId, key: &str) -> Result<u64> {
        if let Some(id) = manifest_of(key) {
            self.recheck_one(tenant, id).await?;
            return Ok(1);
        }
        let (mut done, mut after) = (0, None);
        loop {
            let page = Page { after, limit: PAGE };
            let found = self.deps.database.read().await?.compliance().dependents(tenant, key, page).await?;
            let Some(last) = found.last() else { return Ok(done) };
            after = Some(last.0);
            for id in found {
                self.recheck_one(tenant, id).await?;
                done += 1;
            }
        }
    }

    /// Looks again at every tenant's manifests of which something begins or ends without anybody's doing: consents, clearances,
    /// rights, overrides, licences in metadata, retention.
    pub async fn look(&self) -> Result<Looked> {
        let now = self.deps.clock.now();
        let (mut looked, mut after): (Looked, Option<DueReport>) = (Looked::default(), None);
        loop {
            let found = self.deps.database.read().await?.compliance().due_reports(now, after.as_ref(), PAGE).await?;
            let Some(last) = found.last() else { return Ok(looked) };
            after = Some(last.clone());
            // Several policies may be due on one manifest; all of them are looked at together.
            let manifests: BTreeSet<(TenantId, ManifestId)> = found.into_iter().map(|due| (due.tenant, due.manifest)).collect();
            for (tenant, id) in manifests {
                match self.recheck_one(&tenant, id).await {
                    Ok(()) => looked.manifests += 1,
                    // One that cannot be read must not hide all others.
                    Err(error) => {
                        tracing::warn!(%tenant, manifest = %id, %error, "compliance could not be looked at again");
                        looked.failed += 1;
                    }
                }
            }
        }
    }

    async fn recheck_one(&self, tenant: &TenantId, id: ManifestId) -> Result<()> {
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            self.measuring(unit.as_ref(), id).await?;
            let Some(record) = unit.manifests().get(tenant, id).await? else { return Ok(()) };
            let settings = settings(unit.as_ref(), tenant).await?;
            for kept in unit.compliance().reports(tenant, id).await? {
                let policy = self.policy(unit.as_ref(), tenant, &kept.policy).await?;
                let said = self.evaluate(unit.as_ref(), &record, &settings, &policy).await?;
                self.keep_and_tell(unit.as_ref(), &record, &said).await?;
            }
            unit.commit().await
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_what_changed() {
        let id = ManifestId(Uuid::from_u128(7));
        assert_eq!(manifest_of(&by_manifest(id)), Some(id));
        assert_eq!(manifest_of(&by_policy("house")), None);
        assert_eq!(manifest_of("content:00"), None);
    }
}
