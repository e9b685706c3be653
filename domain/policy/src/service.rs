//! The use cases: write policies in versions, ask what they say, try a new one on what is stored.

use crate::{
    facts,
    model::{Policy, Verdict},
    rules::Compiled,
};
use async_trait::async_trait;
use omt_audit::{AuditTrail, Event};
use omt_claims::service::Examined;
use omt_jobs::{Jobs, NewJob, Progress};
use omt_kernel::{
    Actor, Error, JobId, Kind, ManifestId, Permission, Result, TenantId, TenantSettings,
    document::{self, DocumentKind, NewVersion, VersionRecord},
    error::Context as _,
    manifest::{ManifestFilter, ManifestRecord, ManifestState},
    port::{Clock, Database, Entropy, Page, UnitOfWork},
    retry,
};
use omt_workflow::Standing;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The kind of jobs that try a policy on what is stored.
pub const DRY_RUN: &str = "policy_dry_run";
/// Manifests that a dry run names.
const NAMED: usize = 10;

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
    /// How many manifests there are.
    pub total: u64,
    /// How many were looked at.
    pub examined: u64,
    /// How many the candidate fails.
    pub failing: u64,
    /// How many pass the present version, or have none, and would fail.
    pub would_newly_fail: u64,
    /// How many fail the present version and would pass.
    pub would_newly_pass: u64,
    /// The first of those that would newly fail.
    pub first: Vec<ManifestId>,
    /// In words.
    pub summary: String,
}

/// What is kept of a version.
#[derive(Serialize, Deserialize)]
struct Stored {
    policy: Policy,
    #[serde(default)]
    removed: bool,
}

/// A version of a policy.
#[derive(Debug, Clone)]
pub struct Version {
    /// What it says.
    pub policy: Policy,
    /// Its number, from 1.
    pub version: u32,
    /// Every tenant has it.
    pub built_in: bool,
    /// It is in force no more.
    pub removed: bool,
    /// Who made it.
    pub created_by: Option<String>,
}

/// Everything the use cases reach the world through.
pub struct Dependencies {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub entropy: Arc<dyn Entropy>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
    /// Work for later.
    pub jobs: Arc<Jobs>,
}

/// The use cases.
pub struct Policies {
    deps: Dependencies,
    shipped: Vec<Policy>,
}

fn version_of(record: VersionRecord) -> Result<Version> {
    let stored: Stored = serde_json::from_value(record.data).context("a policy cannot be read")?;
    Ok(Version {
        policy: stored.policy,
        version: record.version,
        built_in: false,
        removed: stored.removed,
        created_by: Some(record.created_by),
    })
}

impl Policies {
    /// The room, over its ports.
    pub fn new(deps: Dependencies) -> Result<Self> {
        Ok(Self { deps, shipped: Policy::shipped()? })
    }

    /// A version of a policy, the newest when none is named. What is shipped under a name is its version 1.
    async fn find(&self, unit: &dyn UnitOfWork, tenant: &TenantId, name: &str, version: Option<u32>) -> Result<Version> {
        let missing = || Error::new(Kind::NotFound, "UNKNOWN_POLICY", format!("there is no policy {name:?}"));
        if let Some(record) = unit.documents().get(DocumentKind::Policy, tenant, name, version).await? {
            return version_of(record);
        }
        let shipped = self.shipped.iter().find(|policy| policy.name == name).filter(|_| version.is_none_or(|v| v == 1));
        let policy = shipped.ok_or_else(missing)?.clone();
        Ok(Version { policy, version: 1, built_in: true, removed: false, created_by: None })
    }

    async fn in_force(&self, unit: &dyn UnitOfWork, tenant: &TenantId, name: &str) -> Result<Version> {
        let found = self.find(unit, tenant, name, None).await?;
        if found.removed {
            return Err(Error::new(Kind::NotFound, "UNKNOWN_POLICY", format!("the policy {name:?} was removed")));
        }
        Ok(found)
    }

