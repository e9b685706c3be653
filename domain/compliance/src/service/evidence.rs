//! Records of evidence: who brings which, and what becomes of what depends on it.

use super::{Compliance, RecheckOrder};
use crate::{
    model::{Area, Clearance, Consent, Declaration, Evidence, Rights},
    rules,
};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, EvidenceId, FieldError, Kind, ManifestId, Permission, Result,
    calendar::is_in_calendar,
    check_revision,
    error::Context as _,
    governance::{EvidenceFilter, EvidenceRecord},
    manifest::{ManifestRecord, is_sha256},
    person::person,
    port::{Page, UnitOfWork},
    retry,
    tenant::settings,
};
use serde_json::json;
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// The most people of one declaration.
const MAX_PERSONS: usize = 500;

fn text(field: &str, value: &str, most: usize) -> Result<()> {
    let good = !value.trim().is_empty() && value.len() <= most && !value.chars().any(char::is_control);
    if good { Ok(()) } else { Err(Error::unprocessable_field("INVALID_FIELD", field, format!("must have 1 to {most} bytes"))) }
}

fn digest(field: &str, value: &str) -> Result<()> {
    let words = "must be a SHA-256 in lower-case hexadecimal";
    if is_sha256(value) { Ok(()) } else { Err(Error::unprocessable_field("INVALID_FIELD", field, words)) }
}

fn countries(field: &str, codes: &BTreeSet<String>) -> Result<()> {
    let good = codes.len() <= 250 && codes.iter().all(|code| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase()));
    let words = "must be countries such as SG (ISO 3166-1 alpha-2)";
    if good { Ok(()) } else { Err(Error::unprocessable_field("INVALID_FIELD", field, words)) }
}

fn later(field: &str, at: Option<OffsetDateTime>, than: OffsetDateTime) -> Result<()> {
    match at {
        Some(at) if at <= than => Err(Error::unprocessable_field("INVALID_FIELD", field, "must be later")),
        _ => Ok(()),
    }
}

/// Refuses a time that lies outside of the years that can be kept.
pub(super) fn dated(field: &str, at: Option<OffsetDateTime>) -> Result<()> {
    let words = "must lie in the years 0 to 9999, in UTC";
    match at {
        Some(at) if !is_in_calendar(at) => Err(Error::unprocessable_field("INVALID_FIELD", field, words)),
        _ => Ok(()),
    }
}

/// Refuses a record about other content than what the manifest has now.
fn check_content(record: &ManifestRecord, seen: Option<&str>) -> Result<()> {
    let now = &record.source.sha256;
    match seen {
        Some(seen) if seen != now => {
            let words = format!("the manifest's content is {now}, not {seen}");
            let mut error = Error::new(Kind::Conflict, "OTHER_CONTENT", words);
            error.fields = vec![FieldError { field: "content_sha256".to_owned(), reason: format!("must be {now}") }];
            Err(error)
        }
        _ => Ok(()),
    }
}

/// What evidence about a manifest's content is found by.
fn about(record: &ManifestRecord) -> String {
    format!("content:{}", record.source.sha256)
}

/// Whether the same person is behind the actor and another subject.
pub(super) async fn is_same(unit: &dyn UnitOfWork, actor: &Actor, subject: &str) -> Result<bool> {
    Ok(person(unit, &actor.tenant, &actor.subject).await? == person(unit, &actor.tenant, subject).await?)
}

/// A decision to be recorded.
#[derive(Debug, Clone)]
pub struct NewClearance {
    /// On which manifest's content.
    pub manifest: ManifestId,
    /// What about.
    pub area: Area,
    /// Whether it is cleared.
    pub cleared: bool,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
}

impl Compliance {
    /// A person's hash, for records about them.
    pub fn subject(&self, actor: &Actor, reference: &str) -> Result<String> {
        text("subject", reference, 512)?;
        Ok(self.deps.subjects.hash(&actor.tenant, reference))
    }

    /// Records a consent.
    pub async fn add_consent(&self, actor: &Actor, reference: &str, mut consent: Consent) -> Result<EvidenceRecord> {
        actor.require(Permission::ComplianceCheck)?;
        consent.subject = self.subject(actor, reference)?;
        text("purpose", &consent.purpose, 128)?;
        text("scope", &consent.scope, 1_000)?;
        digest("document_sha256", &consent.document_sha256)?;
        dated("given_at", Some(consent.given_at))?;
        dated("expires_at", consent.expires_at)?;
        later("expires_at", consent.expires_at, consent.given_at)?;
        let key = format!("person:{}", consent.subject);
        self.add(actor, key, Evidence::Consent(consent), None).await
    }

