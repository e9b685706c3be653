//! The use cases: record evidence, check a manifest, override a rule with two people. What a policy says is computed anew whenever
//! it is asked for; what is kept serves to find what depends on evidence, and to notice when it turns.

mod evidence;
mod overrides;
mod policies;
mod recheck;
mod standing;

pub use evidence::NewClearance;
pub use overrides::NewOverride;
pub use policies::PolicyVersion;
pub use recheck::{LOOK, Looked, RECHECK, REMEASURE, RecheckOrder};

use crate::{
    model::{Evidence, Override, Policy, Report},
    pii,
    redaction::{self, Found},
    rules::{self, Input},
};
use hmac::{Hmac, KeyInit, Mac};
use omt_audit::{AuditTrail, Event};
use omt_claims::{definition::ClaimDefinition, metadata::Extracted, service::Redaction};
use omt_jobs::Jobs;
use omt_kernel::{
    Actor, Error, EvidenceId, FieldError, Kind, ManifestId, OffsetDateTime, Permission, Result, TenantId, TenantSettings,
    error::Context as _,
    governance::BY_SETTINGS,
    manifest::{BlobRef, Classification, ManifestRecord},
    port::{Clock, Database, Entropy, People, UnitOfWork},
    retry,
    storage::Tier,
    tenant::settings,
};
use omt_notify::Notices;
use serde_json::json;
use sha2::Sha256;
use std::{collections::BTreeSet, sync::Arc};

/// How people are hashed: with a secret of this platform, so that a name cannot be looked up by trying.
pub struct Subjects(pub [u8; 32]);

impl Subjects {
    /// A person's hash. Case and spaces make no difference.
    pub fn hash(&self, tenant: &TenantId, reference: &str) -> String {
        let folded = reference.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        // Any length of key is good for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(tenant.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(folded.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
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
    /// Who may do what.
    pub people: Arc<dyn People>,
    /// Messages.
    pub notices: Arc<Notices>,
    /// How people are hashed.
    pub subjects: Subjects,
}

/// What a policy says now.
struct Said {
    report: Report,
    /// What it depends on.
    keys: BTreeSet<String>,
    /// When it may say otherwise by itself.
    turns_at: Option<OffsetDateTime>,
}

/// Everything that policies decide from about one manifest, read once, whatever number of them is asked.
struct Measured<'a> {
    record: &'a ManifestRecord,
    settings: &'a TenantSettings,
    extracted: Extracted,
    definition: ClaimDefinition,
    evidence: Vec<(EvidenceId, Evidence)>,
    ingredients: Vec<(String, Option<Classification>)>,
    workflow: Option<String>,
    stored: Vec<(&'static str, Option<Tier>)>,
    found_persons: BTreeSet<String>,
    overrides: Vec<Override>,
    /// What every report depends on.
    keys: BTreeSet<String>,
    now: OffsetDateTime,
}

impl Measured<'_> {
    /// What a policy says, and what that depends on.
    fn say(&self, policy: &Policy) -> Said {
        let input = Input {
            record: self.record,
            extracted: &self.extracted,
            definition: &self.definition,
            evidence: &self.evidence,
            settings: self.settings,
            ingredients: &self.ingredients,
            workflow: self.workflow.as_deref(),
            stored: &self.stored,
            found_persons: &self.found_persons,
            now: self.now,
        };
        let mut keys = self.keys.clone();
        keys.insert(recheck::by_policy(&policy.name));
        let turns_at = rules::turns_at(&input, &self.overrides);
        Said { report: rules::evaluate(policy, &input, &self.overrides), keys, turns_at }
    }
}

/// The use cases.
pub struct Compliance {
    deps: Dependencies,
    shipped: Vec<Policy>,
}

impl Compliance {
    /// The room, over its ports.
    pub fn new(deps: Dependencies) -> Self {
        Self { deps, shipped: Policy::shipped() }
    }

