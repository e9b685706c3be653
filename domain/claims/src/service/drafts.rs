//! Changing and archiving; and how every change of a record is written.

use super::{Manifests, Once, Outcome, signing::Signing, storage::Stored};
use crate::rules;
use omt_audit::Event;
use omt_kernel::{
    Actor, Error, Kind, ManifestId, Permission, Result, check_revision,
    manifest::{Archived, Classification, ManifestRecord, ManifestState},
    retry,
    storage::BlobRole,
};
use serde_json::json;
use time::Duration;

/// Changes to a draft. `Some(None)` clears an optional field.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// New title.
    pub title: Option<String>,
    /// New department.
    pub department: Option<Option<String>>,
    /// New project.
    pub project: Option<Option<String>>,
    /// New classification.
    pub classification: Option<Classification>,
}

/// A change of a record.
pub(super) struct Change<'a> {
    /// What the audit log calls it.
    pub(super) action: &'static str,
    /// What others are told of.
    pub(super) event: &'static str,
    /// As it was.
    pub(super) old: &'a ManifestRecord,
    /// As it will be.
    pub(super) next: ManifestRecord,
    /// Blobs that were stored for it.
    pub(super) stored: Option<&'a Stored>,
    /// When it is signed by this.
    pub(super) signing: Option<Signing<'a>>,
}

impl Manifests {
    /// Changes a draft.
    pub async fn update(&self, actor: &Actor, id: ManifestId, changes: Changes, if_match: Option<i64>) -> Result<ManifestRecord> {
        actor.require(Permission::ManifestUpdate)?;
        let record = self.load(actor, id).await?;
        check_revision("manifest", record.revision, if_match)?;
        rules::check_draft(&record)?;
        let mut next = record.clone();
        if let Some(title) = changes.title {
            rules::check_text("title", &title)?;
            next.title = title;
        }
        for (field, change, target) in
            [("department", changes.department, &mut next.department), ("project", changes.project, &mut next.project)]
        {
            if let Some(change) = change {
                change.as_deref().map_or(Ok(()), |v| rules::check_text(field, v))?;
                *target = change;
            }
        }
        next.classification = changes.classification.unwrap_or(next.classification);
        rules::check_within(actor, next.department.as_deref(), next.project.as_deref(), next.classification)?;
        next.revision += 1;
        next.updated_at = self.deps.clock.now();
        let change =
            Change { action: "manifest.update", event: "manifest.updated", old: &record, next, stored: None, signing: None };
        match self.replace(actor, change, None).await? {
            Outcome::Done(record) => Ok(*record),
            Outcome::Replayed { .. } => Err(Error::internal("a change without a key was replayed")),
        }
    }

    /// Puts a manifest away; content is kept under retention. Archiving twice is archiving once.
    pub async fn archive(&self, actor: &Actor, id: ManifestId, if_match: Option<i64>) -> Result<()> {
        actor.require(Permission::ManifestDelete)?;
        let record = self.load(actor, id).await?;
        if record.state == ManifestState::Archived {
            return Ok(());
        }
        check_revision("manifest", record.revision, if_match)?;
        if record.legal_hold.is_some() {
            return Err(Error::new(Kind::Conflict, "LEGAL_HOLD", "the manifest is under a legal hold; release it first"));
        }
        let settings = self.settings(actor).await?;
        let now = self.deps.clock.now();
        let mut next = record.clone();
        next.revision += 1;
        next.state = ManifestState::Archived;
        next.updated_at = now;
        next.archived = Some(Archived {
            at: now,
            retain_until: now + Duration::days(i64::from(settings.retention_for(record.classification))),
        });
        self.replace(
            actor,
            Change { action: "manifest.archive", event: "manifest.archived", old: &record, next, stored: None, signing: None },
            None,
        )
        .await?;
        self.deps.telemetry.manifest("archived");
        Ok(())
    }

    /// Writes a changed record, and its uses of blobs where some were stored for it.
    pub(super) async fn replace(&self, actor: &Actor, change: Change<'_>, once: Option<&Once>) -> Result<Outcome> {
        let Change { action, event: told, old, next, stored, signing } = change;
        let attempt = async || {
            let unit = self.deps.database.begin().await?;
            if !unit.manifests().update(&next, old.revision).await? {
                return Ok(None);
            }
            if next.source != old.source {
                // The bytes themselves go with the next sweep, unless another manifest names them.
                unit.blobs().drop_uses(&next.tenant, next.id, &[BlobRole::Source]).await?;
            }
            if let Some(stored) = stored {
                self.note_uses(unit.as_ref(), &next, stored).await?;
            }
            self.note_locks(unit.as_ref(), old, &next).await?;
            match &signing {
                Some(signing) => {
                    self.deps.governance.signing(unit.as_ref(), old, signing.settings, signing.attested).await?;
                    if let Some(alongside) = signing.alongside {
                        alongside.write(unit.as_ref(), &next).await?;
                    }
                }
                None => self.deps.governance.changed(unit.as_ref(), actor, &next).await?,
            }
            let mut event = Event::new(action, "manifest", next.id)
                .tell(told, &next)
                .before(&super::audited(old))
                .after(&super::audited(&next));
            if let Some(signed) = next.signed.as_ref().filter(|_| stored.is_some()) {
                event = event.detail(json!({ "signed": signed.algorithm }));
            }
            self.commit(actor, unit, next.clone(), once, event).await.map(Some)
        };
        let Some(outcome) = retry::transaction(self.deps.entropy.as_ref(), attempt).await? else {
            // A retry of this very request may have won.
            if let Some(outcome) = self.replay(actor, once).await? {
                return Ok(outcome);
            }
            return Err(Error::new(Kind::Conflict, "CONCURRENT_CHANGE", "someone else changed the manifest at the same time"));
        };
        if matches!(outcome, Outcome::Done(_)) {
            self.note_withdrawal(old, &next);
        }
        Ok(outcome)
    }
}
