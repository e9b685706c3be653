//! The use cases: write policies in versions, ask what they say of content.

use crate::{
    ask::{Ask, Desk, Kept},
    facts::{self, Facts, Verified},
    model::{Given, Policy, Verdict},
    remembered::Remembered,
    shadow::{Findings, Watch},
    stand::Said,
};
use async_trait::async_trait;
use omt_audit::{AuditTrail, Event};
use omt_claims::service::Examined;
use omt_jobs::Jobs;
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, Result, TenantId,
    document::{self, DocumentKind, NewVersion, VersionRecord},
    error::Context as _,
    manifest::ManifestRecord,
    port::{Clock, Database, Entropy, Page, Telemetry, UnitOfWork},
    record::VerificationRecord,
    retry,
};
use omt_workflow::Standing;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// Threads that evaluate expressions and compile them for those who read and write policies, and how many may wait for one.
const THREADS: usize = 2;
const WAITING: usize = 256;
/// How long a verdict is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for guards: what readers ask is not in their way.
const GUARD_THREADS: usize = 2;
const GUARDS_WAITING: usize = 64;
/// How long guards wait for all the policies that they ask about: a transaction is open meanwhile.
const GUARD_PATIENCE: Duration = Duration::from_secs(3);
/// Versions of which it is remembered which one is in force beside them.
const BESIDE: u64 = 10_000;
/// Kept verifications that are looked through for one that did not turn warnings into issues.
const LOOKED_THROUGH: u32 = 20;

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
    pub policy: Arc<Policy>,
    /// Its number, from 1.
    pub version: u32,
    /// Every tenant has it.
    pub built_in: bool,
    /// It is in force no more.
    pub removed: bool,
    /// Who made it.
    pub created_by: Option<String>,
}

/// What stands against content, and what only says so.
#[derive(Debug, Clone)]
pub(crate) struct Force {
    /// The newest version that is no shadow.
    pub enforced: Option<Version>,
    /// The newest version, where it is a shadow.
    pub shadow: Option<Version>,
}

/// A version, and how it is in force.
#[derive(Debug, Clone)]
pub struct Shown {
    /// It.
    pub version: Version,
    /// The version of the policy that stands against content now.
    pub in_force: Option<u32>,
    /// What the shadow beside it would have stood against.
    pub findings: Option<Findings>,
}

/// What a policy says of content.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Answer {
    /// What its newest version says.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Where that is a shadow: what the version in force says, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Verdict>,
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
    /// Metrics.
    pub telemetry: Arc<dyn Telemetry>,
}

/// The use cases.
pub struct Policies {
    pub(crate) deps: Dependencies,
    shipped: Vec<Arc<Policy>>,
    /// Expressions run here, and never on the executor.
    readers: Desk,
    /// Those that guards and the gate before signing ask.
    guards: Desk,
    kept: Kept,
    remembered: Remembered,
    /// Of a shadow version, which one is in force beside it. Versions never change.
    beside: moka::sync::Cache<(TenantId, String, u32), Option<u32>>,
    watch: Arc<Watch>,
}

fn version_of(record: VersionRecord) -> Result<Version> {
    let stored: Stored = serde_json::from_value(record.data).context("a policy cannot be read")?;
    Ok(Version {
        policy: stored.policy.into(),
        version: record.version,
        built_in: false,
        removed: stored.removed,
        created_by: Some(record.created_by),
    })
}

fn removed(name: &str) -> Error {
    Error::new(Kind::NotFound, "UNKNOWN_POLICY", format!("the policy {name:?} was removed"))
}

impl Policies {
    /// The room, over its ports.
    pub fn new(deps: Dependencies) -> Result<Self> {
        let watch = Arc::new(Watch::start(deps.clock.clone(), deps.telemetry.clone())?);
        Ok(Self {
            deps,
            shipped: Policy::shipped()?.into_iter().map(Arc::new).collect(),
            readers: Desk::start(THREADS, WAITING, PATIENCE)?,
            guards: Desk::start(GUARD_THREADS, GUARDS_WAITING, GUARD_PATIENCE)?,
            kept: Kept::new(),
            remembered: Remembered::new(),
            beside: moka::sync::Cache::new(BESIDE),
            watch,
        })
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
        let found = match self.remembered.version(unit, tenant, name).await? {
            Some(known) => known,
            None => {
                let found = self.find(unit, tenant, name, None).await?;
                self.remembered.keep(tenant, &found);
                found
            }
        };
        if found.removed { Err(removed(name)) } else { Ok(found) }
    }

