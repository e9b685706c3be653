//! Trying a policy on what is stored.

use crate::{
    ask::LIMIT,
    expression::Deadline,
    facts,
    model::{Outcome, Policy, Verdict},
    rules::Compiled,
    service::Policies,
};
use omt_audit::Event;
use omt_jobs::{NewJob, Progress};
use omt_kernel::{
    Actor, Error, JobId, Kind, ManifestId, Permission, Result, TenantId,
    error::Context as _,
    manifest::{ManifestFilter, ManifestRecord},
    port::{Page, UnitOfWork},
    retry,
};
use serde::{Deserialize, Serialize};

/// The kind of jobs that try a policy on what is stored.
pub const DRY_RUN: &str = "policy_dry_run";
/// Manifests that a dry run names.
const NAMED: usize = 10;
/// Manifests in memory at once.
const AT_ONCE: u32 = 100;

/// What such a job is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DryRunOrder {
    /// The policy as it would be.
    pub candidate: Policy,
    /// Who asked: sees what they see.
    pub reach: omt_kernel::Reach,
}

/// What came of it so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DryRun {
    /// How many manifests are looked at: drafts and signed ones that whoever asked sees.
    pub total: u64,
    /// How many were looked at.
    pub examined: u64,
    /// How many the candidate fails.
    pub failing: u64,
    /// How many pass the present version, or have none, and would fail.
    pub would_newly_fail: u64,
    /// How many fail the present version and would pass.
    pub would_newly_pass: u64,
    /// How often a rule of the candidate could not be said: it depends on a verification that there never was, or took too long.
    pub cannot_say: u64,
    /// How many manifests are therefore neither counted as newly failing nor as newly passing.
    pub undecided: u64,
    /// The first of those that would newly fail.
    pub first: Vec<ManifestId>,
    /// In words.
    pub summary: String,
}

impl DryRun {
    /// Counts a manifest. `now` is what the present version says of it, if there is one.
    fn count(&mut self, manifest: ManifestId, now: Option<&Verdict>, then: &Verdict) {
        self.examined += 1;
        self.cannot_say += then.rules.iter().filter(|rule| rule.is_open()).count() as u64;
        let present = now.map_or(Outcome::Passes, Verdict::outcome);
        let candidate = then.outcome();
        self.failing += u64::from(candidate == Outcome::Fails);
        match (present, candidate) {
            (Outcome::CannotSay, _) | (_, Outcome::CannotSay) => self.undecided += 1,
            (Outcome::Fails, Outcome::Passes) => self.would_newly_pass += 1,
            (Outcome::Passes, Outcome::Fails) => {
                self.would_newly_fail += 1;
                if self.first.len() < NAMED {
                    self.first.push(manifest);
                }
            }
            _ => {}
        }
    }

    fn summarise(&mut self) {
        let Self { would_newly_fail, would_newly_pass, undecided, examined, .. } = self;
        self.summary = format!(
            "would newly fail: {would_newly_fail}, would newly pass: {would_newly_pass}, undecided: {undecided}, of {examined} \
             examined"
        );
    }
}

impl Policies {
    /// Has a policy tried on everything that the actor sees; the job that does it.
    pub async fn dry_run(&self, actor: &Actor, candidate: Policy) -> Result<JobId> {
        actor.require(Permission::AdminPolicies)?;
        let candidate = self.valid(candidate).await?;
        let order = DryRunOrder { candidate, reach: actor.reach.clone() };
        let new = NewJob {
            tenant: Some(actor.tenant.clone()),
            kind: DRY_RUN,
            payload: serde_json::to_value(&order).context("an order cannot be written")?,
            unique_key: Some(format!("{DRY_RUN}:{}:{}", actor.tenant, order.candidate.name)),
            priority: 0,
            run_at: self.deps.clock.now(),
            max_attempts: 3,
        };
        retry::transaction(self.deps.entropy.as_ref(), async || {
            let unit = self.deps.database.begin().await?;
            let made = self.deps.jobs.enqueue(unit.as_ref(), new.clone()).await?;
            let words = "this policy is being tried already";
            let id = made.ok_or_else(|| Error::new(Kind::Conflict, "JOB_EXISTS", words))?;
            self.deps.audit.append(unit.as_ref(), actor, Event::new("policy.dry_run", "policy", &order.candidate.name)).await?;
            unit.commit().await?;
            Ok(id)
        })
        .await
    }