    /// Checks a manifest by a policy, and keeps the report.
    pub async fn check(&self, actor: &Actor, manifest: ManifestId, policy: &str) -> Result<Report> {
        actor.require(Permission::ComplianceCheck)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            self.measuring(unit.as_ref(), manifest).await?;
            let record = self.visible(unit.as_ref(), actor, manifest).await?;
            let policy = self.policy(unit.as_ref(), &actor.tenant, policy).await?;
            let settings = settings(unit.as_ref(), &actor.tenant).await?;
            let said = self.measure(unit.as_ref(), &record, &settings).await?.say(&policy);
            self.keep(unit.as_ref(), &record, &said, true).await?;
            let report = said.report;
            let entry = Event::new("compliance.check", "manifest", manifest)
                .tell("compliance.checked", &record)
                .detail(json!({ "policy": report.policy, "status": report.status }));
            self.deps.audit.append(unit.as_ref(), actor, entry).await?;
            unit.commit().await?;
            Ok(report)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// What every policy that was ever asked about a manifest says of it now.
    pub async fn reports(&self, actor: &Actor, manifest: ManifestId) -> Result<Vec<Report>> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        let record = self.visible(read.as_ref(), actor, manifest).await?;
        let settings = settings(read.as_ref(), &actor.tenant).await?;
        let mut names: BTreeSet<String> = settings.compliance.get(&record.classification).cloned().unwrap_or_default();
        names.extend(read.compliance().reports(&actor.tenant, manifest).await?.into_iter().map(|report| report.policy));
        let measured = self.measure(read.as_ref(), &record, &settings).await?;
        let mut out = Vec::new();
        for name in names {
            // Settings may name what was never made; workflows say so.
            let policy = self.find(read.as_ref(), &actor.tenant, &name).await?;
            out.extend(policy.map(|policy| measured.say(&policy).report));
        }
        Ok(out)
    }

    /// How a draft looks without personal data of these kinds: all that is found, when none is named, but for the names of people in the
    /// picture. Also what is found, and the revision that this is about.
    pub async fn redaction(
        &self,
        actor: &Actor,
        id: ManifestId,
        kinds: &BTreeSet<pii::Kind>,
    ) -> Result<(Redaction, Vec<Found>, i64)> {
        actor.require(Permission::ManifestUpdate)?;
        let record = self.visible(self.deps.database.read().await?.as_ref(), actor, id).await?;
        let (extracted, definition) = read_parts(&record)?;
        if !extracted.is_read(&record.media_type, record.source.size) {
            let words = "not all metadata of the content is read, and so cannot be taken out";
            return Err(Error::new(Kind::Unprocessable, "REDACTION_INCOMPLETE", words));
        }
        let persons = kinds.contains(&pii::Kind::Name);
        let kinds = if kinds.is_empty() { pii::Kind::ALL.into() } else { kinds.clone() };
        let mut found = redaction::found(&record, &extracted, &definition, persons);
        found.retain(|(_, kind)| kinds.contains(kind));
        let (plan, left) = redaction::plan(&record, &definition, &found, &kinds);
        if !left.is_empty() {
            let mut error = Error::new(
                Kind::Unprocessable,
                "REDACTION_INCOMPLETE",
                "personal data stands in numbers or names of members of assertions; upload the content with other assertions",
            );
            let reason = |kind: pii::Kind| format!("{} cannot be taken out here", kind.as_str());
            error.fields =
                left.into_iter().map(|(at, kind)| FieldError { field: at.to_string(), reason: reason(kind) }).collect();
            return Err(error);
        }
        Ok((plan, found, record.revision))
    }

    async fn visible(&self, unit: &dyn UnitOfWork, actor: &Actor, id: ManifestId) -> Result<ManifestRecord> {
        let found = unit.manifests().get(&actor.tenant, id).await?;
        found.filter(|record| actor.reach.sees(record)).ok_or_else(|| Error::not_found("manifest"))
    }

