//! Issuing badges, taking them back, and showing them.

use crate::{Shown, Standing, shown, standing};
use omt_audit::{AuditTrail, Event};
use omt_kernel::{
    Actor, BadgeId, Error, Kind, ManifestId, Permission, Result,
    badge::{BadgeRecord, Revoked},
    manifest::{ManifestRecord, ManifestState},
    port::{Clock, Database, Entropy, UnitOfWork},
    retry,
};
use serde_json::json;
use std::sync::Arc;

/// The longest reason for taking one back, in characters.
const MAX_REASON: usize = 1000;

/// What badges need.
#[derive(Clone)]
pub struct Dependencies {
    /// The database.
    pub database: Arc<dyn Database>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub entropy: Arc<dyn Entropy>,
    /// The audit log.
    pub audit: Arc<AuditTrail>,
}

/// Badges.
pub struct Badges {
    deps: Dependencies,
}

impl Badges {
    /// Badges over their ports.
    pub fn new(deps: Dependencies) -> Self {
        Self { deps }
    }

    /// Issues a badge for a signed manifest; whether it is new. Content has one badge that stands: asking again gives it back.
    pub async fn issue(&self, actor: &Actor, manifest: ManifestId) -> Result<(BadgeRecord, bool)> {
        actor.require(Permission::ManifestSign)?;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let record = unit.manifests().get(&actor.tenant, manifest).await?;
            let record = record.filter(|record| actor.reach.sees(record)).ok_or_else(|| Error::not_found("manifest"))?;
            let issued = self.issue_within(unit.as_ref(), actor, &record).await?;
            unit.commit().await?;
            Ok(issued)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// The same in the caller's transaction, of a record as it will be when that commits. The caller's right was settled before.
    pub async fn issue_within(
        &self,
        unit: &dyn UnitOfWork,
        actor: &Actor,
        record: &ManifestRecord,
    ) -> Result<(BadgeRecord, bool)> {
        let signed = record.signed.as_ref().filter(|_| record.state == ManifestState::Signed);
        let Some(signed) = signed else {
            let words = format!("a badge is for signed content; the manifest is {}", record.state.as_str());
            return Err(Error::new(Kind::Conflict, "NOT_SIGNED", words));
        };
        unit.lock(&format!("badge:{}", record.id)).await?;
        let known = unit.badges().of_manifest(&record.tenant, record.id).await?;
        if let Some(stands) = known.into_iter().find(|badge| standing(badge, Some(record)) == Standing::Valid) {
            return Ok((stands, false));
        }
        let badge = BadgeRecord {
            // Nobody guesses one: who has the address may look.
            id: BadgeId(self.deps.entropy.uuid_v4()),
            tenant: record.tenant.clone(),
            manifest: record.id,
            content_sha256: signed.asset.sha256.clone(),
            issued_by: actor.subject.clone(),
            issued_at: self.deps.clock.now(),
            revoked: None,
        };
        unit.badges().insert(&badge).await?;
        let event = Event::new("badge.issued", "badge", badge.id)
            .detail(json!({ "badge_id": badge.id, "content_sha256": badge.content_sha256 }))
            .tell("badge.issued", record);
        self.deps.audit.append(unit, actor, event).await?;
        Ok((badge, true))
    }

    /// The badges of a manifest, newest first, and whether each stands.
    pub async fn of_manifest(&self, actor: &Actor, manifest: ManifestId) -> Result<Vec<(BadgeRecord, Standing)>> {
        actor.require(Permission::ManifestRead)?;
        let read = self.deps.database.read().await?;
        let record = read.manifests().get(&actor.tenant, manifest).await?;
        let record = record.filter(|record| actor.reach.sees(record)).ok_or_else(|| Error::not_found("manifest"))?;
        let badges = read.badges().of_manifest(&actor.tenant, manifest).await?;
        Ok(badges.into_iter().map(|badge| (standing(&badge, Some(&record)), badge)).map(|(s, b)| (b, s)).collect())
    }

    /// Takes a badge back, for good. Doing it twice is doing it once.
    pub async fn revoke(&self, actor: &Actor, id: BadgeId, reason: &str) -> Result<BadgeRecord> {
        actor.require(Permission::ManifestSign)?;
        let reason = reason.trim();
        if reason.is_empty() || reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
            let words = format!("must have 1 to {MAX_REASON} characters and no control characters");
            return Err(Error::unprocessable_field("INVALID_FIELD", "reason", words));
        }
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            let (mut badge, record) = self.seen(unit.as_ref(), actor, id).await?;
            if badge.revoked.is_some() {
                return Ok(badge);
            }
            badge.revoked = Some(Revoked { at: self.deps.clock.now(), by: actor.subject.clone(), reason: reason.to_owned() });
            if !unit.badges().revoke(&badge).await? {
                return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "somebody else took it back at the same time"));
            }
            let event = Event::new("badge.revoked", "badge", id).detail(json!({ "badge_id": id })).tell("badge.revoked", &record);
            self.deps.audit.append(unit.as_ref(), actor, event).await?;
            unit.commit().await?;
            Ok(badge)
        };
        retry::transaction(self.deps.entropy.as_ref(), attempt).await
    }

    /// A badge of content that the actor sees, and that content.
    async fn seen(&self, unit: &dyn UnitOfWork, actor: &Actor, id: BadgeId) -> Result<(BadgeRecord, ManifestRecord)> {
        let unknown = || Error::not_found("badge");
        let badge = unit.badges().find(id).await?.filter(|badge| badge.tenant == actor.tenant).ok_or_else(unknown)?;
        let record = unit.manifests().get(&actor.tenant, badge.manifest).await?;
        Ok((badge, record.filter(|record| actor.reach.sees(record)).ok_or_else(unknown)?))
    }

    /// What anybody may know of a badge.
    pub async fn show(&self, id: BadgeId) -> Result<Shown> {
        let read = self.deps.database.read().await?;
        let badge = read.badges().find(id).await?.ok_or_else(|| Error::not_found("badge"))?;
        let record = read.manifests().get(&badge.tenant, badge.manifest).await?;
        Ok(shown(&badge, record.as_ref()))
    }
}