    /// Tries a policy on everything that is stored, drafts and signed, and says how far it is. Computes: it belongs on a thread of its
    /// own.
    pub async fn run_dry(&self, tenant: &TenantId, order: &DryRunOrder, progress: &Progress) -> Result<()> {
        let name = &order.candidate.name;
        let read = self.deps.database.read().await?;
        let present = match self.force(read.as_ref(), tenant, name).await {
            Ok(force) => force.enforced,
            Err(error) if error.kind == Kind::NotFound => None,
            Err(error) => return Err(error),
        };
        drop(read);
        let present = present.map(|version| Compiled::new(version.policy, version.version)).transpose()?;
        let candidate = Compiled::new(order.candidate.clone(), 0)?;
        // Without a state, what is archived is left out: from the number too.
        let filter = ManifestFilter { reach: Some(order.reach.clone()), ..ManifestFilter::default() };
        let total = self.deps.database.replica().await?.manifests().count_where(tenant, &filter).await?;
        let mut out = DryRun { total, ..DryRun::default() };
        let mut after = None;
        loop {
            out.summarise();
            progress.set(&out);
            let unit = self.deps.database.replica().await?;
            let page = unit.manifests().list(tenant, &filter, Page { after, limit: AT_ONCE }).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.0);
            for record in page {
                let (now, then) = self.both(unit.as_ref(), &record, present.as_ref(), &candidate).await?;
                out.count(record.id, now.as_ref(), &then);
            }
        }
    }

    /// What the present version and the candidate say of a manifest.
    async fn both(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        present: Option<&Compiled>,
        candidate: &Compiled,
    ) -> Result<(Option<Verdict>, Verdict)> {
        let kept = self.verification(unit, record).await?;
        let facts = facts::of(record, kept.as_ref().into())?;
        let now = present.map(|present| present.evaluate(&facts, &Deadline::after(LIMIT)));
        Ok((now, candidate.evaluate(&facts, &Deadline::after(LIMIT))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Facts;
    use serde_json::{Value, json};
    use uuid::Uuid;

    fn compiled(expression: &str) -> Compiled {
        let rules = json!([{ "name": "r", "rule_type": "custom_function", "severity": "error", "custom_function": expression }]);
        Compiled::new(serde_json::from_value::<Policy>(json!({ "name": "p", "rules": rules })).unwrap(), 1).unwrap()
    }

    fn facts(signature: Value, unverified: bool) -> Facts {
        let mut facts = Facts::new(json!({ "manifest": { "title": "A" }, "assertions": {}, "signature": signature }));
        facts.unverified = unverified;
        facts
    }

    #[test]
    fn nobody_fails_for_want_of_a_verification() {
        let (now, then) = (compiled("true"), compiled("signature == null || signature.post_quantum == 'trusted'"));
        let mut out = DryRun::default();
        let signature = |state: Value| json!({ "algorithm": "es256", "post_quantum": state });
        for (signature, unverified) in [
            (Value::Null, false),
            (signature(json!("trusted")), false),
            (signature(json!("absent")), false),
            (signature(Value::Null), true),
        ] {
            let facts = facts(signature, unverified);
            let say = |policy: &Compiled| policy.evaluate(&facts, &Deadline::after(LIMIT));
            out.count(ManifestId(Uuid::nil()), Some(&say(&now)), &say(&then));
        }
        assert_eq!((out.examined, out.failing, out.would_newly_fail), (4, 1, 1));
        assert_eq!((out.cannot_say, out.undecided), (1, 1));
        // What the record says needs no verification.
        let known = compiled("signature == null || signature.algorithm == 'es256'");
        assert!(known.evaluate(&facts(signature(Value::Null), true), &Deadline::after(LIMIT)).passed);
    }
}