    /// Reads what policies decide from.
    async fn measure<'a>(
        &self,
        unit: &dyn UnitOfWork,
        record: &'a ManifestRecord,
        settings: &'a TenantSettings,
    ) -> Result<Measured<'a>> {
        let (extracted, definition) = read_parts(record)?;
        let named = rules::named_persons(&extracted, &definition);
        let found_persons: BTreeSet<String> = named.iter().map(|name| self.deps.subjects.hash(&record.tenant, name)).collect();
        let mut keys: BTreeSet<String> = found_persons.iter().map(|person| format!("person:{person}")).collect();
        keys.insert(format!("content:{}", record.source.sha256));
        let mut evidence = self.evidence_about(unit, &record.tenant, &keys).await?;
        // No more is looked for than what counts.
        let declared: BTreeSet<String> = rules::declaration(&evidence, &record.source.sha256)
            .into_iter()
            .flat_map(|(_, declaration)| declaration.persons.iter().map(|person| format!("person:{person}")))
            .filter(|key| !keys.contains(key))
            .collect();
        evidence.extend(self.evidence_about(unit, &record.tenant, &declared).await?);
        keys.extend(declared);
        let ingredients = self.ingredients(unit, record).await?;
        // No evidence is about these; whoever changes a manifest of such bytes looks for them, or the settings.
        keys.insert(BY_SETTINGS.to_owned());
        keys.extend(record.ingredients.iter().map(|ingredient| recheck::by_ingredient(&ingredient.blob.sha256)));
        let workflow = unit.workflows().of_manifest(&record.tenant, record.id, false).await?;
        Ok(Measured {
            record,
            settings,
            extracted,
            definition,
            evidence,
            ingredients,
            workflow: workflow.map(|workflow| workflow.definition),
            stored: self.stored(unit, record).await?,
            found_persons,
            overrides: self.overrides_of(unit, record).await?,
            keys,
            now: self.deps.clock.now(),
        })
    }

    /// What is stored of a manifest itself, and where. Ingredients are classified as those are whose content they are.
    async fn stored(&self, unit: &dyn UnitOfWork, record: &ManifestRecord) -> Result<Vec<(&'static str, Option<Tier>)>> {
        if record.content_deleted_at.is_some() {
            return Ok(Vec::new());
        }
        let mut blobs: Vec<(&'static str, &BlobRef)> = Vec::new();
        blobs.extend(record.source_kept.then_some(("content", &record.source)));
        if let Some(signed) = &record.signed {
            blobs.extend((signed.asset != record.source).then_some(("signed content", &signed.asset)));
            blobs.push(("manifest", &signed.manifest_store));
        }
        let mut out = Vec::new();
        for (what, blob) in blobs {
            out.push((what, unit.blobs().find(&record.tenant, &blob.sha256).await?.map(|blob| blob.tier)));
        }
        Ok(out)
    }

    async fn evidence_about(
        &self,
        unit: &dyn UnitOfWork,
        tenant: &TenantId,
        keys: &BTreeSet<String>,
    ) -> Result<Vec<(EvidenceId, Evidence)>> {
        let read = |record: omt_kernel::governance::EvidenceRecord| {
            serde_json::from_value(record.data).context("evidence cannot be read").map(|evidence| (record.id, evidence))
        };
        unit.compliance().about(tenant, keys).await?.into_iter().map(read).collect()
    }

    async fn overrides_of(&self, unit: &dyn UnitOfWork, record: &ManifestRecord) -> Result<Vec<Override>> {
        let read = |found: omt_kernel::governance::OverrideRecord| {
            serde_json::from_value(found.data).context("an override cannot be read")
        };
        unit.compliance().overrides(&record.tenant, record.id).await?.into_iter().map(read).collect()
    }

    /// Ingredients, and the highest classification under which their bytes are known here.
    async fn ingredients(&self, unit: &dyn UnitOfWork, record: &ManifestRecord) -> Result<Vec<(String, Option<Classification>)>> {
        let mut out = Vec::new();
        for ingredient in &record.ingredients {
            let mut highest = None;
            for found in unit.blobs().uses(&record.tenant, &ingredient.blob.sha256).await? {
                if found.manifest == record.id {
                    continue;
                }
                let theirs = unit.manifests().get(&record.tenant, found.manifest).await?;
                // Whoever only has it as an ingredient too says nothing about it.
                let own = |other: &ManifestRecord| {
                    let asset = other.signed.as_ref().is_some_and(|signed| signed.asset.sha256 == ingredient.blob.sha256);
                    asset || other.source.sha256 == ingredient.blob.sha256
                };
                highest = highest.max(theirs.filter(own).map(|other| other.classification));
            }
            out.push((ingredient.title.clone(), highest));
        }
        Ok(out)
    }
}

/// What a record keeps of its content's metadata, and of what its claim will say.
fn read_parts(record: &ManifestRecord) -> Result<(Extracted, ClaimDefinition)> {
    let extracted = serde_json::from_value(record.metadata.clone()).context("metadata cannot be read")?;
    let definition = serde_json::from_value(record.definition.clone()).context("a definition cannot be read")?;
    Ok((extracted, definition))
}
