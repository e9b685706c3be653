//! Overrides: one person asks, another one agrees, both may, neither made the content; they end, and every later report shows them.

use super::{
    Compliance, RecheckOrder,
    evidence::{dated, is_same},
};
use crate::model::{Override, RuleName};
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, ManifestId, OffsetDateTime, Permission, Result, error::Context as _, governance::OverrideRecord, retry,
};
use omt_notify::Notice;
use serde_json::json;
use time::Duration;
use uuid::Uuid;

/// The longest that an override lasts.
const LONGEST: Duration = Duration::days(366);

/// An override that is asked for.
#[derive(Debug, Clone)]
pub struct NewOverride {
    /// For which manifest.
    pub manifest: ManifestId,
    /// Of which rule.
    pub rule: RuleName,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

impl Compliance {
    /// Asks for an override. It counts once a second person has agreed.
    pub async fn ask_override(&self, actor: &Actor, new: NewOverride) -> Result<Override> {
        actor.require(Permission::ComplianceOverride)?;
        check_person(actor)?;
        let now = self.deps.clock.now();
        if new.reason.trim().len() < 10 || new.reason.len() > 2_000 {
            return Err(Error::unprocessable_field("INVALID_FIELD", "reason", "must have 10 to 2000 bytes"));
        }
        dated("expires_at", Some(new.expires_at))?;
        if new.expires_at <= now || new.expires_at - now > LONGEST {
            return Err(Error::unprocessable_field("INVALID_FIELD", "expires_at", "must be within the next 366 days"));
        }
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let record = self.visible(unit.as_ref(), actor, new.manifest).await?;
            if is_same(unit.as_ref(), actor, &record.created_by).await? {
                let words = "the author of the content does not ask for an override";
                return Err(Error::new(Kind::Forbidden, "FOUR_EYES", words));
            }
            let made = Override {
                id: self.deps.entropy.uuid_v7(now),
                rule: new.rule,
                content_sha256: record.source.sha256.clone(),
                reason: new.reason.clone(),
                requested_by: actor.subject.clone(),
                requested_at: now,
                approved_by: None,
                approved_at: None,
                expires_at: new.expires_at,
            };
            unit.compliance().put_override(&to_record(actor, new.manifest, &made)?).await?;
            let entry = Event::new("compliance.override.ask", "manifest", new.manifest)
                .tell("compliance.override_requested", &record)
                .after(&made);
            self.deps.audit.append(unit.as_ref(), actor, entry.detail(json!({ "rule": made.rule }))).await?;
            let notice = Notice {
                audience: ["role:manager".to_owned()].into(),
                kind: "compliance.override.asked",
                data: json!({ "override_id": made.id, "manifest_id": new.manifest, "rule": made.rule, "content": record.title }),
                manifest: record.id,
            };
            self.deps.notices.tell(unit.as_ref(), &actor.tenant, notice).await?;
            unit.commit().await?;
            Ok(made)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// Agrees to an override that another person asked for.
    pub async fn approve_override(&self, actor: &Actor, id: Uuid) -> Result<Override> {
        actor.require(Permission::ComplianceOverride)?;
        check_person(actor)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            unit.lock(&format!("override:{id}")).await?;
            let missing = || Error::not_found("override");
            let record = unit.compliance().get_override(&actor.tenant, id).await?.ok_or_else(missing)?;
            let manifest = self.visible(unit.as_ref(), actor, record.manifest).await.map_err(|_| missing())?;
            let mut found: Override = serde_json::from_value(record.data.clone()).context("an override cannot be read")?;
            if found.requested_by == actor.subject {
                let words = "whoever asks for an override does not agree to it";
                return Err(Error::new(Kind::Forbidden, "SECOND_PERSON_NEEDED", words));
            }
            if is_same(unit.as_ref(), actor, &manifest.created_by).await? {
                let words = "the author of the content does not agree to an override";
                return Err(Error::new(Kind::Forbidden, "FOUR_EYES", words));
            }
            if found.approved_by.is_some() {
                return Err(Error::new(Kind::Conflict, "ALREADY_DECIDED", "the override is agreed to"));
            }
            let now = self.deps.clock.now();
            if found.expires_at <= now || found.content_sha256 != manifest.source.sha256 {
                let words = "the override has ended, or is for other content";
                return Err(Error::new(Kind::Conflict, "OVERRIDE_LAPSED", words));
            }
            (found.approved_by, found.approved_at) = (Some(actor.subject.clone()), Some(now));
            unit.compliance().put_override(&to_record(actor, record.manifest, &found)?).await?;
            let entry = Event::new("compliance.override.approve", "manifest", record.manifest)
                .tell("compliance.override_approved", &manifest)
                .after(&found);
            self.deps.audit.append(unit.as_ref(), actor, entry.detail(json!({ "rule": found.rule }))).await?;
            let order = RecheckOrder::new(super::recheck::by_manifest(record.manifest));
            self.recheck_later(unit.as_ref(), &actor.tenant, order, &format!("override:{id}")).await?;
            unit.commit().await?;
            Ok(found)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }
}

/// Overrides are between people: a program's key may be the same person's.
fn check_person(actor: &Actor) -> Result<()> {
    if actor.subject.starts_with("user:") {
        return Ok(());
    }
    Err(Error::new(Kind::Forbidden, "PERSON_NEEDED", "people override rules, programs do not"))
}

fn to_record(actor: &Actor, manifest: ManifestId, made: &Override) -> Result<OverrideRecord> {
    Ok(OverrideRecord {
        id: made.id,
        tenant: actor.tenant.clone(),
        manifest,
        data: serde_json::to_value(made).context("an override cannot be written")?,
        created_at: made.requested_at,
    })
}