    /// The policies in force, by name.
    pub async fn list(&self, actor: &Actor) -> Result<Vec<Version>> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        let shipped = self.shipped.iter().cloned();
        let mut out: BTreeMap<String, Version> = shipped
            .map(|policy| {
                let version = Version { policy, version: 1, built_in: true, removed: false, created_by: None };
                (version.policy.name.clone(), version)
            })
            .collect();
        for record in read.documents().list(DocumentKind::Policy, &actor.tenant).await? {
            out.insert(record.name.clone(), version_of(record)?);
        }
        Ok(out.into_values().filter(|version| !version.removed).collect())
    }

    /// One policy.
    pub async fn get(&self, actor: &Actor, name: &str, version: Option<u32>) -> Result<Version> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        match version {
            Some(_) => self.find(read.as_ref(), &actor.tenant, name, version).await,
            None => self.in_force(read.as_ref(), &actor.tenant, name).await,
        }
    }

    /// Every version of a policy, newest first.
    pub async fn versions(&self, actor: &Actor, name: &str) -> Result<Vec<Version>> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        self.find(read.as_ref(), &actor.tenant, name, None).await?;
        let own = read.documents().versions(DocumentKind::Policy, &actor.tenant, name).await?;
        let mut out: Vec<Version> = own.into_iter().map(version_of).collect::<Result<_>>()?;
        if let Some(policy) = self.shipped.iter().find(|policy| policy.name == name) {
            out.push(Version { policy: policy.clone(), version: 1, built_in: true, removed: false, created_by: None });
        }
        Ok(out)
    }

    /// Makes a policy; 409 when there is one of its name.
    pub async fn create(&self, actor: &Actor, policy: Policy) -> Result<Version> {
        self.write(actor, policy, false, None, Some(false)).await
    }

    /// Adds a version of a policy.
    pub async fn update(&self, actor: &Actor, policy: Policy, expected: Option<i64>) -> Result<Version> {
        self.write(actor, policy, false, expected, None).await
    }

    /// Takes a policy out of force. Its versions stay.
    pub async fn remove(&self, actor: &Actor, name: &str, expected: Option<i64>) -> Result<()> {
        let found = self.get(actor, name, None).await?;
        self.write(actor, found.policy, true, expected, Some(true)).await.map(drop)
    }

    /// Puts an earlier version in force again, as a new version.
    pub async fn roll_back(&self, actor: &Actor, name: &str, version: u32, expected: Option<i64>) -> Result<Version> {
        actor.require(Permission::AdminPolicies)?;
        let found = self.get(actor, name, Some(version)).await?;
        self.write(actor, found.policy, false, expected, None).await
    }

    /// Writes a version. `there` says whether the policy must be in force already.
    async fn write(
        &self,
        actor: &Actor,
        policy: Policy,
        removed: bool,
        expected: Option<i64>,
        there: Option<bool>,
    ) -> Result<Version> {
        actor.require(Permission::AdminPolicies)?;
        policy.validate()?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            document::lock(unit.as_ref(), DocumentKind::Policy, &actor.tenant).await?;
            let newest = match self.find(unit.as_ref(), &actor.tenant, &policy.name, None).await {
                Ok(found) => Some(found),
                Err(error) if error.kind == Kind::NotFound => None,
                Err(error) => return Err(error),
            };
            let in_force = newest.as_ref().is_some_and(|newest| !newest.removed);
            if there == Some(false) && in_force {
                let words = format!("there is a policy {:?}", policy.name);
                return Err(Error::new(Kind::Conflict, "POLICY_EXISTS", words));
            }
            let stored = Stored { policy: policy.clone(), removed };
            let data = serde_json::to_value(&stored).context("a policy cannot be written")?;
            let present = newest.map_or(0, |newest| newest.version);
            let new = NewVersion { name: policy.name.clone(), present, expected, data };
            let record = document::append(unit.as_ref(), actor, DocumentKind::Policy, new, self.deps.clock.now()).await?;
            let action = if removed { "policy.remove" } else { "policy.put" };
            let entry = Event::new(action, "policy", &policy.name).after(&record.data);
            self.deps.audit.append(unit.as_ref(), actor, entry.detail(json!({ "version": record.version }))).await?;
            unit.commit().await?;
            version_of(record)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// What a policy in force says of a manifest. `verified` is what a verification of its signature said.
    pub async fn evaluate(&self, actor: &Actor, manifest: ManifestId, name: &str, verified: Option<&Value>) -> Result<Verdict> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        let found = read.manifests().get(&actor.tenant, manifest).await?;
        let record = found.filter(|record| actor.reach.sees(record)).ok_or_else(|| Error::not_found("manifest"))?;
        let version = self.in_force(read.as_ref(), &actor.tenant, name).await?;
        self.judge(read.as_ref(), &record, version, verified).await
    }

    /// What a policy in force says of content that is not stored here.
    pub async fn evaluate_upload(&self, actor: &Actor, name: &str, examined: &Examined) -> Result<Verdict> {
        actor.require(Permission::ManifestRead)?;
        let version = self.in_force(self.deps.database.read().await?.as_ref(), &actor.tenant, name).await?;
        Ok(Compiled::new(version.policy, version.version).evaluate(&facts::of_upload(examined)?))
    }

    async fn judge(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        version: Version,
        verified: Option<&Value>,
    ) -> Result<Verdict> {
        let facts = facts::of(record, verified, self.approval(unit, record).await?)?;
        Ok(Compiled::new(version.policy, version.version).evaluate(&facts))
    }

    /// What a workflow says about a manifest that it published.
    async fn approval(&self, unit: &dyn UnitOfWork, record: &ManifestRecord) -> Result<Option<Value>> {
        if record.signed.is_none() {
            return Ok(None);
        }
        let workflow = unit.workflows().of_manifest(&record.tenant, record.id, false).await?;
        let Some(workflow) = workflow else { return Ok(None) };
        // Only what was approved was signed with its approval; a chain of decisions tells which.
        let approved = |vote: &Value| vote["action"].as_str().is_some();
        let chain = workflow.data.get("chain").and_then(Value::as_array).filter(|chain| chain.iter().any(approved));
        let signed_in_it = chain.is_some() && !workflow.open;
        Ok(signed_in_it.then(|| json!({ "workflow_id": workflow.id, "state": workflow.state })))
    }

    /// Has a policy tried on everything that the actor sees; the job that does it.
    pub async fn dry_run(&self, actor: &Actor, candidate: Policy) -> Result<JobId> {
        actor.require(Permission::AdminPolicies)?;
        candidate.validate()?;
        let order = DryRunOrder { candidate, reach: actor.reach.clone() };
        let unit = self.deps.database.begin().await?;
        let new = NewJob {
            tenant: Some(actor.tenant.clone()),
            kind: DRY_RUN,
            payload: serde_json::to_value(&order).context("an order cannot be written")?,
            unique_key: Some(format!("{DRY_RUN}:{}:{}", actor.tenant, order.candidate.name)),
            priority: 0,
            run_at: self.deps.clock.now(),
            max_attempts: 3,
        };
        let made = self.deps.jobs.enqueue(unit.as_ref(), new).await?;
        let words = "this policy is being tried already";
        let id = made.ok_or_else(|| Error::new(Kind::Conflict, "JOB_EXISTS", words))?;
        self.deps.audit.append(unit.as_ref(), actor, Event::new("policy.dry_run", "policy", &order.candidate.name)).await?;
        unit.commit().await?;
        Ok(id)
    }

    /// Tries a policy on everything that is stored, drafts and signed, and says how far it is.
    pub async fn run_dry(&self, tenant: &TenantId, order: &DryRunOrder, progress: &Progress) -> Result<()> {
        let name = &order.candidate.name;
        let read = self.deps.database.read().await?;
        let present = match self.in_force(read.as_ref(), tenant, name).await {
            Ok(version) => Some(Compiled::new(version.policy, version.version)),
            Err(error) if error.kind == Kind::NotFound => None,
            Err(error) => return Err(error),
        };
        let candidate = Compiled::new(order.candidate.clone(), 0);
        let mut out = DryRun { total: read.manifests().count(tenant, None).await?, ..DryRun::default() };
        for state in [ManifestState::Draft, ManifestState::Signed] {
            let filter = ManifestFilter { state: Some(state), reach: Some(order.reach.clone()), ..ManifestFilter::default() };
            let mut after = None;
            loop {
                let unit = self.deps.database.replica().await?;
                let page = unit.manifests().list(tenant, &filter, Page { after, limit: 500 }).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.id.0);
                for record in page {
                    let facts = facts::of(&record, None, self.approval(unit.as_ref(), &record).await?)?;
                    out.examined += 1;
                    let (now, then) =
                        (present.as_ref().is_none_or(|p| p.evaluate(&facts).passed), candidate.evaluate(&facts).passed);
                    out.failing += u64::from(!then);
                    out.would_newly_pass += u64::from(!now && then);
                    if now && !then {
                        out.would_newly_fail += 1;
                        if out.first.len() < NAMED {
                            out.first.push(record.id);
                        }
                    }
                }
                out.summary = summary(&out);
                progress.set(&out);
            }
        }
        out.summary = summary(&out);
        progress.set(&out);
        Ok(())
    }
}

fn summary(run: &DryRun) -> String {
    format!(
        "would newly fail: {}, would newly pass: {}, of {} examined",
        run.would_newly_fail, run.would_newly_pass, run.examined
    )
}

#[async_trait]
impl Standing for Policies {
    async fn against(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
        _: &TenantSettings,
        names: &BTreeSet<String>,
    ) -> Result<Vec<String>> {
        let mut out = Vec::new();
        for name in names {
            // A policy that is asked for and not there is not passed.
            let version = match self.in_force(unit, &record.tenant, name).await {
                Ok(version) => version,
                Err(error) if error.kind == Kind::NotFound => {
                    out.push(format!("{name}: {}", error.message));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let verdict = self.judge(unit, record, version, None).await?;
            if verdict.shadow || verdict.passed {
                continue;
            }
            let broken = verdict.rules.iter().filter(|rule| !rule.passed && rule.severity == crate::model::Severity::Error);
            out.extend(broken.map(|rule| {
                format!("{name}: {} at {}: expected {}, found {}", rule.rule, rule.location, rule.expected, rule.actual)
            }));
        }
        Ok(out)
    }
}