    /// Records a decision on a manifest's content, made by the actor now. Its author does not clear their own.
    pub async fn add_clearance(&self, actor: &Actor, new: NewClearance, seen: Option<&str>) -> Result<EvidenceRecord> {
        actor.require(Permission::ComplianceCheck)?;
        text("reason", &new.reason, 2_000)?;
        let now = self.deps.clock.now();
        dated("expires_at", new.expires_at)?;
        later("expires_at", new.expires_at, now)?;
        let read = self.deps.database.read().await?;
        let record = self.looked_at(read.as_ref(), actor, new.manifest, seen).await?;
        let role = self.check_may_clear(read.as_ref(), actor, new.area, &record.source.sha256).await?;
        let clearance = Clearance {
            area: new.area,
            content_sha256: record.source.sha256.clone(),
            cleared: new.cleared,
            reason: new.reason,
            decided_by: actor.subject.clone(),
            role,
            decided_at: now,
            expires_at: new.expires_at,
            withdrawn_at: None,
        };
        self.add(actor, about(&record), Evidence::Clearance(clearance), Some(&record)).await
    }

    /// The manifest that a record is about, and that it is about the content which its maker looked at, where they say which.
    async fn looked_at(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        manifest: ManifestId,
        seen: Option<&str>,
    ) -> Result<ManifestRecord> {
        if let Some(seen) = seen {
            digest("content_sha256", seen)?;
        }
        let record = self.visible(unit, actor, manifest).await?;
        check_content(&record, seen)?;
        Ok(record)
    }

    /// Records a right to use a manifest's content.
    pub async fn add_rights(
        &self,
        actor: &Actor,
        manifest: ManifestId,
        mut rights: Rights,
        seen: Option<&str>,
    ) -> Result<EvidenceRecord> {
        actor.require(Permission::ComplianceCheck)?;
        text("holder", &rights.holder, 512)?;
        text("licence", &rights.licence, 512)?;
        countries("territories", &rights.territories)?;
        dated("from", rights.from)?;
        dated("until", rights.until)?;
        if let Some(from) = rights.from {
            later("until", rights.until, from)?;
        }
        let record = self.looked_at(self.deps.database.read().await?.as_ref(), actor, manifest, seen).await?;
        rights.content_sha256.clone_from(&record.source.sha256);
        self.add(actor, about(&record), Evidence::Rights(rights), Some(&record)).await
    }

    /// Records what somebody says of a manifest's content; the newest counts. What one says who checks compliance and did not make
    /// it is replaced only by such a one.
    pub async fn declare(
        &self,
        actor: &Actor,
        manifest: ManifestId,
        persons: &[String],
        mut declaration: Declaration,
        seen: Option<&str>,
    ) -> Result<EvidenceRecord> {
        actor.require_one(Permission::DECLARE)?;
        if persons.len() > MAX_PERSONS {
            return Err(Error::unprocessable_field("INVALID_FIELD", "persons", "at most 500 are allowed"));
        }
        text("purpose", &declaration.purpose, 128)?;
        if !["public", "partners", "internal"].contains(&declaration.audience.as_str()) {
            let words = "must be public, partners or internal";
            return Err(Error::unprocessable_field("INVALID_FIELD", "audience", words));
        }
        countries("destinations", &declaration.destinations)?;
        if let Some(code) = &declaration.export_code {
            text("export_code", code, 64)?;
        }
        let read = self.deps.database.read().await?;
        let record = self.looked_at(read.as_ref(), actor, manifest, seen).await?;
        let content = &record.source.sha256;
        declaration.reviewed = actor.may(Permission::ComplianceCheck) && !self.has_made(read.as_ref(), actor, content).await?;
        if !declaration.reviewed {
            let present = self.evidence_about(read.as_ref(), &actor.tenant, &[about(&record)].into()).await?;
            if rules::declaration(&present, content).is_some_and(|(_, present)| present.reviewed) {
                let words =
                    "a reviewer has declared what this is; others who check compliance, and did not make it, may declare it anew";
                return Err(Error::new(Kind::Forbidden, "REVIEWED_DECLARATION", words));
            }
        }
        drop(read);
        declaration.content_sha256.clone_from(content);
        declaration.persons = persons.iter().map(|person| self.subject(actor, person)).collect::<Result<_>>()?;
        self.add(actor, about(&record), Evidence::Declaration(declaration), Some(&record)).await
    }