    /// What stands against content under a name: a shadow leaves the version before it in force.
    pub(crate) async fn force(&self, unit: &dyn UnitOfWork, tenant: &TenantId, name: &str) -> Result<Force> {
        let newest = self.in_force(unit, tenant, name).await?;
        if !newest.policy.shadow {
            return Ok(Force { enforced: Some(newest), shadow: None });
        }
        let key = (tenant.clone(), name.to_owned(), newest.version);
        if let Some(known) = self.beside.get(&key) {
            let enforced = match known {
                Some(version) => Some(self.find(unit, tenant, name, Some(version)).await?),
                None => None,
            };
            return Ok(Force { enforced, shadow: Some(newest) });
        }
        let mut enforced = None;
        for version in (1..newest.version).rev() {
            match self.find(unit, tenant, name, Some(version)).await {
                Ok(found) if found.policy.shadow && !found.removed => {}
                // What was removed stays so, whatever was before.
                Ok(found) => {
                    enforced = Some(found).filter(|found| !found.removed);
                    break;
                }
                Err(error) if error.kind == Kind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        self.beside.insert(key, enforced.as_ref().map(|version| version.version));
        Ok(Force { enforced, shadow: Some(newest) })
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

    /// One policy, which version of it is in force, and what its shadow found.
    pub async fn show(&self, actor: &Actor, name: &str, version: Option<u32>) -> Result<Shown> {
        let found = self.get(actor, name, version).await?;
        let read = self.deps.database.read().await?;
        let force = match self.force(read.as_ref(), &actor.tenant, name).await {
            Ok(force) => force,
            // An old version of what was removed.
            Err(error) if error.kind == Kind::NotFound => Force { enforced: None, shadow: None },
            Err(error) => return Err(error),
        };
        let shadow = force.shadow.filter(|shadow| shadow.version == found.version);
        let now = self.deps.clock.now();
        let findings = shadow.map(|shadow| self.watch.tally.findings(&actor.tenant, name, shadow.version, now));
        Ok(Shown { version: found, in_force: force.enforced.map(|version| version.version), findings })
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
        self.write(actor, Given::New(policy), None, Some(false)).await
    }

    /// Adds a version of a policy.
    pub async fn update(&self, actor: &Actor, policy: Policy, expected: Option<i64>) -> Result<Version> {
        self.write(actor, Given::New(policy), expected, None).await
    }

    /// Takes a policy out of force. Its versions stay.
    pub async fn remove(&self, actor: &Actor, name: &str, expected: Option<i64>) -> Result<()> {
        let found = self.get(actor, name, None).await?;
        self.write(actor, Given::Removed(Arc::unwrap_or_clone(found.policy)), expected, Some(true)).await.map(drop)
    }

    /// Puts an earlier version in force again, as a new version: as it was, whatever new policies are checked for since.
    pub async fn roll_back(&self, actor: &Actor, name: &str, version: u32, expected: Option<i64>) -> Result<Version> {
        actor.require(Permission::AdminPolicies)?;
        let found = self.get(actor, name, Some(version)).await?;
        self.write(actor, Given::Again(Arc::unwrap_or_clone(found.policy)), expected, None).await
    }

    /// Writes a version. `there` says whether the policy must be in force already: 409 where it must not and is, 404 where it must
    /// and is not.
    async fn write(&self, actor: &Actor, given: Given, expected: Option<i64>, there: Option<bool>) -> Result<Version> {
        actor.require(Permission::AdminPolicies)?;
        let removes = matches!(given, Given::Removed(_));
        let policy = match given {
            Given::New(_) => self.readers.run(move || given.checked()).await?,
            known => known.checked()?,
        };
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            document::lock(unit.as_ref(), DocumentKind::Policy, &actor.tenant).await?;
            let newest = match self.find(unit.as_ref(), &actor.tenant, &policy.name, None).await {
                Ok(found) => Some(found),
                Err(error) if error.kind == Kind::NotFound => None,
                Err(error) => return Err(error),
            };
            let in_force = newest.as_ref().is_some_and(|newest| !newest.removed);
            match there {
                Some(false) if in_force => {
                    let words = format!("there is a policy {:?}", policy.name);
                    return Err(Error::new(Kind::Conflict, "POLICY_EXISTS", words));
                }
                // Somebody else was first.
                Some(true) if !in_force => return Err(removed(&policy.name)),
                _ => {}
            }
            let stored = Stored { policy: policy.clone(), removed: removes };
            let data = serde_json::to_value(&stored).context("a policy cannot be written")?;
            let present = newest.map_or(0, |newest| newest.version);
            let new = NewVersion { name: policy.name.clone(), present, expected, data };
            let record = document::append(unit.as_ref(), actor, DocumentKind::Policy, new, self.deps.clock.now()).await?;
            let action = if removes { "policy.remove" } else { "policy.put" };
            let entry = Event::new(action, "policy", &policy.name).after(&record.data);
            self.deps.audit.append(unit.as_ref(), actor, entry.detail(json!({ "version": record.version }))).await?;
            unit.commit().await?;
            version_of(record)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Refuses a policy that means nothing. Reading expressions takes time.
    pub(crate) async fn valid(&self, policy: Policy) -> Result<Policy> {
        self.readers.run(move || Given::New(policy).checked()).await
    }

    /// What a policy says of a manifest. `verified` is what a verification of its signature said just now.
    pub async fn evaluate(&self, actor: &Actor, manifest: ManifestId, name: &str, verified: Verified<'_>) -> Result<Answer> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        let subject = self.remembered.subject(read.as_ref(), &actor.tenant, manifest);
        let (subject, force) = tokio::join!(subject, self.force(read.as_ref(), &actor.tenant, name));
        let subject = subject?.filter(|subject| actor.reach.sees(&subject.record)).ok_or_else(|| Error::not_found("manifest"))?;
        let facts = match verified {
            Verified::No => subject.facts()?,
            verified => Arc::new(facts::of(&subject.record, verified)?),
        };
        // Nothing is held while expressions run.
        drop(read);
        self.answer(&actor.tenant, force?, facts).await
    }

    /// What a policy says of content that is not stored here.
    pub async fn evaluate_upload(&self, actor: &Actor, name: &str, examined: &Examined) -> Result<Answer> {
        actor.require(Permission::ManifestRead)?;
        let force = self.force(self.deps.database.read().await?.as_ref(), &actor.tenant, name).await?;
        self.answer(&actor.tenant, force, Arc::new(facts::of_upload(examined)?)).await
    }

    async fn answer(&self, tenant: &TenantId, force: Force, facts: Arc<Facts>) -> Result<Answer> {
        let missing = || Error::internal("a policy has no version");
        let (newest, beside) = match force.shadow {
            Some(shadow) => (shadow, force.enforced),
            None => (force.enforced.ok_or_else(missing)?, None),
        };
        let desk = &self.readers;
        let verdict = self.judge(desk, self.ask(tenant, newest), &facts, desk.until()).await?;
        let in_force = match beside {
            Some(version) => Some(self.judge(desk, self.ask(tenant, version), &facts, desk.until()).await?),
            None => None,
        };
        Ok(Answer { verdict, in_force })
    }

    /// What a version says, or said of the same before.
    async fn judge(&self, desk: &Desk, ask: Ask, facts: &Arc<Facts>, until: Instant) -> Result<Verdict> {
        if let (Some(_), said) = ask.said(facts) {
            self.deps.telemetry.cache("policy_verdict", said.is_some());
            if let Some(said) = said {
                return Ok(said);
            }
        }
        desk.judge(ask, facts, until).await
    }

    /// A version to be asked.
    fn ask(&self, tenant: &TenantId, version: Version) -> Ask {
        let ask = self.kept.ask(tenant, version);
        self.deps.telemetry.cache("policy", ask.is_known());
        ask
    }

    /// The newest kept verification of a signed manifest, if there ever was one. Not one that turned warnings into issues.
    pub(crate) async fn verification(
        &self,
        unit: &dyn UnitOfWork,
        record: &ManifestRecord,
    ) -> Result<Option<VerificationRecord>> {
        if record.signed.is_none() {
            return Ok(None);
        }
        let plain = |kept: &VerificationRecord| kept.report.get("strict") != Some(&Value::Bool(true));
        let mut after = None;
        for limit in [1, LOOKED_THROUGH] {
            let page = unit.verifications().history(&record.tenant, record.id, Page { after, limit }).await?;
            after = page.last().map(|kept| kept.id.0);
            if let Some(found) = page.into_iter().find(plain) {
                return Ok(Some(found));
            }
            if after.is_none() {
                break;
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Standing for Policies {
    async fn against(&self, unit: &dyn UnitOfWork, record: &ManifestRecord, names: &BTreeSet<String>) -> Result<Vec<String>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let kept = self.verification(unit, record).await?;
        let facts = Arc::new(facts::of(record, kept.as_ref().into())?);
        // One limit for all of them.
        let until = self.guards.until();
        let mut said = Said::default();
        for name in names {
            // A policy that is asked for and not there is not passed.
            let force = match self.force(unit, &record.tenant, name).await {
                Ok(force) => force,
                Err(error) if error.kind == Kind::NotFound => {
                    said.missing(format!("{name}: {}", error.message));
                    continue;
                }
                Err(error) => return Err(error),
            };
            // A transaction may be open: nobody waits for what stands against nothing.
            if let Some(shadow) = force.shadow {
                self.watch.look(self.ask(&record.tenant, shadow), record.id, facts.clone());
            }
            let Some(version) = force.enforced else { continue };
            let answer = self.judge(&self.guards, self.ask(&record.tenant, version), &facts, until).await;
            said.hear(name, answer)?;
        }
        said.reasons()
    }
}