    /// Keeps a record. `content` is a manifest of the content that it is about; those about people are about none.
    async fn add(
        &self,
        actor: &Actor,
        key: String,
        evidence: Evidence,
        content: Option<&ManifestRecord>,
    ) -> Result<EvidenceRecord> {
        let now = self.deps.clock.now();
        let record = EvidenceRecord {
            id: EvidenceId(self.deps.entropy.uuid_v7(now)),
            tenant: actor.tenant.clone(),
            kind: evidence.kind().to_owned(),
            key,
            revision: 1,
            data: serde_json::to_value(&evidence).context("evidence cannot be written")?,
            created_by: actor.subject.clone(),
            created_at: now,
            updated_at: now,
        };
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            unit.compliance().insert_evidence(&record).await?;
            self.changed(unit.as_ref(), actor, &record, ("add", "compliance.evidence_added"), content).await?;
            unit.commit().await
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await?;
        Ok(record)
    }

    /// Takes evidence back: a consent, a clearance, a right. The record stays, and says when.
    pub async fn withdraw(&self, actor: &Actor, id: EvidenceId, if_match: Option<i64>) -> Result<EvidenceRecord> {
        actor.require(Permission::ComplianceCheck)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let found = unit.compliance().evidence(&actor.tenant, id).await?;
            let mut record = found.ok_or_else(|| Error::not_found("evidence"))?;
            let content = self.check_seen(unit.as_ref(), actor, &record).await?;
            check_revision("record", record.revision, if_match)?;
            let now = self.deps.clock.now();
            let mut evidence: Evidence = serde_json::from_value(record.data.clone()).context("evidence cannot be read")?;
            let withdrawn = match &mut evidence {
                Evidence::Consent(consent) => &mut consent.withdrawn_at,
                Evidence::Clearance(clearance) => {
                    // Taking a decision back is one more decision.
                    self.check_may_clear(unit.as_ref(), actor, clearance.area, &clearance.content_sha256).await?;
                    &mut clearance.withdrawn_at
                }
                Evidence::Rights(rights) => &mut rights.withdrawn_at,
                Evidence::Declaration(_) => {
                    let words = "a declaration is replaced by a newer one";
                    return Err(Error::new(Kind::Conflict, "NOT_WITHDRAWABLE", words));
                }
            };
            if withdrawn.is_some() {
                return Ok(record);
            }
            *withdrawn = Some(now);
            let expected = record.revision;
            record.revision += 1;
            record.updated_at = now;
            record.data = serde_json::to_value(&evidence).context("evidence cannot be written")?;
            if !unit.compliance().update_evidence(&record, expected).await? {
                let words = "somebody else changed the record at the same time";
                return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", words));
            }
            let what = ("withdraw", "compliance.evidence_withdrawn");
            self.changed(unit.as_ref(), actor, &record, what, content.as_ref()).await?;
            unit.commit().await?;
            Ok(record)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// What follows from a change of evidence: an entry of the log, of which listeners hear where it is about content, and another look
    /// at what depends on it.
    async fn changed(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        record: &EvidenceRecord,
        (what, told): (&str, &'static str),
        content: Option<&ManifestRecord>,
    ) -> Result<()> {
        let entry = Event::new(format!("evidence.{what}"), "evidence", record.id).after(&record.data);
        let entry = match content {
            Some(content) => entry.tell(told, content),
            None => entry,
        };
        self.deps.audit.append(unit, actor, entry.detail(json!({ "kind": record.kind }))).await?;
        let what = format!("{}:{}", record.id, record.revision);
        self.recheck_later(unit, &record.tenant, RecheckOrder::new(record.key.clone()), &what).await
    }

    /// One record.
    pub async fn evidence(&self, actor: &Actor, id: EvidenceId) -> Result<EvidenceRecord> {
        actor.require_one(Permission::SEE_EVIDENCE)?;
        let read = self.deps.database.read().await?;
        let found = read.compliance().evidence(&actor.tenant, id).await?.ok_or_else(|| Error::not_found("evidence"))?;
        self.check_seen(read.as_ref(), actor, &found).await?;
        Ok(found)
    }

    /// Evidence about content is for those who see a manifest of that content: the manifest, where it is about content.
    async fn check_seen(&self, unit: &dyn UnitOfWork, actor: &Actor, record: &EvidenceRecord) -> Result<Option<ManifestRecord>> {
        let Some(sha256) = record.key.strip_prefix("content:") else { return Ok(None) };
        for found in unit.blobs().uses(&actor.tenant, sha256).await? {
            let about = unit.manifests().get(&actor.tenant, found.manifest).await?;
            let about = about.filter(|about| about.source.sha256 == sha256 && actor.reach.sees(about));
            if about.is_some() {
                return Ok(about);
            }
        }
        Err(Error::not_found("evidence"))
    }

    /// Whether the actor made a manifest of this content, whether by themselves or with a key.
    async fn has_made(&self, unit: &dyn UnitOfWork, actor: &Actor, sha256: &str) -> Result<bool> {
        for found in unit.blobs().uses(&actor.tenant, sha256).await? {
            let made = unit.manifests().get(&actor.tenant, found.manifest).await?;
            if let Some(made) = made.filter(|made| made.source.sha256 == sha256)
                && is_same(unit, actor, &made.created_by).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Refuses whoever may not decide about content: those without the role, programs, and whoever made a manifest of it.
    async fn check_may_clear(&self, unit: &dyn UnitOfWork, actor: &Actor, area: Area, sha256: &str) -> Result<String> {
        if self.has_made(unit, actor, sha256).await? {
            return Err(Error::new(Kind::Forbidden, "FOUR_EYES", "the author of the content does not clear it"));
        }
        let roles = self.deps.people.actor(unit, actor).await?.roles;
        let allowed = settings(unit, &actor.tenant).await?.clearance_roles;
        let allowed = allowed.get(area.as_str()).cloned().unwrap_or_default();
        roles.intersection(&allowed).next().cloned().ok_or_else(|| {
            let words = format!("{} is decided by {}", area.as_str(), allowed.into_iter().collect::<Vec<_>>().join(", "));
            Error::new(Kind::Forbidden, "NOT_ELIGIBLE", words)
        })
    }

    /// Records, newest first; about a person or about a manifest's content where one is named.
    pub async fn list_evidence(
        &self,
        actor: &Actor,
        kind: Option<String>,
        person: Option<&str>,
        manifest: Option<ManifestId>,
        page: Page,
    ) -> Result<Vec<EvidenceRecord>> {
        actor.require_one(Permission::SEE_EVIDENCE)?;
        let read = self.deps.database.replica().await?;
        let key = match (person, manifest) {
            (Some(person), _) => Some(format!("person:{}", self.subject(actor, person)?)),
            (None, Some(manifest)) => {
                Some(format!("content:{}", self.visible(read.as_ref(), actor, manifest).await?.source.sha256))
            }
            (None, None) => {
                let words = "name a person or a manifest: evidence is shown to those who know what it is about";
                return Err(Error::invalid_field("INVALID_QUERY", "person", words));
            }
        };
        read.compliance().list_evidence(&actor.tenant, &EvidenceFilter { kind, key }, page).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::manifest::Classification;
    use time::macros::datetime;

    #[test]
    fn evidence_is_about_the_content_that_was_looked_at() {
        let mut record = crate::rule_tests::draft("t", Classification::Public);
        record.source.sha256 = "ab".repeat(32);
        assert!(check_content(&record, None).is_ok());
        assert!(check_content(&record, Some(&"ab".repeat(32))).is_ok());
        let error = check_content(&record, Some(&"cd".repeat(32))).unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Conflict, "OTHER_CONTENT"));
        assert!(error.message.contains(&"ab".repeat(32)) && error.message.contains(&"cd".repeat(32)), "{error}");
        assert!(digest("content_sha256", &"AB".repeat(32)).is_err());
    }

    #[test]
    fn times_lie_in_the_calendar_in_utc() {
        assert!(dated("until", None).is_ok());
        for at in [datetime!(9999-12-31 23:59:59 UTC), datetime!(9999-12-31 23:59:59 +23:59), datetime!(0000-01-01 0:00 UTC)] {
            assert!(dated("until", Some(at)).is_ok(), "{at}");
        }
        for at in [datetime!(9999-12-31 23:59:59 -23:59), datetime!(0000-01-01 0:00 +23:59)] {
            let error = dated("until", Some(at)).unwrap_err();
            assert_eq!((error.kind, error.code, error.fields[0].field.as_str()), (Kind::Unprocessable, "INVALID_FIELD", "until"));
        }
    }
}
